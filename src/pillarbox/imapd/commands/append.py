"""APPEND and REPLACE (RFC 3501 §6.3.11, RFC 3502, RFC 8508): messages go to spools as they come in, then to the store,
all of them or none."""

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.flags import SEEN
from pillarbox.imap import responses
from pillarbox.imap.events import AppendData, AppendEnd, AppendNext, AppendStart
from pillarbox.imap.syntax_append import NewMessage, Step, Target
from pillarbox.imapd import access, own
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.extensions.catenate import url_octets
from pillarbox.imapd.told import selected_place, tell_expunged, tell_uploaded
from pillarbox.imapd.upload import LARGEST_UPLOAD, Upload, UploadedMessage
from pillarbox.mime.convert import Transport, convert
from pillarbox.store import mailboxes, messages
from pillarbox.store.acl import flags_of
from pillarbox.store.appending import Append
from pillarbox.store.content import Content, make_content
from pillarbox.store.quota import Quota, Usage, ensure_within
from pillarbox.store.spool import Spool
from pillarbox.store.tx import Tx

APPEND = access.Needs(named="i")
REPLACE = access.Needs(named="i", selected="te")  # RFC 8508 §4.1
"""The rights that they need."""


async def start(client: Client, event: AppendStart) -> None:
    needs = REPLACE if event.target.replaced else APPEND
    if access.concerns(client, needs, event.target):
        await access.admit(client, needs, event.target)
    place = client.place(event.target.mailbox)
    replaced = _replaced(client, event.target)
    if replaced is not None and client.selected.account != place.account:
        raise Refused("a message is not replaced by one in another account", "CANNOT")
    mailbox = await client.context.store.read(place.account, lambda tx: target(tx, place.name))
    client.upload = Upload(place, mailbox, replaced)
    await go_on(client, event)


def _replaced(client: Client, args: Target) -> tuple[int, int] | None:
    """What REPLACE replaces (RFC 8508 §3.2)."""
    if args.replaced is None:
        return None
    client.ensure_writable()
    selected = client.selected
    slices = selected.view.slices(args.replaced, args.uid)
    if not slices:
        raise Refused("there is no such message to be replaced", "NONEXISTENT")
    return selected.mailbox, selected.view.uids[slices[0].start]


async def go_on(client: Client, event: AppendStart | AppendNext) -> None:
    """What comes before a literal, and whether that may come."""
    upload = _upload(client)
    try:
        await _take_steps(client, event.steps)
        literal = event.literal
        if literal is not None:
            if not literal.size and not literal.is_part:
                raise Refused(
                    "a message cannot be empty", "CANNOT"
                )  # RFC 3502: so the command is cancelled
            upload.messages[-1].binary |= literal.binary
            _ensure_room(client, literal.size)
            await _ensure_quota(client, literal.size)
    except BaseException:
        drop(client)
        raise
    client.engine.continue_append()


async def receive(client: Client, event: AppendData) -> None:
    await _write(client, event.chunk)


async def finish(client: Client, event: AppendEnd) -> Answer:
    upload = _upload(client)
    try:
        await _take_steps(client, event.steps)
        items = []
        for message in upload.messages:
            items.append(await _item(client, upload, message))
            await client.pause()
        store, account = client.context.store, upload.place.account
        before = await own.before_append(client, account, upload.mailbox)
        if len(items) == 1 and upload.replaced is None:
            done = [await store.append(account, items[0])]
        else:
            limits = client.quota(account)
            done = await store.append_all(
                account, items, lambda tx: _remove_replaced(tx, upload, limits)
            )
        own.note_appended(before, done, sum(not item.flags & SEEN for item in items))
        client.note_created(account, upload.mailbox, done[0].uid, len(done))
        if items[0].claims_recent and done[0].is_claimed:
            client.selected.view.add_recent(done[0].uid, done[-1].uid)
        if upload.replaced is not None:
            client.note_expunged(upload.replaced[1:])
        client.note_growth(account)
        tell_uploaded(client, upload.place, items, done)
        if upload.replaced is not None:
            uid = upload.replaced[1]
            tell_expunged(client, selected_place(client), [(uid, uid)], "REPLACE")
    except OSError as error:
        raise Unavailable("there is no room for the message", "UNAVAILABLE") from error
    finally:
        drop(client)
    code = responses.appenduid(done[0].uidvalidity, [appended.uid for appended in done])
    if upload.replaced is None:
        return Answer("Append completed.", code)
    # RFC 8508 §4.3: APPENDUID comes before the EXPUNGE
    client.engine.send_untagged(b"OK", "Replacement message ready.", code)
    return Answer("Replace completed.")


def drop(client: Client) -> None:
    """Let go of messages that are stored or unwanted."""
    if client.upload is not None:
        client.upload.close()
        client.upload = None


def target(tx: Tx, name: mailboxes.Name) -> int:
    """The mailbox that messages are to be put into. Raises Refused TRYCREATE (RFC 3501 §6.3.11, §6.4.7)."""
    mailbox = mailboxes.find(tx, name)
    if mailbox is None:
        raise Refused("there is no such mailbox", "TRYCREATE")
    return mailbox.id


def _upload(client: Client) -> Upload:
    assert client.upload is not None
    return client.upload


async def _take_steps(client: Client, steps: list[Step]) -> None:
    upload = _upload(client)
    for step in steps:
        if isinstance(step, NewMessage):
            date = step.date_time
            if date is None:
                date = pack_date(int(client.context.store.clock()))
            spool = Spool(client.context.spool_room)
            upload.messages.append(UploadedMessage(step.flags, date, spool))
            continue
        async for piece in url_octets(client, step.url):
            _ensure_room(client, len(piece))
            await _write(client, piece)
            await client.pause()
        await client.pause()  # also after one that gave nothing


def _ensure_room(client: Client, octets: int) -> None:
    """Raises Refused where the present message, or all together, would become too large."""
    upload = _upload(client)
    if upload.messages[-1].spool.size + octets > client.context.max_message_size:
        raise Refused("the message is too large", "TOOBIG")  # RFC 4469 §4.2
    if len(upload.messages) > 1 and upload.size + octets > LARGEST_UPLOAD:
        raise Refused("these messages are too large for one command", "LIMIT")


async def _ensure_quota(client: Client, octets: int) -> None:
    """Before the octets come. (For REPLACE only what is there in the end counts: RFC 8508 §3.4.)"""
    upload = _upload(client)
    account = upload.place.account
    limits = client.quota(account)
    if limits.is_limited and upload.replaced is None:
        more = Usage(upload.size + octets, len(upload.messages))
        await client.context.store.read(account, lambda tx: ensure_within(tx, limits, more=more))


async def _write(client: Client, octets: bytes) -> None:
    spool = _upload(client).messages[-1].spool
    try:
        if spool.write(octets):
            await spool.flush()
    except OSError as error:
        drop(client)
        raise Unavailable("there is no room for the message", "UNAVAILABLE") from error


# DEVIATES: RFC 6855 §4 because to refuse 8-bit header fields of clients without UTF8=ACCEPT would keep them from
# storing mail that other programs made long ago; such fields are taken from everybody, as by SMTP.


async def _item(client: Client, upload: Upload, message: UploadedMessage) -> Append:
    await message.spool.flush()
    octets = message.spool.octets()
    if not octets:
        raise Refused("a message cannot be empty", "CANNOT")
    binary = message.binary

    def make() -> Content:
        return make_content(_without_binary(octets) if binary else octets)

    content = await client.context.store.compute_sized(len(octets), make)
    flags = message.flags
    return Append(
        upload.mailbox,
        content,
        message.internaldate,
        flags.system & flags_of(upload.place.rights),  # RFC 4314 §4
        flags.keywords if "w" in upload.place.rights else (),
        quota=client.quota(upload.place.account) if upload.replaced is None else None,
        is_guest=upload.place.account != client.account.id,
        claims_recent=_will_be_told(client, upload),
    )


def _will_be_told(client: Client, upload: Upload) -> bool:
    """Whether the client hears of its message when the command ends: to claim it with a write of its own then would
    cost a fifth of the command."""
    selected = client.selected_mailbox
    return (
        selected is not None
        and (selected.account, selected.mailbox) == (upload.place.account, upload.mailbox)
        and client.wanted.messages
        and client.modes.tells_recent
        and selected.takes_recent
    )


def _without_binary(octets: bytes | memoryview) -> bytes | memoryview:
    """Parts with NULs as base64, for IMAP and POP3 without BINARY. Raises Refused UNKNOWN-CTE where that may not be
    (RFC 3516 §4.4)."""
    whole = bytes(octets)
    if b"\0" not in whole:
        return octets
    converted = convert(whole, Transport.EIGHT_BIT)
    if b"\0" in converted:
        raise Refused("the message has binary octets where none may be encoded", "UNKNOWN-CTE")
    return converted


def _remove_replaced(tx: Tx, upload: Upload, limits: Quota) -> None:
    if upload.replaced is None:
        return
    mailbox, uid = upload.replaced
    if not messages.expunge(tx, mailbox, [(uid, uid)], only_deleted=False):
        raise Refused("the message to be replaced no longer exists", "EXPUNGEISSUED")
    ensure_within(tx, limits)
