"""FETCH of sections of a large message: it goes out in pieces, inside of its literals, as fast as the client reads."""

from dataclasses import dataclass

from pillarbox.core.errors import Failure
from pillarbox.imap.syntax_fetch import FetchItem
from pillarbox.imapd.client import Client
from pillarbox.imapd.extensions.binary import NAMES as BINARY_NAMES
from pillarbox.imapd.extensions.binary import find_encoded, send_binary
from pillarbox.imapd.fetch_items import Plan, literal, without_nul
from pillarbox.imapd.octets import read_fields, read_piece
from pillarbox.imapd.sections import Message, Span, locate
from pillarbox.store import messages
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
    encoded = {}
    for item in plan.sections:
        if item.name in BINARY_NAMES:
            encoded[item] = await find_encoded(client, large.content, large.message, item)
            await client.pause()
    client.tell_keywords()
    client.engine.send(large.start)
    try:
        for item in plan.sections:
            if large.start[-1:] != b"(" or item is not plan.sections[0]:
                client.engine.send(b" ")
            if item in encoded:
                await send_binary(client, encoded[item], item)
            else:
                await _send_section(client, large, item)
            await client.pause()
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

    return await client.read_selected(work)


async def _send_section(client: Client, large: _Large, item: FetchItem) -> None:
    engine = client.engine
    section = item.section
    assert section is not None
    span = locate(section, large.message)
    if span is None:
        engine.send(item.label + b" NIL")
        return
    if section.fields:
        fields = await read_fields(client, large.content, section, span)
        engine.send_rendered([item.label, b" ", literal(Span(fields).clip(item.partial).head)])
        return
    span = span.clip(item.partial)
    engine.send_rendered([item.label, b" {%d}\r\n" % span.size, without_nul(span.head)])
    start = span.start
    while start < span.end:
        piece = await read_piece(client, large.content, start, span.end)
        engine.send(without_nul(piece))
        await client.pause()
        start += len(piece)
