"""Messages for transports that take less: 8-bit parts made 7-bit, binary parts made lines, long lines made short
(RFC 2045 §6, RFC 3030 §3, RFC 6152 §3).

Only what the transport does not take is touched: such parts get another Content-Transfer-Encoding, quoted-printable for
text and base64 for the rest; what encloses them keeps its structure. What may not be encoded stays as it is: signed
and encrypted multiparts (RFC 1847 §2.1, RFC 3156 §3), 8-bit header fields, the messages that RFC 2046 §5.2 wants 7-bit.
So whoever converts asks `fits` afterwards. Pure, linear in the size of the message.
"""

import re
from binascii import a2b_qp, b2a_base64, b2a_qp
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise

from pillarbox.mime.header import FieldSpan, header_end, header_values, split_header
from pillarbox.mime.lines import LONGEST_LINE, has_bare_cr_or_lf, has_long_line, is_clean
from pillarbox.mime.structure import MIME_FIELDS, Part, parse_structure
from pillarbox.mime.transfer import decode_base64


class Transport(Enum):
    """What a transport takes. None of them takes NUL, bare CR or LF, and lines over 998 octets."""

    SEVEN_BIT = "7bit"
    EIGHT_BIT = "8bit"


_BASE64_OCTETS = 57
"""In a line of 76 characters (RFC 2045 §6.8)."""

_SLICE_OCTETS = 256 * 1024

_FOLD_AT = 78
_FOLDING = re.compile(rb"(?<![ \t])[ \t]++(?=[^ \t\r\n])")
_IDENTITY = (b"7bit", b"8bit", b"binary")
_SEALED = (b"signed", b"encrypted")
_NEVER_ENCODED = (b"partial", b"external-body")
"""RFC 2046 §5.2.2.1, §5.2.3: 7-bit always."""
_MIME_VERSION = b"MIME-Version: 1.0\r\n"


def fits(octets: bytes, transport: Transport) -> bool:
    """Whether a transport takes a message as it is."""
    return is_clean(octets) and (transport is Transport.EIGHT_BIT or octets.isascii())


def convert(octets: bytes, transport: Transport) -> bytes:
    """A message as far as it can be made to fit; itself if it does. Its lines end with CRLF, but in binary parts."""
    size = header_end(octets)
    block = octets[:size]
    fields = split_header(block)
    values = header_values(block, fields, MIME_FIELDS)
    root = parse_structure(octets, size, values)
    converter = _Converter(octets, size, transport)
    converter.convert(root, is_message=True)
    return b"".join(converter.out)


def has_utf8_header(octets: bytes) -> bool:
    """Whether a header at any level of a message is not ASCII: then it is an internationalized one (RFC 6532 §3,
    RFC 6531 §3.2)."""
    if octets.isascii():
        return False
    size = header_end(octets)
    block = octets[:size]
    values = header_values(block, split_header(block), MIME_FIELDS)
    parts = [parse_structure(octets, size, values)]
    while parts:
        part = parts.pop()
        if not octets[size + part.header_start : size + part.body_start].isascii():
            return True
        parts += part.children
    return False


class _Converter:
    """The output of one conversion. Offsets of parts are relative to `base`."""

    def __init__(self, octets: bytes, base: int, transport: Transport) -> None:
        self.octets = octets
        self.base = base
        self.transport = transport
        self.out: list[bytes] = []
        self.changed = False
        self._labels: dict[int, bytes] = {}
        """What encoding pieces of the output are in, as far as anybody asked: each is looked at once."""

    def _label(self, number: int) -> bytes:
        label = self._labels.get(number)
        if label is None:
            piece = self.out[number]
            label = (b"7bit" if piece.isascii() else b"8bit") if is_clean(piece) else b"binary"
            self._labels[number] = label
        return label

    def _slice(self, start: int, end: int) -> bytes:
        return self.octets[self.base + start : self.base + end]

    def _fits(self, octets: bytes) -> bool:
        return fits(octets, self.transport)

    def convert(self, part: Part, *, is_message: bool = False) -> None:
        """Writes a part, header and body."""
        header = self._slice(part.header_start, part.body_start)
        if has_long_line(header):
            header = fold_long_lines(header)
        place = len(self.out)
        self.out.append(header)
        was_changed, self.changed = self.changed, False
        encoding = part.encoding
        if part.is_multipart:
            self._multipart(part)
        elif part.is_message and part.subtype == b"rfc822":
            self.convert(part.children[0], is_message=True)
        else:
            encoding = self._leaf(part)
        if encoding == b"binary" or (self.changed and encoding in _IDENTITY):
            inside = range(place + 1, len(self.out))
            encoding = max((self._label(number) for number in inside), default=b"7bit")
        if encoding != part.encoding:
            self.out[place] = _labelled(
                header, encoding, self._plain_body(part), is_message=is_message
            )
            self.changed = True
        self.changed = self.changed or was_changed

    def _plain_body(self, part: Part) -> bytes | None:
        """The body, if its type is only supposed."""
        if (part.type, part.subtype) != (b"text", b"plain") or part.parameter(
            b"charset"
        ) != b"us-ascii":
            return None
        return self._slice(part.body_start, part.end)

    def _multipart(self, part: Part) -> None:
        body = self._slice(part.body_start, part.end)
        children = part.children
        if part.subtype in _SEALED or children[0].header_start == part.end:  # or without any part
            self.out.append(body)
            return
        self.out.append(self._preamble(self._slice(part.body_start, children[0].header_start)))
        self.convert(children[0])
        for before, child in pairwise(children):
            self.out.append(self._slice(before.end, child.header_start))
            self.convert(child)
        self.out.append(self._epilogue(self._slice(children[-1].end, part.end)))

    def _preamble(self, octets: bytes) -> bytes:
        """Up to the first part. Nobody reads a preamble (RFC 2046 §5.1.1), so one that does not fit goes."""
        if self._fits(octets):
            return octets
        self.changed = True
        line_end = octets.rfind(b"\n--", 0, max(0, len(octets) - 1))
        return octets[line_end + 1 :]

    def _epilogue(self, octets: bytes) -> bytes:
        """From the last part on: the same."""
        if self._fits(octets):
            return octets
        self.changed = True
        delimiter = octets.find(b"\n--")
        return octets[: octets.find(b"\n", delimiter + 1) + 1]

    def _leaf(self, part: Part) -> bytes:
        """Writes the body; returns its encoding."""
        body = self._slice(part.body_start, part.end)
        encoding = part.encoding
        if (part.type == b"message" and part.subtype in _NEVER_ENCODED) or self._fits(body):
            pass
        elif encoding == b"base64":
            body = _format_base64(decode_base64(body))
            self.changed = True
        elif encoding == b"quoted-printable":
            body = _format_qp(_decode_qp(body), is_text=part.type == b"text")
            self.changed = True
        elif encoding in _IDENTITY:
            is_lines = part.type == b"text" and b"\0" not in body and not has_bare_cr_or_lf(body)
            encoding = b"quoted-printable" if is_lines else b"base64"
            body = _format_qp(body, is_text=True) if is_lines else _format_base64(body)
            self.changed = True
        self.out.append(body)
        return encoding


def _format_base64(octets: bytes) -> bytes:
    """Without a line end behind the last line: that belongs to the delimiter."""
    lines = [
        b2a_base64(octets[start : start + _BASE64_OCTETS], newline=False)
        for start in range(0, len(octets), _BASE64_OCTETS)
    ]
    return b"\r\n".join(lines)


def _decode_qp(octets: bytes) -> bytes:
    return b"".join([a2b_qp(piece) for piece in _slices(octets)])


def _format_qp(octets: bytes, *, is_text: bool) -> bytes:
    """Of text, lines stay lines."""
    encode = _format_qp_text if is_text and not has_bare_cr_or_lf(octets) else _format_qp_octets
    out: list[bytes] = []
    for piece in _slices(octets, anywhere=True):
        if out and not out[-1].endswith(b"\n"):
            out.append(b"=\r\n")
        out.append(encode(piece))
    return b"".join(out)


def _format_qp_text(octets: bytes) -> bytes:
    # A line end tells `b2a_qp` how lines end; what it adds goes again.
    return b2a_qp(b"\r\n" + octets, istext=True)[2:]


def _format_qp_octets(octets: bytes) -> bytes:
    encoded = b2a_qp(octets, istext=False)
    return encoded.replace(b"=\n", b"=\r\n") if b"=\r\n" not in encoded else encoded


def _slices(octets: bytes, *, anywhere: bool = False) -> Iterator[bytes]:
    """Pieces for codecs that keep the interpreter from other threads while they work: whole lines, or where a line is
    too long for that and `anywhere`, parts of it, but never of a CRLF."""
    start, size = 0, len(octets)
    while start < size:
        end = min(start + _SLICE_OCTETS, size)
        line_end = octets.rfind(b"\n", start, end) if end < size else size - 1
        if line_end >= 0:
            end = line_end + 1
        elif anywhere:
            end -= octets[end - 1] == 13
        else:
            end = (octets.find(b"\n", end) + 1) or size
        yield octets[start:end]
        start = end


def _labelled(header: bytes, encoding: bytes, plain: bytes | None, *, is_message: bool) -> bytes:
    """A header block with another Content-Transfer-Encoding. `plain` is the body of a part that may lack a type."""
    fields = split_header(header)
    names = {name for name, _, _ in fields}
    kept = _without(header, fields, b"content-transfer-encoding")
    cut = len(kept) - (2 if kept.endswith(b"\r\n") else 1 if kept.endswith(b"\n") else 0)
    added = b""
    if is_message and b"mime-version" not in names:  # RFC 2045 §4
        added += _MIME_VERSION
    if plain is not None and b"content-type" not in names:
        added += b"Content-Type: text/plain; charset=%b\r\n" % _charset(plain)
    added += b"Content-Transfer-Encoding: %b\r\n" % encoding
    return kept[:cut] + added + kept[cut:]


def _charset(body: bytes) -> bytes:
    """For 8-bit text that does not tell (RFC 1428 §3)."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return b"unknown-8bit"
    return b"us-ascii" if body.isascii() else b"utf-8"


def _without(header: bytes, fields: list[FieldSpan], name: bytes) -> bytes:
    pieces, position = [], 0
    for field, start, end in fields:
        if field == name:
            pieces.append(header[position:start])
            position = end
    return b"".join((*pieces, header[position:]))


def fold_long_lines(header: bytes) -> bytes:
    """A header block whose lines over 998 octets are folded (RFC 5322 §2.2.3), where they have white space."""
    lines = header.split(b"\r\n")
    return b"\r\n".join(_fold(line) if len(line) > LONGEST_LINE else line for line in lines)


def _fold(line: bytes) -> bytes:
    pieces: list[bytes] = []
    start = last = 0
    has_text = False  # between `start` and `last`: no line has white space only (RFC 5322 §3.2.2)
    for match in _FOLDING.finditer(line, 1):
        place = match.start()
        if place - start > _FOLD_AT and has_text:
            pieces.append(line[start:last])
            start, has_text = last, False
        has_text = has_text or bool(line[last:place].strip())
        last = place
    if len(line) - start > _FOLD_AT and has_text:
        pieces.append(line[start:last])
        start = last
    return b"\r\n".join((*pieces, line[start:]))
