"""FETCH of sections of a large message: it goes out in pieces, inside of its literals, as fast as the client reads."""

from dataclasses import dataclass

from pillarbox.core.errors import Failure
from pillarbox.imap.syntax_fetch import FetchItem
from pillarbox.imapd.client import Client
from pillarbox.imapd.fetch_items import Plan, literal, without_nul
from pillarbox.imapd.sections import Message, Span, fields_of, locate
from pillarbox.store import messages
from pillarbox.store.content import LARGEST_INLINE, PIECE_OCTETS
from pillarbox.store.tx import Tx


@dataclass(slots=True)
class _Large:
    """One message, but for its body."""

    content: int
    message: Message
    start: bytes
    """The FETCH response up to where the sections come."""


async def stream_message(client: Client, plan: Plan, uid: int) -> bool:
    """Send the FETCH response for one message; False if it is gone."""
    large = await _read(client, plan, uid)
    if large is None:
        return False
    client.tell_keywords()
    client.engine.send(large.start)
    try:
        for item in plan.sections:
            if large.start[-1:] != b"(" or item is not plan.sections[0]:
                client.engine.send(b" ")
            await _send_section(client, large, item)
    except Failure as failure:
        # Within a literal nothing else can be said.
        client.connection.abort()
        raise ConnectionResetError from failure
    client.engine.send(b")\r\n")
    return True


async def _read(client: Client, plan: Plan, uid: int) -> _Large | None:
    selected = client.selected
    place = [(uid, uid)]
    light = plan.without_sections()

    def work(tx: Tx) -> _Large | None:
        rows = messages.select(tx, selected.mailbox, place, ("content", "size", "header", "parts"))
        if not rows:
            return None
        content, size, header, parts = rows[0]
        rest = messages.select(tx, selected.mailbox, place, light.columns)
        (start,) = light.render(tx, selected, (selected.view.number(uid),), rest)
        message = Message(header, size - len(header), parts)
        return _Large(content, message, start.removesuffix(b")\r\n"))

    return await client.read(work)


async def _send_section(client: Client, large: _Large, item: FetchItem) -> None:
    engine = client.engine
    section = item.section
    assert section is not None
    span = locate(section, large.message)
    if span is None:
        engine.send(item.label + b" NIL")
        return
    if section.fields:
        header = span.head + await _read_all(client, large.content, span)
        if len(header) > LARGEST_INLINE:
            fields = await client.context.store.compute(lambda: fields_of(section, header))
        else:
            fields = fields_of(section, header)
        engine.send_rendered([item.label, b" ", literal(Span(fields).clip(item.partial).head)])
        return
    span = span.clip(item.partial)
    engine.send_rendered([item.label, b" {%d}\r\n" % span.size, without_nul(span.head)])
    start = span.start
    while start < span.end:
        piece = await _read_piece(client, large.content, start, span.end)
        engine.send(without_nul(piece))
        await client.pause()
        start += len(piece)


async def _read_all(client: Client, content: int, span: Span) -> bytes:
    pieces = []
    start = span.start
    while start < span.end:
        pieces.append(await _read_piece(client, content, start, span.end))
        start += len(pieces[-1])
    return b"".join(pieces)


async def _read_piece(client: Client, content: int, start: int, end: int) -> bytes:
    """At least one octet of a body, from `start` on."""
    length = min(PIECE_OCTETS, end - start)
    piece = await client.read(lambda tx: messages.body(tx, content, start, length))
    if not piece:
        raise Failure("the message is shorter than it should be")
    return piece
