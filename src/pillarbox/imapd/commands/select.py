"""SELECT, EXAMINE, CHECK, CLOSE, UNSELECT (RFC 3501 §6.3.1, §6.4, RFC 3691)."""

from array import array

from pillarbox.imap.syntax_mailbox import Mailbox
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.names import from_wire
from pillarbox.imapd.selected import Selected
from pillarbox.imapd.view import View
from pillarbox.store import changes, keywords, mailboxes, messages
from pillarbox.store.messages import MOST_UIDS
from pillarbox.store.tx import Tx

_UIDS_A_SLICE = 10_000


async def select(client: Client, args: Mailbox) -> Answer:
    await _open(client, args.mailbox, read_only=False)
    return Answer("Select completed.", b"READ-WRITE")


async def examine(client: Client, args: Mailbox) -> Answer:
    await _open(client, args.mailbox, read_only=True)
    return Answer("Examine completed.", b"READ-ONLY")


async def _open(client: Client, text: str, *, read_only: bool) -> None:
    client.selected_mailbox = None  # RFC 3501 §6.3.1: even if this one fails
    name = from_wire(text, client.context.separator)
    mailbox = await client.read(lambda tx: mailboxes.get(tx, name))
    known = client.context.snapshots.find(
        client.account.id, mailbox.id, mailbox.uidnext, mailbox.messages
    )
    uids = await _load_uids(client, mailbox.id, mailbox.uidnext) if known is None else known
    selected = Selected(mailbox.id, View(uids, mailbox.uidnext, mailbox.modseq), read_only, [])
    await client.claim_recent(selected, mailbox)
    view = selected.view

    def work(tx: Tx) -> tuple[mailboxes.Mailbox, int | None]:
        """What happened meanwhile, and the rest of the state, all of one moment."""
        now = mailboxes.by_id(tx, mailbox.id)
        found = changes.since(tx, mailbox.id, view.modseq, view.uidnext)
        view.apply(found, lambda _: b"", expunge=True)
        selected.keywords = keywords.all_names(tx)
        return now, messages.first_unseen(tx, mailbox.id) if now.unseen else None

    now, first_unseen = await client.read(work)
    view.share(client.context.snapshots, client.account.id, mailbox.id)
    client.selected_mailbox = selected
    engine = client.engine
    engine.send(b"* %d EXISTS\r\n* %d RECENT\r\n" % (len(view), view.recent))
    engine.send_rendered(selected.flag_responses())
    if first_unseen is not None:
        number = view.number(first_unseen)
        engine.send_untagged(b"OK", "First unseen.", b"UNSEEN %d" % number)
    engine.send_untagged(b"OK", "UIDs valid.", b"UIDVALIDITY %d" % now.uidvalidity)
    engine.send_untagged(b"OK", "Predicted next UID.", b"UIDNEXT %d" % now.uidnext)


async def _load_uids(client: Client, mailbox: int, uidnext: int) -> "array[int]":
    """The UIDs below `uidnext`, read in slices. Messages that go meanwhile may be in it or not."""
    uids = array("I")
    first = 1
    while True:
        wanted = [(first, min(uidnext - 1, MOST_UIDS))]
        rows = await client.read(
            lambda tx, wanted=wanted: messages.select(  # type: ignore[misc]
                tx, mailbox, wanted, ("uid",), _UIDS_A_SLICE
            )
        )
        uids.extend([row[0] for row in rows])
        if len(rows) < _UIDS_A_SLICE:
            return uids
        first = uids[-1] + 1
        await client.pause()


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
