"""FETCH (RFC 3501 §6.4.5; CHANGEDSINCE and VANISHED: RFC 7162 §3.1.4, §3.2.6; PARTIAL: RFC 9394 §3.3)."""

from pillarbox.core.errors import Refused, RemoteError, Unavailable
from pillarbox.core.flags import SEEN
from pillarbox.imap.responses import vanished
from pillarbox.imap.seqset import SeqSet
from pillarbox.imap.syntax_fetch import MODSEQ, Fetch
from pillarbox.imap.syntax_partial import Partial
from pillarbox.imapd import resync
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.commands.store import Change, set_flags
from pillarbox.imapd.fetch_items import UID, Plan
from pillarbox.imapd.fetch_slices import LIGHT_ROWS, Positions, cut, send_items
from pillarbox.imapd.told import gives_body, tell_fetched
from pillarbox.store import mailboxes, messages


async def fetch(client: Client, args: Fetch) -> Answer:
    selected = client.selected
    if args.vanished and not client.modes.qresync:  # RFC 7162 §3.2.6
        raise RemoteError("QRESYNC was not enabled")
    positions = selected.slices(args.sequence, args.uid)
    if MODSEQ in args.items:
        client.enable_condstore()
    if args.vanished and args.changed_since is not None:
        await _tell_vanished(client, args.sequence, args.changed_since)
    if args.partial is not None:
        positions = _part_of(positions, args.partial)
    if args.changed_since is not None:
        positions = await _changed(client, positions, args.changed_since)
    items, seen_modseq, unseen_why = args.items, 0, ""
    sets_seen = not selected.read_only and "s" in selected.rights  # RFC 4314 §4
    if sets_seen and any(item.sets_seen for item in items):
        try:
            seen_modseq = await _set_seen(client, positions)
        except Unavailable as failure:  # a full disk, say, keeps nobody from reading
            unseen_why = f"; \\Seen is not set: {failure.text}"
        # RFC 7162 §3.2.4, RFC 9051 §7.5.2
        added = ((UID,) if client.modes.tells_uid else ()) + (
            (MODSEQ,) if client.modes.condstore else ()
        )
        items = tuple(dict.fromkeys((*items, *added)))
    plan = Plan(items, seen_modseq)
    try:
        told = await send_items(client, plan, positions)
    except Refused:
        selected.view.own_modseqs.discard(seen_modseq)  # not all of them were told
        raise
    if any(map(gives_body, plan.sections)):
        tell_fetched(client, selected.view.uid_ranges(positions))
    if not args.uid and told < sum(map(len, positions)):
        # RFC 2180 §4.1.2, RFC 5530 §3: gone elsewhere, and EXPUNGE may not be sent now
        raise Refused("some of the messages no longer exist", "EXPUNGEISSUED")
    return Answer(f"Fetch completed{unseen_why}.")


async def _tell_vanished(client: Client, sequence: SeqSet, modseq: int) -> None:
    """RFC 7162 §3.2.6: before any FETCH response."""
    view = client.selected.view
    uids = client.selected.saved if sequence.saved else sequence
    wanted = uids.resolve(view.uids[-1] if view.uids else view.uidnext - 1)
    for part in resync.slices(await resync.vanished_since(client, modseq, wanted)):
        client.engine.send(vanished(part, earlier=True))
        await client.pause()


async def _changed(client: Client, positions: Positions, modseq: int) -> Positions:
    """Those whose mod-sequence is above `modseq`."""
    view = client.selected.view
    changed = messages.to_ranges(await resync.changed_since(client, modseq))
    uids = resync.intersect(changed, view.uid_ranges(positions))
    return view.slices(SeqSet(tuple(uids)), uid=True)


def _part_of(positions: Positions, partial: Partial) -> Positions:
    """RFC 9394 §3.3."""
    length = sum(map(len, positions))
    wanted = partial.slice_of(length)
    found: Positions = []
    start = 0
    for run in positions:
        part = run[max(0, wanted.start - start) : max(0, wanted.stop - start)]
        if part:
            found.append(part)
        start += len(run)
    return found


async def _set_seen(client: Client, positions: Positions) -> int:
    """Set \\Seen where it is missing; returns the ModSeq of that, 0 if nowhere."""
    selected = client.selected
    mailbox = await client.read_selected(lambda tx: mailboxes.by_id(tx, selected.mailbox))
    if not mailbox.unseen:
        return 0
    unseen: list[int] = []
    for part in cut(positions, LIGHT_ROWS):
        if unseen:
            await client.pause()
        ranges = selected.view.uid_ranges(part)
        rows = await client.read_selected(
            lambda tx, ranges=ranges: messages.select(  # type: ignore[misc]
                tx, selected.mailbox, ranges, ("uid", "flags")
            )
        )
        unseen += [uid for uid, flags in rows if not flags & SEEN]
    if not unseen:
        return 0
    return (
        await set_flags(client, messages.to_ranges(unseen), len(unseen), Change("+", SEEN))
    ).modseq
