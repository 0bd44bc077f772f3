"""CATENATE: what an IMAP URL stands for becomes a part of a message (RFC 4469)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from pillarbox.core.errors import Refused
from pillarbox.imap.url import MessageUrl, parse_message_url
from pillarbox.imapd.client import Client
from pillarbox.imapd.names import from_wire
from pillarbox.imapd.octets import read_fields, read_piece
from pillarbox.imapd.sections import Message, Span, locate
from pillarbox.store import mailboxes, messages
from pillarbox.store.tx import Tx


@dataclass(slots=True)
class _Source:
    account: int
    content: int
    message: Message


async def url_octets(client: Client, url: bytes) -> AsyncIterator[bytes]:
    """The octets in pieces, none of them empty. Raises Refused BADURL (RFC 4469 §4.1)."""
    try:
        parsed = parse_message_url(url)
    except ValueError as error:
        raise _bad_url(url, str(error)) from None
    source = await _find(client, parsed, url)
    section = parsed.section
    span = locate(section, source.message)
    if span is None:
        raise _bad_url(url, "there is no such part")
    if section.fields:
        span = Span(await read_fields(client, source.content, section, span, source.account))
    span = span.clip(parsed.partial)
    if span.head:
        yield span.head
    start = span.start
    while start < span.end:
        piece = await read_piece(client, source.content, start, span.end, source.account)
        yield piece
        start += len(piece)


async def _find(client: Client, parsed: MessageUrl, url: bytes) -> _Source:
    selected = client.selected_mailbox
    if parsed.mailbox is None and selected is None:
        raise _bad_url(url, "it names no mailbox, and none is selected")
    name = from_wire(parsed.mailbox or "", client.context.separator)
    account = client.account.id
    if parsed.mailbox is None and selected is not None:
        account = selected.account

    def work(tx: Tx) -> _Source | None:
        if parsed.mailbox is None:
            assert selected is not None
            mailbox = mailboxes.by_id(tx, selected.mailbox)
        else:
            mailbox = mailboxes.get(tx, name)
        if parsed.uidvalidity not in (0, mailbox.uidvalidity):
            return None
        place = [(parsed.uid, parsed.uid)]
        rows = messages.select(tx, mailbox.id, place, ("content", "size", "header", "parts"))
        if not rows:
            return None
        content, size, header, parts = rows[0]
        return _Source(account, content, Message(header, size - len(header), parts))

    try:
        source = await client.context.store.read(account, work)
    except Refused as failure:
        raise _bad_url(url, failure.text) from None
    if source is None:
        raise _bad_url(url, "there is no such message")
    return source


def _bad_url(url: bytes, reason: str) -> Refused:
    """The code holds the URL as it came, as far as a response code can."""
    shown = "".join(chr(octet) for octet in url if 32 < octet < 127 and octet != ord("]"))
    return Refused(f"bad URL: {reason}", f"BADURL {shown}")
