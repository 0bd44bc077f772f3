"""EXPUNGE and UID EXPUNGE (RFC 3501 §6.4.3, RFC 4315 §2.1). The responses come with the sync that follows."""

from pillarbox.imap.responses import highestmodseq
from pillarbox.imap.syntax_message import Expunge
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.told import selected_place, tell_expunged
from pillarbox.store import mailboxes, messages
from pillarbox.store.messages import MOST_UIDS
from pillarbox.store.tx import Tx


async def expunge(client: Client, args: Expunge) -> Answer:
    client.ensure_writable()
    selected = client.selected
    view = selected.view
    ranges = [(1, MOST_UIDS)]
    if args.uids is not None:
        ranges = view.uid_ranges(selected.slices(args.uids, uid=True))
    mailbox = await client.read_selected(lambda tx: mailboxes.by_id(tx, selected.mailbox))
    if not (ranges and mailbox.deleted):
        return Answer("Expunge completed.")

    def work(tx: Tx) -> tuple[list[int], int]:
        gone = messages.expunge(tx, selected.mailbox, ranges)
        return gone, mailboxes.by_id(tx, selected.mailbox).modseq if gone else 0

    gone, modseq = await client.write_selected(work)
    client.note_expunged(gone)
    if gone:
        tell_expunged(client, selected_place(client), messages.to_ranges(gone), "EXPUNGE")
    if modseq and client.modes.qresync:  # RFC 7162 §3.2.7, §3.2.9
        return Answer("Expunge completed.", highestmodseq(modseq))
    return Answer("Expunge completed.")
