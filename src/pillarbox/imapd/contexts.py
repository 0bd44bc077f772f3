"""Searches whose result the client follows: UPDATE of SEARCH and SORT (RFC 5267 §4.3; what is told of new
messages: RFC 5465 §7).

A context keeps what the client knows of its result. Whenever the client is told of changes in its mailbox, the
messages that came or changed are looked at again, and the difference is told: ADDTO and REMOVEFROM.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from pillarbox.core.errors import RemoteError
from pillarbox.imap.seqset import Runs, SeqSet
from pillarbox.imap.syntax_fetch import MODSEQ, FetchItem
from pillarbox.imap.syntax_search import And, Fuzzy, Key, Not, Or, Program
from pillarbox.imapd.client import Client
from pillarbox.imapd.fetch_items import UID, Plan
from pillarbox.imapd.fetch_slices import send_items
from pillarbox.imapd.search import search
from pillarbox.imapd.search_context import search_context
from pillarbox.imapd.selected import Followed
from pillarbox.imapd.sort import in_sorted_order
from pillarbox.imapd.view import View
from pillarbox.mime.wire import string
from pillarbox.store.messages import to_ranges

MOST_CONTEXTS = 16
"""Of one session."""
MESSAGES_A_SLICE = 1000
MOST_SORTED = 5000
"""Results of a SORT that is followed; it is sorted anew at each change."""


def follow(client: Client, followed: Followed) -> None:
    """Tell of changes from now on, or say that it cannot be (RFC 5267 §4.3.1)."""
    contexts = client.selected.contexts
    problem = ""
    if len(contexts) >= MOST_CONTEXTS:
        problem = "Too many searches are followed."
    elif followed.criteria and len(followed.found) > MOST_SORTED:
        problem = "That is too much to be followed in order."
    elif any(key.name == "RELEVANCY" for key in followed.criteria):
        problem = "Relevancy is not followed."
    if problem:
        client.engine.send_untagged(b"NO", problem, b"NOUPDATE " + string(followed.tag))
    else:
        contexts[followed.tag] = followed


def ensure_new(client: Client, tag: bytes) -> None:
    """RFC 5267 §4.3."""
    if tag in client.selected.contexts:
        raise RemoteError("that tag names a search that is followed")


def frozen(client: Client, program: Program) -> Program:
    """The program with what its message numbers mean now, as UIDs (RFC 5267 §4.3)."""
    match program:
        case And():
            return And([frozen(client, key) for key in program.keys])
        case Or():
            return Or(frozen(client, program.left), frozen(client, program.right))
        case Not():
            return Not(frozen(client, program.key))
        case Fuzzy():
            loose = None if program.loose is None else frozen(client, program.loose)
            return Fuzzy(frozen(client, program.key), loose)
        case Key(argument=SeqSet() as numbers) if numbers.saved or program.name == "SEQUENCE":
            selected = client.selected
            ranges = selected.view.uid_ranges(selected.slices(numbers, uid=False))
            return Key("UID", SeqSet(tuple(ranges)))
    return program


async def tell_vanishing(client: Client) -> None:
    """Before EXPUNGE: what goes out of the results with it (RFC 5267 §4.3.4)."""
    gone = client.selected.view.vanished_uids()
    for followed in list(client.selected.contexts.values()):
        _tell_removed(client, followed, gone)
        await client.pause()


async def tell_changed(
    client: Client,
    came: Sequence[int],
    flagged: Sequence[int],
    items: tuple[FetchItem, ...] = (),
) -> None:
    """After EXISTS and FETCH: what messages that came, and known ones whose flags changed, change in the results.

    FETCH of what is wanted of new messages comes before that where only searches ask for it (RFC 5465 §7), and behind
    where NOTIFY does: then it has `items`, and what searches ask for (§5.2).
    """
    selected = client.selected
    new = came
    if selected.created:
        new = [uid for uid in came if not any(a <= uid <= b for a, b in selected.created)]
    looked_at = array("I")
    if selected.contexts:
        known = {uid for uid in (*came, *flagged) if selected.view.number(uid)}
        looked_at = array("I", sorted(known))
    asked: dict[int, tuple[FetchItem, ...]] = {}
    found: list[tuple[Followed, set[int]]] = []
    for followed in list(selected.contexts.values()) if looked_at else ():
        context = search_context(client)
        context.uids = looked_at
        matching = set(await search(context, followed.program))
        found.append((followed, matching))
        if followed.items:
            for uid in matching.intersection(new):
                asked[uid] = asked.get(uid, ()) + followed.items
        await client.pause()
    if not items:
        await _tell_items(client, sorted(asked), (), asked)
    for followed, matching in found:
        _tell_removed(client, followed, set(looked_at) - matching)
        added = _new_to(followed, matching)
        if added:
            await _tell_added(client, followed, added)
        await client.pause()
    if items:
        await _tell_items(client, new, items, asked)


async def _tell_items(
    client: Client,
    uids: Sequence[int],
    items: tuple[FetchItem, ...],
    asked: Mapping[int, tuple[FetchItem, ...]],
) -> None:
    """One FETCH for each message, without setting \\Seen, of `items` and what is `asked` for of it."""
    view = client.selected.view
    modes = client.modes
    added = ((UID,) if modes.tells_uid else ()) + ((MODSEQ,) if modes.condstore else ())
    for start in range(0, len(uids), MESSAGES_A_SLICE):
        part = uids[start : start + MESSAGES_A_SLICE]
        for wanted, group in groupby(part, lambda uid: asked.get(uid, ())):
            plan = Plan(tuple(dict.fromkeys((*items, *wanted, *added))))
            ranges = SeqSet(tuple(to_ranges(group)))
            await send_items(client, plan, view.slices(ranges, uid=True))
        await client.pause()


def _new_to(followed: Followed, uids: set[int]) -> set[int]:
    """Those that are not among the results, which ascend where there is no order: then few are looked up in many."""
    found = followed.found
    if followed.criteria:
        return uids.difference(found)
    places = {uid: bisect_left(found, uid) for uid in uids}
    return {uid for uid, place in places.items() if found[place : place + 1] != array("I", [uid])}


def _tell_removed(client: Client, followed: Followed, gone: set[int]) -> None:
    if not followed.criteria and gone == _new_to(followed, gone):
        return
    kept = array("I", [uid for uid in followed.found if uid not in gone])
    if len(kept) == len(followed.found):
        return
    number = _number(client.selected.view, followed)
    if followed.criteria:
        pairs: list[tuple[int, list[int]]] = []
        place = 1
        previous = False
        for uid in followed.found:
            if uid not in gone:
                place += 1
                previous = False
            elif previous:
                pairs[-1][1].append(uid)
            else:
                pairs.append((place, [uid]))
                previous = True
    else:
        pairs = [(0, [uid for uid in followed.found if uid in gone])]
    followed.found = kept
    _tell(client, followed, b"REMOVEFROM", pairs, number)


async def _tell_added(client: Client, followed: Followed, added: set[int]) -> None:
    if followed.criteria:
        both = sorted(added.union(followed.found))
        uids = await in_sorted_order(search_context(client), followed.criteria, both)
        # What is gone has no place in the order any more, though EXPUNGE may have to wait.
        _tell_removed(client, followed, set(followed.found).difference(uids))
        pairs: list[tuple[int, list[int]]] = []
        previous = False
        for place, uid in enumerate(uids, 1):
            if uid in added:
                if previous:
                    pairs[-1][1].append(uid)
                else:
                    pairs.append((place, [uid]))
            previous = uid in added
        followed.found = array("I", uids)
    else:
        new = sorted(added)
        pairs = [(0, new)]
        if not followed.found or followed.found[-1] < new[0]:
            followed.found = followed.found + array("I", new)
        else:
            followed.found = array("I", sorted([*followed.found, *new]))
    _tell(client, followed, b"ADDTO", pairs, _number(client.selected.view, followed))


def _number(view: View, followed: Followed) -> Callable[[int], int]:
    return (lambda uid: uid) if followed.uid else view.number


def _tell(
    client: Client,
    followed: Followed,
    word: bytes,
    pairs: Sequence[tuple[int, Sequence[int]]],
    number: Callable[[int], int],
) -> None:
    texts = []
    for place, uids in pairs:
        runs = Runs()
        texts.append(b"%d %b%b" % (place, runs.add(map(number, uids)), runs.rest()))
    client.engine.send(
        b"* ESEARCH (TAG %b)%b %b (%b)\r\n"
        % (string(followed.tag), b" UID" if followed.uid else b"", word, b" ".join(texts))
    )
