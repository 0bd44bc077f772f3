"""FETCH (RFC 3501 §6.4.5)."""

from pillarbox.core.errors import Refused
from pillarbox.core.flags import SEEN
from pillarbox.imap.syntax_fetch import Fetch
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.commands.store import set_flags
from pillarbox.imapd.fetch_items import Plan
from pillarbox.imapd.fetch_slices import LIGHT_ROWS, Positions, cut, send_items
from pillarbox.store import mailboxes, messages


async def fetch(client: Client, args: Fetch) -> Answer:
    selected = client.selected
    positions = selected.view.slices(args.sequence, args.uid)
    seen_modseq = 0
    if not selected.read_only and any(item.sets_seen for item in args.items):
        seen_modseq = await _set_seen(client, positions)
    plan = Plan(args.items, seen_modseq)
    told = await send_items(client, plan, positions)
    if not args.uid and told < sum(map(len, positions)):
        # RFC 2180 §4.1.2, RFC 5530 §3: gone elsewhere, and EXPUNGE may not be sent now
        raise Refused("some of the messages no longer exist", "EXPUNGEISSUED")
    return Answer("Fetch completed.")


async def _set_seen(client: Client, positions: Positions) -> int:
    """Set \\Seen where it is missing; returns the ModSeq of that, 0 if nowhere."""
    selected = client.selected
    mailbox = await client.read(lambda tx: mailboxes.by_id(tx, selected.mailbox))
    if not mailbox.unseen:
        return 0
    unseen: list[int] = []
    for part in cut(positions, LIGHT_ROWS):
        if unseen:
            await client.pause()
        ranges = selected.view.uid_ranges(part)
        rows = await client.read(
            lambda tx, ranges=ranges: messages.select(  # type: ignore[misc]
                tx, selected.mailbox, ranges, ("uid", "flags")
            )
        )
        unseen += [uid for uid, flags in rows if not flags & SEEN]
    return await set_flags(client, messages.to_ranges(unseen), "+", SEEN, ()) if unseen else 0
