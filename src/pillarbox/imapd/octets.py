"""Bodies of messages, in pieces."""

from pillarbox.core.errors import Failure
from pillarbox.imap.syntax_fetch import Section
from pillarbox.imapd.client import Client
from pillarbox.imapd.sections import Span, fields_of
from pillarbox.store import messages
from pillarbox.store.content import PIECE_OCTETS


async def read_piece(client: Client, content: int, start: int, end: int, account: int = 0) -> bytes:
    """At least one octet of a body, from `start` on, in the account of the selected mailbox or in another one. Raises
    Failure where it has none."""
    length = min(PIECE_OCTETS, end - start)
    piece = await client.context.store.read(
        account or client.selected.account, lambda tx: messages.body(tx, content, start, length)
    )
    if not piece:
        raise Failure("the message is shorter than it should be")
    return piece


async def read_all(client: Client, content: int, span: Span, account: int = 0) -> bytes:
    """The body's part of a span, at once: for header blocks."""
    pieces = []
    start = span.start
    while start < span.end:
        pieces.append(await read_piece(client, content, start, span.end, account))
        start += len(pieces[-1])
    return b"".join(pieces)


async def read_fields(
    client: Client, content: int, section: Section, span: Span, account: int = 0
) -> bytes:
    """The fields that a section picks from the header block at a span."""
    header = span.head + await read_all(client, content, span, account)
    pieces = fields_of(section, header)
    found = []
    # Other mail waits for the same thread, so long work goes there in small pieces.
    while (
        piece := await client.context.store.compute_sized(len(header), lambda: next(pieces, None))
    ) is not None:
        found.append(piece)
        await client.pause()
    return b"".join(found)
