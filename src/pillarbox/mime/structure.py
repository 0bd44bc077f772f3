"""The part tree of a message (RFC 2046 §5.1, §5.2.1), found in one pass over its delimiter lines.

Tolerant: a multipart without a boundary is plain text, one that is not closed ends with what encloses it, and a
delimiter line that appears in the header of a part ends it. Time is linear in the size of the message, however its
parts nest; there is no recursion.
"""

from dataclasses import dataclass, field

from pillarbox.mime.comments import remove_comments
from pillarbox.mime.envelope import ENVELOPE_FIELDS, parse_addresses, render_envelope
from pillarbox.mime.header import HeaderValues, header_end, header_values, split_header
from pillarbox.mime.lines import count_lf
from pillarbox.mime.parameters import (
    MAX_PARAMETERS,
    Parameters,
    find_parameter,
    parse_content_type,
    parse_disposition,
    parse_keyword,
)
from pillarbox.mime.remember import remembering

MAX_PARTS = 1_000
"""Parts of a message; the one that reaches the number takes all that follows, as application/octet-stream."""

MAX_DEPTH = 100
"""Levels of parts; a multipart or message below is application/octet-stream."""


@dataclass(slots=True)
class Part:
    """A node of the part tree.

    Offsets are in octets relative to the end of the message's own header block, so that fields put in front of a
    message change none of them; the header of the message itself starts at minus its size.
    """

    header_start: int
    body_start: int
    """First octet after the blank line."""
    end: int
    """One past the last octet of the body; the line end before a delimiter line belongs to the delimiter."""
    type: bytes
    """Lower case, like `subtype` and `encoding`."""
    subtype: bytes
    parameters: Parameters
    encoding: bytes = b"7bit"
    lines: int = 0
    """Line ends in the body."""
    children: list["Part"] = field(default_factory=list)
    """Of a multipart, its parts, at least one; of message/rfc822 and message/global, the message in it."""
    envelope: bytes = b""
    """Of a message, contained or not: ENVELOPE in wire form. Of its parts: empty."""
    content_id: bytes | None = None
    description: bytes | None = None
    md5: bytes | None = None
    disposition: tuple[bytes, Parameters] | None = None
    language: list[bytes] = field(default_factory=list)
    location: bytes | None = None

    @property
    def is_multipart(self) -> bool:
        return self.type == b"multipart"

    @property
    def is_message(self) -> bool:
        """Whether the body is a message with a header of its own (RFC 2046 §5.2.1, RFC 6532 §3.7)."""
        return self.type == b"message" and bool(self.children)

    def parameter(self, name: bytes) -> bytes | None:
        """A Content-Type parameter by its lower-case name."""
        return find_parameter(self.parameters, name)


_parse_type = remembering(parse_content_type, longest=80, most=512)

MIME_FIELDS = frozenset(
    b"content-" + name
    for name in b"type transfer-encoding id description md5 disposition language location".split()
)
_CONTAINED_MESSAGE_FIELDS = MIME_FIELDS | ENVELOPE_FIELDS

_Type = tuple[bytes, bytes, Parameters]
# RFC 2045 §5.2, RFC 2046 §5.1.5
_PLAIN: _Type = (b"text", b"plain", [(b"charset", b"us-ascii")])
_MESSAGE: _Type = (b"message", b"rfc822", [])
_OPAQUE: _Type = (b"application", b"octet-stream", [])


def parse_structure(octets: bytes, header_size: int, values: HeaderValues) -> Part:
    """The part tree of a message whose header block has `header_size` octets, and `values` in its MIME_FIELDS."""
    root = _make_part(values, (-header_size, 0), _PLAIN)
    if root.type in (b"multipart", b"message"):
        _Builder(octets, header_size).build(root)
    else:
        root.end = len(octets) - header_size
        root.lines = count_lf(octets, header_size)
    return root


def _make_part(values: HeaderValues, start: tuple[int, int], default: _Type) -> Part:
    """A part without its end; `start` is that of its header and of its body."""
    value = values.get(b"content-type")
    # RFC 2045 §5.2: what is absent has a default, what is unusable is plain text.
    type_, subtype, parameters = default if value is None else (_parse_type(value) or _PLAIN)
    part = Part(*start, start[1], type_, subtype, parameters)
    if (value := values.get(b"content-transfer-encoding")) is not None:
        part.encoding = parse_keyword(value) or b"7bit"
    part.content_id = values.get(b"content-id")
    part.description = values.get(b"content-description")
    part.md5 = values.get(b"content-md5")
    part.location = values.get(b"content-location")
    if (value := values.get(b"content-disposition")) is not None:
        part.disposition = parse_disposition(value)
    if (value := values.get(b"content-language")) is not None:
        tags = remove_comments(value).split(b",")[:MAX_PARAMETERS]
        part.language = [tag.strip() for tag in tags if tag.strip()]
    return part


def _may_contain_message(part: Part) -> bool:
    return part.type == b"message" and part.subtype in (b"rfc822", b"global")


@dataclass(slots=True)
class _OpenPart:
    part: Part
    boundary: bytes | None = None
    """Whose delimiter lines are its own; of a multipart that is not closed."""
    outer_level: int | None = None
    """Where in the stack the multipart with the same boundary is that encloses this one."""


class _Builder:
    """The parts that are open while the delimiter lines of a message go by. Offsets here are in `octets`."""

    def __init__(self, octets: bytes, header_size: int) -> None:
        self.octets = octets
        self.header_size = header_size
        self.count = 0
        self.stack: list[_OpenPart] = []
        # Boundary -> place of its multipart in the stack. Of two with the same boundary, which the RFC forbids
        # and Outlook Express for Macintosh sends, the inner one until it is closed.
        self.levels: dict[bytes, int] = {}
        # Of the line end from which on the next delimiter line is looked for.
        self.position = header_size - 1
        # End of the header block found last; one that starts before it ends there too.
        self.blank = -1
        self.counted = header_size  # line ends are counted up to here
        self.lines = 0

    def build(self, root: Part) -> None:
        self._push(root)
        self._open_message(root)
        while self.count < MAX_PARTS and self.levels:
            delimiter = self._next_delimiter(len(self.octets))
            if delimiter is None:
                break
            line_start, level, is_close = delimiter
            self._close_down_to(level + 1, self._before_line_end(line_start))
            if is_close:
                self._forget_boundary(self.stack[level])
                continue
            multipart = self.stack[level].part
            default = _MESSAGE if multipart.subtype == b"digest" else _PLAIN
            self._open(multipart, min(self.position + 1, len(self.octets)), default)
        self._close_down_to(0, len(self.octets))

    def _next_delimiter(self, limit: int) -> tuple[int, int, bool] | None:
        """The next delimiter line that starts before `limit` and belongs to an open multipart: its start, the
        multipart's place in the stack, and whether it is the last. `position` moves to its end.

        DEVIATES: RFC 2046 §5.1.1 would be content with a line that only begins with the boundary; but then the
        boundary "a" of a multipart would match "ab" of another.
        """
        octets, levels, position = self.octets, self.levels, self.position
        while (found := octets.find(b"\n--", position, limit + 2)) >= 0:
            position = octets.find(b"\n", found + 3)
            if position < 0:
                position = len(octets)
            text = octets[found + 3 : position].rstrip(b" \t\r")
            is_close = text not in levels and text.endswith(b"--")
            level = levels.get(text[:-2] if is_close else text)
            if level is not None:
                self.position = position
                return found + 1, level, is_close
        self.position = position
        return None

    def _before_line_end(self, line_start: int) -> int:
        """The offset before the CRLF or LF that ends the line before `line_start`."""
        return line_start - (2 if self.octets[line_start - 2 : line_start] == b"\r\n" else 1)

    def _open(self, parent: Part, start: int, default: _Type) -> None:
        """Reads the header at `start` and makes its part the last child of `parent`; likewise the message in it."""
        part = self._read_part(start, MIME_FIELDS, default)
        parent.children.append(part)
        self._push(part)
        self._open_message(part)

    def _open_message(self, parent: Part) -> None:
        """Opens the message that `parent` contains, and the one in that, and so on."""
        while _may_contain_message(parent):
            start = parent.body_start + self.header_size
            part = self._read_part(start, _CONTAINED_MESSAGE_FIELDS, _PLAIN)
            parent.children.append(part)
            self._push(part)
            parent = part

    def _read_part(self, start: int, wanted: frozenset[bytes], default: _Type) -> Part:
        base = self.header_size
        body_start = self._header_end(start)
        block = self.octets[start:body_start]
        values = header_values(block, split_header(block), wanted)
        part = _make_part(values, (start - base, body_start - base), default)
        if wanted is _CONTAINED_MESSAGE_FIELDS:
            part.envelope = render_envelope(values, parse_addresses(values))
        return part

    def _header_end(self, start: int) -> int:
        """The end of the header block at `start`: after its blank line, or before a delimiter line."""
        if self.blank <= start:
            self.blank = header_end(self.octets, start)
        elif self.octets.startswith((b"\n", b"\r\n"), start):
            return start + (1 if self.octets[start] == 10 else 2)
        delimiter = self._next_delimiter(self.blank - 1)
        if delimiter is not None:
            self.position = delimiter[0] - 1  # it is met again, with the part open
            return delimiter[0]
        self.position = self.blank - 1
        return self.blank

    def _push(self, part: Part) -> None:
        self.count += 1
        part.lines = -self._lines_before(part.body_start + self.header_size)
        is_container = part.is_multipart or _may_contain_message(part)
        if self.count >= MAX_PARTS or (is_container and len(self.stack) >= MAX_DEPTH):
            part.type, part.subtype, part.parameters = _OPAQUE
        open_part = _OpenPart(part)
        if part.is_multipart:
            boundary = (part.parameter(b"boundary") or b"").rstrip()
            if boundary:
                open_part.boundary = boundary
                open_part.outer_level = self.levels.get(boundary)
                self.levels[boundary] = len(self.stack)
            else:  # RFC 2045 §5.2: unusable
                part.type, part.subtype, part.parameters = _PLAIN
        self.stack.append(open_part)

    def _forget_boundary(self, multipart: _OpenPart) -> None:
        if multipart.boundary is None:
            return
        if multipart.outer_level is None:
            del self.levels[multipart.boundary]
        else:
            self.levels[multipart.boundary] = multipart.outer_level
        multipart.boundary = None

    def _close_down_to(self, height: int, end: int) -> None:
        """The parts above `height` end at `end`, or at the body of the innermost: after its header."""
        if len(self.stack) <= height:
            return
        end = max(end - self.header_size, self.stack[-1].part.body_start)
        lines = self._lines_before(end + self.header_size)
        while len(self.stack) > height:
            open_part = self.stack.pop()
            self._forget_boundary(open_part)
            part = open_part.part
            part.end = end
            part.lines += lines
            if part.is_multipart and not part.children:  # RFC 3501 §9 body-type-mpart needs one
                part.children.append(Part(end, end, end, *_PLAIN))

    def _lines_before(self, offset: int) -> int:
        """Line ends in the body up to `offset`, which never goes back."""
        self.lines += self.octets.count(b"\n", self.counted, offset)
        self.counted = offset
        return self.lines
