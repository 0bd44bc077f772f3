"""SELECT, EXAMINE, CHECK, CLOSE, UNSELECT (RFC 3501 §6.3.1, §6.4, RFC 3691)."""

from pillarbox.imap.syntax_mailbox import Mailbox
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.names import from_wire
from pillarbox.imapd.selected import Selected
from pillarbox.imapd.telling import UIDS_A_SLICE, claim_recent, load_uids
from pillarbox.imapd.view import View
from pillarbox.store import changes, keywords, mailboxes, messages
from pillarbox.store.mailboxes import Name
from pillarbox.store.messages import MOST_UIDS
from pillarbox.store.tx import Tx


async def select(client: Client, args: Mailbox) -> Answer:
    await _open(client, args.mailbox, read_only=False)
    return Answer("Select completed.", b"READ-WRITE")


async def examine(client: Client, args: Mailbox) -> Answer:
    await _open(client, args.mailbox, read_only=True)
    return Answer("Examine completed.", b"READ-ONLY")


async def _open(client: Client, text: str, *, read_only: bool) -> None:
    client.selected_mailbox = None  # RFC 3501 §6.3.1: even if this one fails
    name = from_wire(text, client.context.separator)
    while (opened := await _load(client, name, read_only=read_only)) is None:
        await client.pause()  # too much changed meanwhile
    selected, now, first_unseen = opened
    view = selected.view
    view.share(client.context.snapshots, client.account.id, selected.mailbox)
    client.selected_mailbox = selected
    engine = client.engine
    engine.send(b"* %d EXISTS\r\n* %d RECENT\r\n" % (len(view), view.recent))
    engine.send_rendered(selected.flag_responses())
    if first_unseen is not None:
        number = view.number(first_unseen)
        engine.send_untagged(b"OK", "First unseen.", b"UNSEEN %d" % number)
    engine.send_untagged(b"OK", "UIDs valid.", b"UIDVALIDITY %d" % now.uidvalidity)
    engine.send_untagged(b"OK", "Predicted next UID.", b"UIDNEXT %d" % now.uidnext)


async def _load(
    client: Client, name: Name, *, read_only: bool
) -> tuple[Selected, mailboxes.Mailbox, int | None] | None:
    """The mailbox with a view of it, its state, and the UID of the first unseen message, all of one moment; None where
    that did not work out. Raises Refused NONEXISTENT."""
    mailbox = await client.read(lambda tx: mailboxes.get(tx, name))
    uids = client.context.snapshots.find(
        client.account.id, mailbox.id, mailbox.uidnext, mailbox.messages
    )
    if uids is None:
        uids = await load_uids(client, mailbox.id, 1, mailbox.uidnext)
    view = View(uids, mailbox.uidnext, mailbox.modseq)
    selected = Selected(mailbox.id, view, read_only, [])
    await claim_recent(client, selected, mailbox)

    def work(tx: Tx) -> tuple[mailboxes.Mailbox, int | None] | None:
        now = mailboxes.by_id(tx, mailbox.id)
        found = changes.since(tx, mailbox.id, view.modseq, view.uidnext)
        if found is not None:
            if found.is_far or now.uidnext > view.uidnext + UIDS_A_SLICE:
                return None
            view.vanish(found.vanished)
            view.expunge()
            view.add(messages.uids(tx, mailbox.id, view.uidnext), now.uidnext)
            view.modseq = now.modseq
        selected.keywords = keywords.all_names(tx)
        return now, messages.first_unseen(tx, mailbox.id) if now.unseen else None

    state = await client.read(work)
    return None if state is None else (selected, *state)


async def check(client: Client, args: None) -> Answer:
    """RFC 3501 §6.4.1. All that was acknowledged is durable already."""
    return Answer("Check completed.")


async def close(client: Client, args: None) -> Answer:
    """RFC 3501 §6.4.2: expunges without telling, if the mailbox is not read-only."""
    selected = client.selected
    if not selected.read_only:
        row = await client.read(lambda tx: mailboxes.by_id(tx, selected.mailbox))
        if row.deleted:
            await client.write(lambda tx: messages.expunge(tx, selected.mailbox, [(1, MOST_UIDS)]))
    client.selected_mailbox = None
    return Answer("Close completed.")


async def unselect(client: Client, args: None) -> Answer:
    client.selected_mailbox = None
    return Answer("Unselect completed.")
