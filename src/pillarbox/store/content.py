"""A message as the store keeps it: its octets and all that is rendered from them once, at delivery.

A `Content` is made and rendered once for all recipients; fields that delivery puts in front (`prefix`: Return-Path,
Delivered-To) change nothing but the header block, since offsets count from the start of the body.
"""

import logging
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from pillarbox.mime.header import header_end
from pillarbox.mime.lines import count_lf, has_bare_cr_or_lf
from pillarbox.mime.message import Message, parse_message

PIECE_OCTETS = 512 * 1024
"""Bodies are kept in pieces of this size."""

PIECE_BITS = 12
"""A body has at most 4096 pieces: 2 GiB."""

LARGEST_INLINE = 64 * 1024
"""Octets that may be parsed on the event loop: a few milliseconds, whatever is in them. More: `Store.compute`."""

COMMON_FIELDS: tuple[bytes, ...] = (
    b"date",
    b"from",
    b"sender",
    b"reply-to",
    b"to",
    b"cc",
    b"bcc",
    b"message-id",
    b"in-reply-to",
    b"references",
    b"subject",
    b"content-type",
    b"content-transfer-encoding",
    b"content-description",
    b"mime-version",
    b"importance",
    b"priority",
    b"x-priority",
    b"newsgroups",
    b"lines",
    b"list-id",
    b"list-post",
    b"list-subscribe",
    b"list-unsubscribe",
    b"x-label",
    b"x-mailer",
    b"user-agent",
    b"auto-submitted",
    b"disposition-notification-to",
    b"x-spam-flag",
    b"x-spam-status",
)
"""What clients ask for in their lists; a field's code in a shape is its place here plus one. Only ever append."""

FIELD_CODES = {name: code for code, name in enumerate(COMMON_FIELDS, 1)}

LARGEST_COMMON_FIELDS = 16 * 1024
"""Octets; with more, `fields` says nothing and readers look into the header block."""

_HASH_MASK = (1 << 63) - 1

_BLANK = bytes(octet if octet in b"\r\n" else 120 for octet in range(256))

log = logging.getLogger("pillarbox.store")


def hash_message_id(message_id: bytes) -> int:
    """A Message-ID as 63 bits, for threading. Collisions only thread two messages wrongly."""
    return int.from_bytes(blake2b(message_id, digest_size=8).digest(), "big") & _HASH_MASK


@dataclass(slots=True)
class Rendered:
    """What the store keeps beside the octets of a message."""

    envelope: bytes
    bodystructure: bytes
    preview: str
    shape: bytes | None
    fields: bytes
    parts: bytes
    sent: int | None
    subject: str
    is_reply: bool
    from_key: str
    to_key: str
    cc_key: str
    message_id: int
    references: tuple[int, ...]
    line_ends_added: int
    """Octets that POP3 adds to end every line, the last one too, with CRLF (RFC 1939 §3)."""


@dataclass(slots=True)
class Content:
    """A message for account files, rendered once for all of them when the first one needs it."""

    octets: bytes | memoryview
    header_size: int
    has_crlf: bool = False
    """It is known that all line ends are CRLF, so nobody needs to look."""
    _rendered: Rendered | None = field(default=None, repr=False)

    @property
    def rendered(self) -> Rendered:
        """All that is kept beside the octets. Over LARGEST_INLINE, ask for it in a thread first."""
        if self._rendered is None:
            self._rendered = _render_any(self.octets, has_crlf=self.has_crlf)[1]
        return self._rendered

    @property
    def header(self) -> bytes:
        """The header block with its blank line."""
        return bytes(self.octets[: self.header_size])

    @property
    def body_size(self) -> int:
        """Octets behind the header block."""
        return len(self.octets) - self.header_size

    def body_piece(self, number: int) -> bytes:
        """The piece of the body with this number, from 0; empty behind the end."""
        start = self.header_size + number * PIECE_OCTETS
        return bytes(self.octets[start : start + PIECE_OCTETS])

    @property
    def pieces(self) -> int:
        """How many pieces the body has, 0 for an empty one."""
        return -(-self.body_size // PIECE_OCTETS)


def make_content(octets: bytes | memoryview, *, has_crlf: bool = False) -> Content:
    """Parse a message and render all that the store keeps. Over LARGEST_INLINE, call it in a thread."""
    header_size, rendered = _render_any(octets, has_crlf=has_crlf)
    return Content(octets, header_size, has_crlf, rendered)


def _render_any(octets: bytes | memoryview, *, has_crlf: bool) -> tuple[int, Rendered]:
    """The size of the header block, and what is kept. Mail that was acknowledged gets into its file whatever is in it:
    where a bug keeps it from being parsed, it is a text without any fields, and the log says so."""
    try:
        message = parse_message(octets)
        return message.header_size, render(message, octets, has_crlf=has_crlf)
    except Exception:
        log.exception("a bug in the parser: a message of %d octets is kept unparsed", len(octets))
    whole = bytes(octets)
    header_size = header_end(whole)
    # The same lines, with nothing in them that could fail again.
    message = parse_message(b"\r\n" + whole[header_size:].translate(_BLANK))
    rendered = render(message, whole)
    return header_size, replace(rendered, shape=None, fields=b"", preview="")


def render(message: Message, octets: bytes | memoryview, *, has_crlf: bool = False) -> Rendered:
    """What is kept of a message that was parsed already."""
    shape, fields = _common_fields(message, octets)
    references = tuple(hash_message_id(reference) for reference in message.references)
    return Rendered(
        message.envelope,
        message.bodystructure,
        message.preview,
        shape,
        fields,
        message.parts,
        message.sent,
        *message.keys,
        hash_message_id(message.message_id) if message.message_id else 0,
        references,
        count_line_ends_added(octets, has_crlf=has_crlf),
    )


def count_line_ends_added(octets: bytes | memoryview, *, has_crlf: bool = False) -> int:
    """How many octets longer a message is once every line ends with CRLF: `b"a\nb"` -> 3."""
    if not octets:
        return 0
    added = 0 if octets[-1] == 10 else 2
    if has_crlf or not has_bare_cr_or_lf(octets):
        return added
    for start in range(0, len(octets), PIECE_OCTETS):
        piece = bytes(octets[start : start + PIECE_OCTETS])
        added += count_lf(piece) - piece.count(b"\r\n")
        if start and piece[0] == 10 and octets[start - 1] == 13:
            added -= 1  # a CRLF across two pieces
    return added


def _common_fields(message: Message, octets: bytes | memoryview) -> tuple[bytes | None, bytes]:
    codes = bytearray()
    found = []
    for name, start, end in message.fields:
        code = FIELD_CODES.get(name)
        if code is not None:
            codes.append(code)
            found.append(bytes(octets[start:end]))
    joined = b"\0".join(found)
    if joined.count(b"\0") != max(0, len(found) - 1) or len(joined) > LARGEST_COMMON_FIELDS:
        return None, b""
    return bytes(codes), joined
