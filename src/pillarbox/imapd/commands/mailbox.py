"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, NAMESPACE, STATUS (RFC 3501 §6.3)."""

from pillarbox.core.errors import Refused
from pillarbox.imap import responses
from pillarbox.imap.syntax_mailbox import Create, Mailbox, Rename, Status
from pillarbox.imapd import own
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.names import new_from_wire
from pillarbox.imapd.objectid import mailboxid_code
from pillarbox.imapd.places import OTHERS
from pillarbox.imapd.special_use import parse_special_uses
from pillarbox.imapd.status import status_values
from pillarbox.imapd.told import tell_expunged, tell_renamed
from pillarbox.store import mailboxes, messages
from pillarbox.store.messages import MOST_UIDS
from pillarbox.store.tx import Tx
from pillarbox.trace.events import place_of


async def create(client: Client, args: Create) -> Answer:
    place = client.place(args.mailbox, new=True)
    special_use = parse_special_uses(args.special_use)
    if special_use and place.account != client.account.id:
        raise Refused("a mailbox of somebody else has no special use", "USEATTR")
    made = await own.write(
        client, place.account, lambda tx: mailboxes.create(tx, place.name, special_use)
    )
    return Answer("Create completed.", mailboxid_code(place.account, made.id))


async def delete(client: Client, args: Mailbox) -> Answer:
    place = client.place(args.mailbox)

    def work(tx: Tx) -> tuple[int, str]:
        mailbox = mailboxes.find(tx, place.name)
        mailboxes.delete(tx, place.name)
        return (
            (mailbox.id, place_of(tx.account, mailbox.id, mailbox.uidvalidity))
            if mailbox
            else (0, "")
        )

    deleted, what = await own.write(client, place.account, work, place.name)
    tell_expunged(client, what, [(1, MOST_UIDS)], "its mailbox was deleted")
    selected = client.selected_mailbox
    if selected is not None and (selected.account, selected.mailbox) == (place.account, deleted):
        client.engine.deselect()
        client.selected_mailbox = None
    return Answer("Delete completed.")


async def rename(client: Client, args: Rename) -> Answer:
    place = client.place(args.mailbox)
    new = client.place(args.new_mailbox, new=True)
    if place.account != new.account:
        raise Refused("a mailbox cannot be moved to another account", "CANNOT")

    def work(tx: Tx) -> tuple[messages.Ranges, list[str]]:
        """What RENAME moves, from where and to where: the messages of INBOX, under the UIDs that they have."""
        mailbox = mailboxes.find(tx, place.name)
        is_inbox = mailbox is not None and mailbox.id == mailboxes.INBOX
        moved = messages.to_ranges(messages.uids(tx, mailboxes.INBOX)) if is_inbox else []
        mailboxes.rename(tx, place.name, new.name)
        if mailbox is None or not moved:
            return [], []
        both = (mailbox, mailboxes.get(tx, new.name))
        return moved, [place_of(tx.account, each.id, each.uidvalidity) for each in both]

    moved, places = await own.write(client, place.account, work, place.name)
    if moved:
        tell_renamed(client, moved, places, new)
    return Answer("Rename completed.")


async def subscribe(client: Client, args: Mailbox) -> Answer:
    name = new_from_wire(args.mailbox, client.context.separator)
    await client.write(lambda tx: mailboxes.subscribe(tx, name))
    if client.watch is not None:
        client.watch.subscribed |= {mailboxes.normal_name(name)}
    return Answer("Subscribe completed.")


async def unsubscribe(client: Client, args: Mailbox) -> Answer:
    name = new_from_wire(args.mailbox, client.context.separator)
    if not await client.write(lambda tx: mailboxes.unsubscribe(tx, name)):
        raise Refused("you are not subscribed to that name", "NONEXISTENT")
    if client.watch is not None:
        client.watch.subscribed -= {mailboxes.normal_name(name)}
    return Answer("Unsubscribe completed.")


async def namespace(client: Client, args: None) -> Answer:
    client.engine.send(responses.namespace(("", OTHERS), client.context.separator))
    return Answer("Namespace completed.")


async def status(client: Client, args: Status) -> Answer:
    place = client.place(args.mailbox)
    items = args.items
    values = await client.context.store.read(
        place.account,
        lambda tx: status_values(tx, mailboxes.get(tx, place.name), items, client.context),
    )
    if "HIGHESTMODSEQ" in items:
        client.enable_condstore()
    client.engine.send(responses.status(args.mailbox, values, client.engine.utf8))
    return Answer("Status completed.")
