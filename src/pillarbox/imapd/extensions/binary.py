"""FETCH of BINARY, BINARY.PEEK and BINARY.SIZE: parts without their Content-Transfer-Encoding (RFC 3516, RFC 9051
§6.4.5). Nothing is held in memory but a piece: a body is decoded once for its size and once to be sent."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from pillarbox.core.errors import Refused
from pillarbox.imap.syntax_fetch import FetchItem, Section
from pillarbox.imapd.client import Client
from pillarbox.imapd.octets import read_all, read_piece
from pillarbox.imapd.sections import Message, Span, locate
from pillarbox.mime.header import header_values, split_header
from pillarbox.mime.parameters import parse_keyword
from pillarbox.mime.parts import PartKind, find_part
from pillarbox.mime.transfer import KNOWN_ENCODINGS, TransferDecoder

NAMES = frozenset(("BINARY[]", "BINARY.SIZE"))
"""Of the items that are served here."""

_HELD_OCTETS = 64 * 1024
"""What has no more decoded octets is sent without being decoded again."""
_FIELD = b"content-transfer-encoding"


@dataclass(slots=True)
class Encoded:
    """A part as it stands in a message. `span` None: there is no such part."""

    content: int
    span: Span | None
    encoding: bytes


async def find_encoded(client: Client, content: int, message: Message, item: FetchItem) -> Encoded:
    """The part that an item asks for. Raises Refused UNKNOWN-CTE (RFC 3516 §4.3)."""
    assert item.section is not None
    numbers = item.section.part
    span = locate(item.section, message)
    if span is None or not numbers or not _is_leaf(message, numbers):
        return Encoded(content, span, b"binary")
    header = locate(Section(numbers, "MIME"), message)
    assert header is not None
    block = header.head + await read_all(client, content, header)
    encoding = await client.context.store.compute_sized(len(block), lambda: _encoding_of(block))
    if encoding not in KNOWN_ENCODINGS:
        raise Refused("a part has an encoding that is not known here", "UNKNOWN-CTE")
    return Encoded(content, span, encoding)


def _is_leaf(message: Message, numbers: tuple[int, ...]) -> bool:
    """What encloses other parts is never encoded itself (RFC 2045 §6.4)."""
    if not message.parts:
        return True
    part = find_part(message.parts, numbers)
    return part is not None and part.kind is PartKind.LEAF


def _encoding_of(header: bytes) -> bytes:
    value = header_values(header, split_header(header), frozenset((_FIELD,))).get(_FIELD, b"")
    return parse_keyword(value) or b"7bit"


async def send_binary(client: Client, encoded: Encoded, item: FetchItem) -> None:
    """The item with its value."""
    engine = client.engine
    if item.name == "BINARY.SIZE":
        size = 0
        async for piece in _decoded(client, encoded, None):
            size += len(piece)
        engine.send(b"%b %d" % (item.label, size))
        return
    if encoded.span is None:
        engine.send(item.label + b" NIL")
        return
    size, has_nul, held = 0, False, []
    async for piece in _decoded(client, encoded, item.partial):
        size += len(piece)
        has_nul = has_nul or b"\0" in piece
        if size <= _HELD_OCTETS:
            held.append(piece)
    # RFC 3516 §4.3: a literal8 only where there is a NUL
    engine.send(b"%b %b{%d}\r\n" % (item.label, b"~" if has_nul else b"", size))
    if size <= _HELD_OCTETS:
        engine.send_rendered(held)
        return
    async for piece in _decoded(client, encoded, item.partial):
        engine.send(piece)


async def _decoded(
    client: Client, encoded: Encoded, partial: tuple[int, int] | None
) -> AsyncIterator[bytes]:
    """The decoded octets, of which `partial` (first octet, count) is wanted; others have their turn between pieces."""
    span = encoded.span
    if span is None:
        return
    first, left = partial or (0, 1 << 62)
    decoder = TransferDecoder(encoded.encoding)
    start, is_over = span.start, False
    piece = span.head
    while not is_over and left > 0:
        if not piece and start < span.end:
            piece = await read_piece(client, encoded.content, start, span.end)
            start += len(piece)
        octets = decoder.feed(piece) if piece else decoder.finish()
        is_over = not piece
        piece = b""
        skipped = min(first, len(octets))
        first -= skipped
        octets = octets[skipped : skipped + left]
        left -= len(octets)
        if octets:
            yield octets
        if not is_over:
            await client.pause()
