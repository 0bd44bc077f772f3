"""LIST and LSUB (RFC 3501 §6.3.8, §6.3.9), with RFC 5258 options, RFC 5819 STATUS, RFC 3348 and RFC 6154 attributes."""

from collections.abc import AsyncIterator, Container, Iterable, Iterator
from dataclasses import dataclass, field

from pillarbox.core.errors import Refused, Unavailable
from pillarbox.imap import responses
from pillarbox.imap.syntax_list import List
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.extensions.acl import shown
from pillarbox.imapd.names import to_wire
from pillarbox.imapd.pattern import Pattern
from pillarbox.imapd.places import Place, foreign_name
from pillarbox.imapd.status import COUNTED, status_values
from pillarbox.store import acl, mailboxes
from pillarbox.store.mailboxes import INBOX_NAME, Name
from pillarbox.store.tx import Tx

NAMES_A_SLICE = 1000
"""That are looked at or told in one go: a few milliseconds."""
STATUSES_A_SLICE = 50
"""STATUS responses that are made in one go."""
_CHARACTERS_A_TURN = 4_000
"""Of names that were matched until others have their turn."""


class _Matcher:
    """Which names a LIST or LSUB asks for: reference and pattern are simply joined."""

    def __init__(self, client: Client, args: List) -> None:
        self._client = client
        self._separator = separator = client.context.separator
        self._characters = 0
        self._patterns: list[tuple[Pattern, Pattern]] = []  # each with one for INBOX
        for pattern in args.patterns:
            if not pattern and args.extended:
                continue  # RFC 5258 §3: matches nothing
            text = args.reference + pattern
            # RFC 3501 §5.1: INBOX is the same in any case, also at the head of a longer name
            if text[:5].upper() == "INBOX" and text[5:6] in ("", "*", "%", separator):
                text = "INBOX" + text[5:]
            self._patterns.append((Pattern(text, separator), Pattern(text.upper(), separator)))

    async def matches(self, name: Name) -> bool:
        text = to_wire(name, self._separator)
        for pattern, inbox in self._patterns:
            self._characters += len(text)
            if self._characters > _CHARACTERS_A_TURN:
                self._characters = 0
                await self._client.pause()
            if (inbox if name == INBOX_NAME else pattern).matches(text):
                return True
        return False


@dataclass(slots=True)
class Names:
    """What there is to list."""

    special_uses: dict[Name, str]
    """Of every mailbox; '' where it has none."""
    subscribed: frozenset[Name]
    """Read only where it matters."""
    shared: dict[Name, Place]
    """Mailboxes of other accounts that may be looked up."""
    parents: set[Name]
    """Every name that has mailboxes below it."""
    above_selected: set[Name] = field(default_factory=set)
    """Names with others below that meet the selection criteria."""

    def meets(self, name: Name, selection: frozenset[str]) -> bool:
        """RFC 5258 §3: every selection option counts."""
        if "SUBSCRIBED" in selection and name not in self.subscribed:
            return False
        return "SPECIAL-USE" not in selection or bool(self.special_uses.get(name))

    def exists(self, name: Name) -> bool:
        """Whether it is a mailbox."""
        return name in self.special_uses or name in self.shared

    def attributes(self, name: Name, *, extended: bool) -> list[bytes]:
        """`extended`: for a client that knows RFC 5258."""
        words = []
        if not self.exists(name):
            words.append(b"\\NonExistent" if extended else b"\\Noselect")
        words.append(b"\\HasChildren" if name in self.parents else b"\\HasNoChildren")
        if name in self.subscribed:
            words.append(b"\\Subscribed")
        if special_use := self.special_uses.get(name):
            words.append(special_use.encode())
        return words


_CRITERIA = ("SUBSCRIBED", "SPECIAL-USE")
"""Selection options that restrict what is listed."""


async def list_mailboxes(client: Client, args: List) -> Answer:
    separator = client.context.separator
    if not args.extended and not args.patterns[0]:  # RFC 3501 §6.3.8: asks for the separator
        client.engine.send(responses.listing((b"\\Noselect",), separator, ""))
        return Answer("List completed.")
    names = await _read_names(client, args)
    selection = args.selection.intersection(_CRITERIA)
    matching, meeting = await _choose(client, args, names, selection)
    status_items = args.returns.get("STATUS", ())
    if "HIGHESTMODSEQ" in status_items:  # RFC 7162 §3.1
        client.enable_condstore()
    tells_rights = "MYRIGHTS" in args.returns
    slice_length = STATUSES_A_SLICE if status_items else NAMES_A_SLICE
    if COUNTED.intersection(status_items):
        slice_length = 1
    for number, name in enumerate(_in_order(list(matching)), 1):
        more = b""
        words = names.attributes(name, extended=args.extended)
        if status_items and name in meeting and names.exists(name):
            place = names.shared.get(name) or Place(client.account.id, name)
            if "r" in place.rights:  # RFC 5819 §2: else it is left out
                more = await _status(client, name, place, status_items)
                if not more:  # deleted meanwhile
                    words = [b"\\NonExistent", *words]
        if tells_rights and name in meeting and names.exists(name):
            place = names.shared.get(name) or Place(client.account.id, name)
            rights = shown(place.rights)
            text = to_wire(name, separator)
            more += responses.myrights(text, rights, client.engine.utf8)  # RFC 8440 §3
        extended = b""
        if name in names.above_selected:
            extended = responses.childinfo(word for word in _CRITERIA if word in selection)
        text = to_wire(name, separator)
        utf8 = client.engine.utf8
        line = responses.listing(words, separator, text, extended=extended, utf8=utf8)
        client.engine.send(line + more)
        if number % slice_length == 0:
            await client.pause()
    return Answer("List completed.")


async def _read_names(client: Client, args: List) -> Names:
    special_uses = dict(await client.read(mailboxes.special_uses))
    await client.pause()
    subscribed: frozenset[Name] = frozenset()
    if "SUBSCRIBED" in args.selection or "SUBSCRIBED" in args.returns:
        subscribed = frozenset(await client.read(mailboxes.subscriptions))
        await client.pause()
    shared = await read_shared(client)
    parents = await parents_of(client, special_uses)
    if shared:
        parents |= await parents_of(client, shared)
    return Names(special_uses, subscribed, shared, parents)


async def read_shared(client: Client) -> dict[Name, Place]:
    """What other accounts let this one look up, by its name here (RFC 4314 §4)."""
    store, me = client.context.store, client.account.id
    found: dict[Name, Place] = {}
    for owner in store.directory.sharers(me):
        try:
            async for mailbox in _shared_by(client, owner.id, me):
                if "l" in mailbox.rights:
                    name = foreign_name(owner, mailbox.name)
                    found[name] = Place(owner.id, mailbox.name, mailbox.rights)
        except Unavailable:  # RFC 4314 §4: LIST must not fail for one that it cannot list
            continue
    return found


async def _shared_by(client: Client, owner: int, me: int) -> AsyncIterator[acl.Shared]:
    after, is_more = 0, True
    while is_more:

        def work(tx: Tx, after: int = after) -> list[acl.Shared]:
            return acl.shared_with(tx, me, after)

        part = await client.context.store.read(owner, work)
        for mailbox in part:
            yield mailbox
            after = mailbox.mailbox
        is_more = len(part) == acl.SHARED_A_SLICE
        await client.pause()


async def _choose(
    client: Client, args: List, names: Names, selection: frozenset[str]
) -> tuple[dict[Name, None], Container[Name]]:
    """The names to list, mostly in order, and those that meet the selection criteria; without any, all that there is
    does."""
    # Mailboxes are read in order, so what is made of them is quickly sorted.
    candidates = dict.fromkeys(names.special_uses)
    candidates.update(dict.fromkeys(names.shared))
    candidates.update(dict.fromkeys(names.parents))
    meeting = candidates
    await client.pause()
    if selection:
        candidates.update(dict.fromkeys(names.subscribed))
        meeting = {name: None for name in candidates if names.meets(name, selection)}
        await client.pause()
    matcher = _Matcher(client, args)
    listed: dict[Name, None] = {}
    above_unmatched: set[Name] = set()
    recursive = "RECURSIVEMATCH" in args.selection
    for number, name in enumerate(meeting, 1):
        if await matcher.matches(name):
            listed[name] = None
        elif recursive:
            above_unmatched.update(_above(name))
        if recursive:
            names.above_selected.update(_above(name))
        if number % NAMES_A_SLICE == 0:
            await client.pause()
    # RFC 5258 §3.3 2 B: and those above, where what is below them is not listed itself
    for number, name in enumerate(above_unmatched.difference(listed), 1):
        if await matcher.matches(name):
            listed[name] = None
        if number % NAMES_A_SLICE == 0:
            await client.pause()
    return listed, meeting


def _above(name: Name) -> Iterator[Name]:
    return (name[:depth] for depth in range(1, len(name)))


async def _status(client: Client, name: Name, place: Place, items: tuple[str, ...]) -> bytes:
    """The STATUS response; empty where there is no such mailbox any more."""
    context = client.context
    try:
        values = await context.store.read(
            place.account,
            lambda tx: status_values(tx, mailboxes.get(tx, place.name), items, context),
        )
    except Refused:
        return b""
    return responses.status(to_wire(name, context.separator), values, client.engine.utf8)


async def list_subscribed(client: Client, args: List) -> Answer:
    """A name that has been subscribed to is listed whether or not there is such a mailbox (RFC 3501 §6.3.9)."""
    separator = client.context.separator
    subscribed = await client.read(mailboxes.subscriptions)
    matcher = _Matcher(client, args)
    found: dict[Name, tuple[bytes, ...]] = {}
    for number, name in enumerate(subscribed, 1):
        if await matcher.matches(name):
            found[name] = ()
        else:
            # RFC 3501 §6.3.9: "foo/bar" under the pattern "%" shows as "foo", which cannot be selected
            for depth in range(1, len(name)):
                if await matcher.matches(name[:depth]):
                    found.setdefault(name[:depth], (b"\\Noselect",))
        if number % NAMES_A_SLICE == 0:
            await client.pause()
    for number, name in enumerate(_in_order(list(found)), 1):
        text = to_wire(name, separator)
        utf8 = client.engine.utf8
        client.engine.send(responses.listing(found[name], separator, text, b"LSUB", utf8=utf8))
        if number % NAMES_A_SLICE == 0:
            await client.pause()
    return Answer("Lsub completed.")


async def parents_of(client: Client, names: Iterable[Name]) -> set[Name]:
    """Every name that has others below it."""
    found: set[Name] = set()
    for number, name in enumerate(names, 1):
        for depth in range(len(name) - 1, 0, -1):
            if (above := name[:depth]) in found:
                break  # and all above that one
            found.add(above)
        if number % NAMES_A_SLICE == 0:
            await client.pause()
    return found


def _in_order(names: list[Name]) -> list[Name]:
    """By name, with INBOX first. Fast for names that are mostly in order."""
    names.sort()
    if INBOX_NAME in names:
        names.remove(INBOX_NAME)
        names.insert(0, INBOX_NAME)
    return names
