"""APPEND (RFC 3501 §6.3.11): its message goes to a spool as it comes in, then to the store."""

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.imap import responses
from pillarbox.imap.events import AppendData, AppendStart
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.names import from_wire
from pillarbox.imapd.upload import Upload
from pillarbox.store import mailboxes
from pillarbox.store.content import LARGEST_INLINE, make_content
from pillarbox.store.messages import Append
from pillarbox.store.spool import Spool
from pillarbox.store.tx import Tx


async def start(client: Client, event: AppendStart) -> None:
    name = from_wire(event.mailbox, client.context.separator)
    mailbox = await client.read(lambda tx: target(tx, name))
    if not event.size:
        raise Refused("a message cannot be empty")
    date = event.date_time
    if date is None:
        date = pack_date(int(client.context.store.clock()))
    client.upload = Upload(mailbox, event.flags, date, Spool(client.context.spool_room))
    client.engine.continue_append()


async def receive(client: Client, event: AppendData) -> None:
    assert client.upload is not None
    try:
        if client.upload.spool.write(event.chunk):
            await client.upload.spool.flush()
    except OSError as error:
        drop(client)
        raise Unavailable("there is no room for the message", "UNAVAILABLE") from error


async def finish(client: Client) -> Answer:
    upload = client.upload
    assert upload is not None
    try:
        await upload.spool.flush()
        octets = upload.spool.octets()
        if len(octets) > LARGEST_INLINE:
            content = await client.context.store.compute(lambda: make_content(octets))
        else:
            content = make_content(octets)
        flags = upload.flags
        item = Append(upload.mailbox, content, upload.internaldate, flags.system, flags.keywords)
        done = await client.context.store.append(client.account.id, item)
    except OSError as error:
        raise Unavailable("there is no room for the message", "UNAVAILABLE") from error
    finally:
        drop(client)
    return Answer("Append completed.", responses.appenduid(done.uidvalidity, done.uid))


def drop(client: Client) -> None:
    """Let go of a message that is stored or unwanted."""
    if client.upload is not None:
        client.upload.spool.close()
        client.upload = None


def target(tx: Tx, name: mailboxes.Name) -> int:
    """The mailbox that messages are to be put into. Raises Refused TRYCREATE (RFC 3501 §6.3.11, §6.4.7)."""
    mailbox = mailboxes.find(tx, name)
    if mailbox is None:
        raise Refused("there is no such mailbox", "TRYCREATE")
    return mailbox.id
