"""Telling a client what changed in its mailbox: EXPUNGE, EXISTS, FETCH (RFC 3501 §5.2, §7.3, §7.4).

All of it goes in slices, between which others have their turn, however far behind the session is and however many
sessions are told of the same. The view knows a ModSeq of the store only when the client was told of all up to it: what
is cut off in the middle is told again.
"""

from array import array
from collections.abc import Iterator, Sequence

from pillarbox.core.errors import Unavailable
from pillarbox.imap.responses import vanished
from pillarbox.imapd import access, contexts
from pillarbox.imapd.client import Client
from pillarbox.imapd.selected import Selected
from pillarbox.imapd.wishes import OfSelected
from pillarbox.store import changes, mailboxes, messages
from pillarbox.store.changes import Changes, FlagRows, Ranges
from pillarbox.store.mailboxes import Mailbox
from pillarbox.store.tx import Tx

UIDS_A_SLICE = 4000
"""UIDs that are read, or numbers that are told, in one go: a few milliseconds."""


async def sync(client: Client, *, expunge: bool, wanted: OfSelected | None = None) -> None:
    """Tell the client what changed in its mailbox, of that what it wants (None: as by NOTIFY); EXPUNGE only where the
    command allows it.

    Raises Refused when the mailbox was deleted, or is not shared with the client any more.
    """
    selected = client.selected
    if selected.is_foreign:
        await access.refresh(client)
    wanted = wanted or client.wanted
    if not wanted.messages:
        await _tell_own_expunges(client, expunge=expunge)
        return
    view = selected.view
    # What is followed depends on this session's own changes, too
    own = () if selected.contexts else view.own_modseqs
    since = view.flags_modseq if wanted.flags else view.modseq
    found = await client.read_selected(
        lambda tx: changes.since(tx, selected.mailbox, since, view.uidnext, own)
    )
    if found is not None:
        await claim_recent(client, selected, found.mailbox)
        gone = await _find_gone(client) if found.is_far else found.vanished
        view.vanish(gone)
    if expunge:
        if selected.contexts and view.has_vanished:
            await contexts.tell_vanishing(client)
        await tell_expunged(client)
    if found is not None:
        came = await _tell_new(client, found.mailbox)
        flagged = []
        if wanted.flags or selected.contexts:
            flagged = await _tell_flags(client, found, since, is_wanted=wanted.flags)
        if selected.contexts or (came and wanted.items):
            await contexts.tell_changed(client, came, flagged, wanted.items)
        view.modseq = found.mailbox.modseq
        if wanted.flags:
            view.flags_modseq = view.modseq
        view.share(client.context.snapshots, selected.account, selected.mailbox)
    view.own_modseqs.clear()
    selected.created.clear()
    if not view.has_vanished:
        view.told_modseq = view.flags_modseq
    is_behind = view.has_vanished or (found is not None and view.told_modseq < view.modseq)
    if client.modes.condstore and is_behind:
        # RFC 7162 §3.2, §6: what is told by now has higher mod-sequences than what is not
        client.tell_modseq()


async def _tell_own_expunges(client: Client, *, expunge: bool) -> None:
    """The client wants to know nothing (RFC 5465 §3.1): its mailbox is as it was, but for what it expunged itself."""
    selected = client.selected
    await client.read_selected(lambda tx: mailboxes.by_id(tx, selected.mailbox))
    if expunge and selected.view.has_vanished:
        if selected.contexts:
            await contexts.tell_vanishing(client)
        await tell_expunged(client)
    selected.view.own_modseqs.clear()
    selected.created.clear()


async def claim_recent(client: Client, selected: Selected, mailbox: Mailbox) -> None:
    """Messages that no session was told of are \\Recent in this one; EXAMINE does not take that from the next
    (RFC 3501 §2.3.2, §6.3.2)."""
    if mailbox.recent_uid >= mailbox.uidnext or not client.modes.tells_recent:
        return
    if not selected.takes_recent:
        selected.view.add_recent(mailbox.recent_uid, mailbox.uidnext - 1)
        return

    def claim(tx: Tx) -> tuple[int, int]:
        return mailboxes.claim_recent(tx, mailbox.id), mailboxes.by_id(tx, mailbox.id).uidnext

    try:
        first, uidnext = await client.context.store.write_lazily(selected.account, claim)
    except Unavailable:  # a full disk does not keep anybody from reading: as with EXAMINE
        first, uidnext = mailbox.recent_uid, mailbox.uidnext
    if first < uidnext:
        selected.view.add_recent(first, uidnext - 1)


async def _find_gone(client: Client) -> Ranges:
    """Which messages of the view the store does not have any more."""
    selected = client.selected
    uids = selected.view.uids
    gone: Ranges = []
    for start in range(0, len(uids), UIDS_A_SLICE):
        part = uids[start : start + UIDS_A_SLICE]
        place = [(part[0], part[-1])]
        rows = await client.read_selected(
            lambda tx, place=place: messages.select(tx, selected.mailbox, place, ("uid",))  # type: ignore[misc]
        )
        if len(rows) < len(part):
            gone += messages.to_ranges(sorted(set(part).difference(row[0] for row in rows)))
        await client.pause()
    return gone


async def tell_expunged(client: Client) -> None:
    """EXPUNGE or VANISHED for what is gone."""
    if client.modes.tells_vanished:
        gone = client.selected.view.expunge_uids()
        for start in range(0, len(gone), UIDS_A_SLICE):
            if start:
                await client.pause()
            part = messages.to_ranges(gone[start : start + UIDS_A_SLICE])
            client.engine.send(vanished(part))
        return
    for numbers in _cut(client.selected.view.expunge()):
        client.engine.send_rendered([b"* %d EXPUNGE\r\n" % number for number in numbers])
        if len(numbers) == UIDS_A_SLICE:
            await client.pause()


def _cut(runs: Sequence[range]) -> Iterator[list[int]]:
    part: list[int] = []
    for run in runs:
        start = 0
        while start < len(run):
            more = run[start : start + UIDS_A_SLICE - len(part)]
            part += more
            start += len(more)
            if len(part) == UIDS_A_SLICE:
                yield part
                part = []
    if part:
        yield part


async def _tell_new(client: Client, mailbox: Mailbox) -> "array[int]":
    view = client.selected.view
    account = client.selected.account
    found = await load_uids(client, (account, mailbox.id), view.uidnext, mailbox.uidnext)
    view.add(found, mailbox.uidnext)
    if found:
        client.engine.send(exists(client))
    return found


def exists(client: Client) -> bytes:
    """EXISTS, and RECENT where the client knows it."""
    view = client.selected.view
    text = b"* %d EXISTS\r\n" % len(view)
    return text + b"* %d RECENT\r\n" % view.recent if client.modes.tells_recent else text


async def load_uids(
    client: Client, where: tuple[int, int], first: int, uidnext: int
) -> "array[int]":
    """The UIDs in a mailbox of an account, from `first` up to `uidnext`, not included. Messages that go
    meanwhile may be in it or not."""
    account, mailbox = where
    uids = array("I")
    while first < uidnext:
        wanted = [(first, uidnext - 1)]
        rows = await client.context.store.read(
            account,
            lambda tx, wanted=wanted: messages.select(  # type: ignore[misc]
                tx, mailbox, wanted, ("uid",), UIDS_A_SLICE
            ),
        )
        uids.extend([row[0] for row in rows])
        if len(rows) < UIDS_A_SLICE:
            break
        first = uids[-1] + 1
        await client.pause()
    return uids


async def _tell_flags(client: Client, found: Changes, modseq: int, *, is_wanted: bool) -> list[int]:
    """The UIDs of the messages whose flags changed above `modseq`, of which the client is told where it wants that."""
    selected = client.selected
    changed: list[int] = []
    ranges = found.flagged
    while ranges:

        def work(tx: Tx, ranges: Ranges = ranges) -> tuple[FlagRows, Ranges]:
            rows, rest = changes.flags_since(tx, selected.mailbox, ranges, modseq)
            selected.learn_flags(tx, [row[1] for row in rows])
            return rows, rest

        rows, ranges = await client.read_selected(work)
        if is_wanted:
            tell_flags(client, rows)
        changed += [row[0] for row in rows]
        if ranges:
            await client.pause()
    return changed


def tell_flags(client: Client, rows: FlagRows) -> None:
    """Of changes whose flags the session has learnt."""
    client.tell_keywords()
    selected = client.selected
    responses = selected.view.flag_responses(rows, selected.flag_texts.__getitem__, client.modes)
    client.engine.send_rendered(responses)
