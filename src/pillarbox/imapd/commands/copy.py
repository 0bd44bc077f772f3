"""COPY and MOVE (RFC 3501 §6.4.7, RFC 6851, COPYUID: RFC 4315 §3). Either is done whole or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pillarbox.core.errors import Refused
from pillarbox.imap import responses
from pillarbox.imap.syntax_message import Copy
from pillarbox.imapd import own
from pillarbox.imapd.client import FEW, Answer, Client
from pillarbox.imapd.commands.append import target
from pillarbox.imapd.extensions.between import copy_between, remove_moved
from pillarbox.imapd.told import tell_copied
from pillarbox.store import acl, mailboxes, messages
from pillarbox.store.messages import Ranges
from pillarbox.store.quota import ensure_within
from pillarbox.store.tx import Tx
from pillarbox.trace.events import place_of

_Transfer = Callable[[Tx, int, Ranges, int], tuple[list[int], int]]


@dataclass(slots=True)
class _Copied:
    """How many, and the code that tells of them."""

    count: int
    code: bytes
    sources: Sequence[int] = ()
    """UIDs of what was copied."""
    target: int = 0
    """The mailbox that it was copied to, where that is in the same account."""
    first: int = 0
    """The first UID there."""
    modseq: int = 0
    """Of the mailbox that they were copied from, afterwards."""
    place: str = ""
    """The mailbox that it was copied to, for the trace (`trace.events`)."""


async def copy(client: Client, args: Copy) -> Answer:
    copied = await _transfer(client, args, messages.copy)
    # RFC 4315 §3: no COPYUID where nothing was copied
    return Answer("Copy completed.", copied.code)


async def move(client: Client, args: Copy) -> Answer:
    client.ensure_writable()
    copied = await _transfer(client, args, messages.move)
    if copied.count:
        client.note_expunged(copied.sources)
        # RFC 6851 §4.3: COPYUID comes before the EXPUNGE responses, which `sync` sends
        client.engine.send_untagged(b"OK", "Moved.", copied.code)
        if client.modes.qresync:  # RFC 7162 §3.2.7, for what MOVE expunges
            return Answer("Move completed.", responses.highestmodseq(copied.modseq))
    return Answer("Move completed.")


async def _transfer(client: Client, args: Copy, transfer: _Transfer) -> _Copied:
    selected = client.selected
    slices = selected.slices(args.sequence, args.uid)
    ranges = selected.view.uid_ranges(slices)
    place = client.place(args.mailbox)
    if place.account != selected.account:
        return await _transfer_between(client, args, ranges, moves=transfer is messages.move)
    limits = client.quota(place.account)

    def work(tx: Tx) -> _Copied:
        mailbox = mailboxes.by_id(tx, target(tx, place.name))
        sources, first = transfer(tx, selected.mailbox, ranges, mailbox.id) if ranges else ([], 0)
        if not args.uid and len(sources) < sum(map(len, slices)):
            # RFC 2180 §4.4.1
            raise Refused("some of the messages no longer exist", "EXPUNGEISSUED")
        if transfer is messages.copy:
            ensure_within(tx, limits)  # what is moved is here already
        if not sources:
            return _Copied(0, b"")
        new = range(first, first + len(sources))
        if place.rights != acl.RIGHTS:
            acl.clear_forbidden(tx, mailbox.id, (first, new[-1]), place.rights)
        code = responses.copyuid(mailbox.uidvalidity, sources, new)
        modseq = mailboxes.by_id(tx, selected.mailbox).modseq
        there = place_of(tx.account, mailbox.id, mailbox.uidvalidity)
        return _Copied(len(sources), code, sources, mailbox.id, first, modseq, there)

    is_short = sum(map(len, slices)) <= FEW
    copied = await own.write(client, selected.account, work, place.name, is_short=is_short)
    if copied.count:
        client.note_created(selected.account, copied.target, copied.first, copied.count)
        tell_copied(
            client,
            messages.to_ranges(copied.sources),
            place,
            copied.place,
            copied.first,
            moved=transfer is messages.move,
        )
    client.note_growth(place.account)
    return copied


async def _transfer_between(client: Client, args: Copy, ranges: Ranges, *, moves: bool) -> _Copied:
    """To a mailbox in another account."""
    place = client.place(args.mailbox)
    sources, done = await copy_between(client, ranges, place, whole=not args.uid)
    if not sources:
        return _Copied(0, b"")
    code = responses.copyuid(done[0].uidvalidity, sources, [appended.uid for appended in done])
    client.note_growth(place.account)
    modseq = await remove_moved(client, sources) if moves else 0
    # All were appended in one transaction: their UIDs follow each other.
    there = place_of(place.account, done[0].mailbox, done[0].uidvalidity)
    tell_copied(client, messages.to_ranges(sources), place, there, done[0].uid, moved=moves)
    return _Copied(len(sources), code, sources, modseq=modseq)
