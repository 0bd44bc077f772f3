"""EXPUNGE and UID EXPUNGE (RFC 3501 §6.4.3, RFC 4315 §2.1). The responses come with the sync that follows."""

from pillarbox.imap.syntax_message import Expunge
from pillarbox.imapd.client import Answer, Client
from pillarbox.store import mailboxes, messages
from pillarbox.store.messages import MOST_UIDS


async def expunge(client: Client, args: Expunge) -> Answer:
    client.ensure_writable()
    selected = client.selected
    view = selected.view
    ranges = [(1, MOST_UIDS)]
    if args.uids is not None:
        ranges = view.uid_ranges(view.slices(args.uids, uid=True))
    mailbox = await client.read(lambda tx: mailboxes.by_id(tx, selected.mailbox))
    if ranges and mailbox.deleted:
        await client.write(lambda tx: messages.expunge(tx, selected.mailbox, ranges))
    return Answer("Expunge completed.")
