"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, NAMESPACE, STATUS (RFC 3501 §6.3)."""

from pillarbox.core.errors import Refused
from pillarbox.imap import responses
from pillarbox.imap.syntax_mailbox import Create, Mailbox, Rename, Status
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.names import from_wire, new_from_wire
from pillarbox.imapd.objectid import mailboxid_code
from pillarbox.imapd.special_use import parse_special_uses
from pillarbox.imapd.status import status_values
from pillarbox.store import mailboxes
from pillarbox.store.tx import Tx


async def create(client: Client, args: Create) -> Answer:
    name = new_from_wire(args.mailbox, client.context.separator)
    special_use = parse_special_uses(args.special_use)
    made = await client.write(lambda tx: mailboxes.create(tx, name, special_use))
    return Answer("Create completed.", mailboxid_code(client.account.id, made.id))


async def delete(client: Client, args: Mailbox) -> Answer:
    name = from_wire(args.mailbox, client.context.separator)

    def work(tx: Tx) -> int:
        mailbox = mailboxes.find(tx, name)
        mailboxes.delete(tx, name)
        return mailbox.id if mailbox else 0

    deleted = await client.write(work)
    selected = client.selected_mailbox
    if selected is not None and selected.mailbox == deleted:
        client.engine.deselect()
        client.selected_mailbox = None
    return Answer("Delete completed.")


async def rename(client: Client, args: Rename) -> Answer:
    name = from_wire(args.mailbox, client.context.separator)
    new_name = new_from_wire(args.new_mailbox, client.context.separator)
    await client.write(lambda tx: mailboxes.rename(tx, name, new_name))
    return Answer("Rename completed.")


async def subscribe(client: Client, args: Mailbox) -> Answer:
    name = new_from_wire(args.mailbox, client.context.separator)
    await client.write(lambda tx: mailboxes.subscribe(tx, name))
    return Answer("Subscribe completed.")


async def unsubscribe(client: Client, args: Mailbox) -> Answer:
    name = new_from_wire(args.mailbox, client.context.separator)
    if not await client.write(lambda tx: mailboxes.unsubscribe(tx, name)):
        raise Refused("you are not subscribed to that name", "NONEXISTENT")
    return Answer("Unsubscribe completed.")


async def namespace(client: Client, args: None) -> Answer:
    client.engine.send(responses.namespace("", client.context.separator))
    return Answer("Namespace completed.")


async def status(client: Client, args: Status) -> Answer:
    name = from_wire(args.mailbox, client.context.separator)
    items = args.items
    values = await client.read(
        lambda tx: status_values(tx, mailboxes.get(tx, name), items, client.context)
    )
    if "HIGHESTMODSEQ" in items:
        client.enable_condstore()
    client.engine.send(responses.status(args.mailbox, values, client.engine.utf8))
    return Answer("Status completed.")
