"""Where a section of a message is (RFC 3501 §6.4.5 BODY[section]<partial>). Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from pillarbox.imap.syntax_fetch import Section
from pillarbox.mime.header import select_fields
from pillarbox.mime.parts import find_part


@dataclass(slots=True)
class Message:
    """What must be known to find a section: the header block, the octets behind it, the part table."""

    header: bytes
    body_size: int
    parts: bytes


@dataclass(slots=True)
class Span:
    """Octets of a message: `head`, then the body (what is behind the header block) from `start` to `end`."""

    head: bytes
    start: int = 0
    end: int = 0

    @property
    def size(self) -> int:
        return len(self.head) + self.end - self.start

    def clip(self, partial: tuple[int, int] | None) -> "Span":
        """What a partial FETCH wants of it: (first octet, count). It may reach behind the end."""
        if partial is None:
            return self
        first, count = partial
        head = self.head[first : first + count]
        start = min(self.start + max(0, first - len(self.head)), self.end)
        return Span(head, start, min(start + count - len(head), self.end))


def locate(section: Section, message: Message) -> Span | None:
    """The octets of a section before its list of fields is applied; None: there is no such part."""
    if not section.part:
        return _locate_top(section.text, message)
    if not message.parts:
        # A single part: 1 is the body, and the message's header is also the part's.
        if section.part != (1,):
            return None
        if section.text == "MIME":
            return Span(message.header)
        return Span(b"", 0, message.body_size) if not section.text else None
    part = find_part(message.parts, section.part)
    if part is None:
        return None
    match section.text:
        case "":
            return Span(b"", part.body_start, part.end)
        case "MIME":
            if part.header_start < 0:  # the part is the message
                return Span(message.header)
            return Span(b"", part.header_start, part.body_start)
    if part.text_start is None:
        return None
    if section.text == "TEXT":
        return Span(b"", part.text_start, part.end)
    return Span(b"", part.body_start, part.text_start)


def _locate_top(text: str, message: Message) -> Span:
    if text == "":
        return Span(message.header, 0, message.body_size)
    if text == "TEXT":
        return Span(b"", 0, message.body_size)
    return Span(message.header)


def fields_of(section: Section, header: bytes) -> Iterator[bytes]:
    """What HEADER.FIELDS or HEADER.FIELDS.NOT leaves of a header block, in pieces of a few milliseconds each."""
    names = frozenset(name.lower() for name in section.fields)
    return select_fields(header, names, invert=section.text == "HEADER.FIELDS.NOT")
