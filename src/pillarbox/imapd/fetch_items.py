"""What FETCH renders: a list of items becomes columns to read and one template for all messages (RFC 3501 §7.4.2).

A `Plan` is made once a command. Each item fills its places in the template a column at a time, so that a slice of
messages costs a few list comprehensions and one formatting each.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

from pillarbox.core.dates import format_internaldate, pack_date
from pillarbox.imap.syntax_fetch import FetchItem, Section
from pillarbox.imapd.body import body_of
from pillarbox.imapd.extensions.binary import NAMES as BINARY_NAMES
from pillarbox.imapd.objectid import emailid, threadid
from pillarbox.imapd.sections import Message, fields_of, locate
from pillarbox.imapd.selected import Selected
from pillarbox.imapd.view import with_recent
from pillarbox.mime.wire import string
from pillarbox.store.content import FIELD_CODES, PIECE_OCTETS
from pillarbox.store.tx import Tx

UID = FetchItem("UID", b"UID")
FLAGS = FetchItem("FLAGS", b"FLAGS")

Rows = Sequence[tuple[Any, ...]]


@dataclass(slots=True)
class Slice:
    """Messages to render: the values of each column, in the order of the messages."""

    tx: Tx
    selected: Selected
    columns: dict[str, tuple[Any, ...]]
    short_bodies: dict[bytes, bytes]
    """BODY by BODYSTRUCTURE."""


Fill = Callable[[Slice], Sequence[Iterable[Any]]]
"""Gives the values for each place of an item's template, for all messages of a slice."""


@dataclass(slots=True, frozen=True)
class Renderer:
    """How one item is rendered: its piece of the template, the columns it needs, and what fills its places."""

    template: bytes
    columns: tuple[str, ...]
    fill: Fill


LARGEST_SLICE = 1 << 20
"""Octets of header blocks and bodies that are read in one slice, counted for each section of them."""
LARGEST_SEARCHED_SLICE = 1 << 18
"""The same of header blocks in which fields are looked for: with the shortest of fields some 20 ms."""
MOST_SECTIONS = 16
"""Of a message with more, each is sent by itself."""

LARGEST_RENDERED_SLICE = 1 << 20
"""Octets of ENVELOPE and BODYSTRUCTURE that are read in one slice."""

_NARROW = frozenset(("uid", "flags", "modseq", "size", "internaldate", "savedate", "content"))


def _weight(columns: tuple[str, ...], sections: Sequence[FetchItem]) -> tuple[str, int]:
    if "header" not in columns and "body" not in columns:
        return "", 0
    searches = any(item.section and item.section.fields for item in sections)
    limit = LARGEST_SEARCHED_SLICE if searches else LARGEST_SLICE
    return ("size" if "body" in columns else "header_size"), limit // max(1, len(sections))


class Plan:
    """A compiled list of items. With `seen_modseq`, messages whose flags were changed under it show them, too."""

    __slots__ = (
        "_fills",
        "_items",
        "_seen_modseq",
        "_template",
        "body_at",
        "columns",
        "is_rendered",
        "is_streamed",
        "largest",
        "limit",
        "most_rows",
        "reads_content",
        "sections",
        "shape_at",
        "short_bodies",
        "size_at",
        "weight",
    )

    def __init__(self, items: Sequence[FetchItem], seen_modseq: int = 0) -> None:
        renderers = [_renderer(item) for item in items]
        pieces = b" ".join(renderer.template for renderer in renderers)
        if seen_modseq and FLAGS not in items:
            renderers.append(_newly_seen(seen_modseq, b" " if pieces else b""))
            pieces += renderers[-1].template
        wanted = tuple(chain.from_iterable(renderer.columns for renderer in renderers))
        self.sections = [item for item in items if item.section is not None]
        self.weight, self.limit = _weight(wanted, self.sections)
        """The column that tells how much is read for a message ("": little), and how much of it a slice may read."""
        self.largest = min(self.limit, PIECE_OCTETS)
        """A message of which more is read goes out in pieces."""
        sizes = ("size",) if self.weight == "size" else ()
        self.columns = tuple(dict.fromkeys(("uid", *wanted, *sizes)))
        """For `messages.select`; the first is always the UID."""
        self.size_at = self.columns.index("size") if sizes else -1
        """The place in a row with the message's size, where its body is read; else -1."""
        self.reads_content = not _NARROW.issuperset(self.columns)
        """Whether more is read than the narrow rows of messages."""
        self.is_rendered = not {"envelope", "bodystructure"}.isdisjoint(self.columns)
        """Whether a hostile message can make a row much larger than the message."""
        has_body = any(item.name == "BODY" and item.section is None for item in items)
        self.body_at = self.columns.index("bodystructure") if has_body else -1
        """The place in a row from which BODY is made; -1: it is not wanted."""
        self.short_bodies: dict[bytes, bytes] = {}
        """BODY by BODYSTRUCTURE, for the next rows to be rendered; of a row that is rendered alone it is made then."""
        self.shape_at = self.columns.index("shape") if "shape" in self.columns else -1
        """The place in a row that is NULL if the common fields are not stored apart, so that it cannot be rendered;
        -1: that does not matter."""
        self.is_streamed = len(self.sections) > MOST_SECTIONS or any(
            item.name in BINARY_NAMES for item in items
        )
        """Whether each message takes more than its row."""
        self._items = items
        self._seen_modseq = seen_modseq
        self._template = b"* %%d FETCH (%b)\r\n" % pieces
        self.most_rows = max(1, LARGEST_SLICE // len(self._template))
        """Of a slice: names of fields may be long, and stand in each response."""
        self._fills = [renderer.fill for renderer in renderers]

    def without_sections(self) -> "Plan":
        """The plan for what is left when the sections are sent in another way."""
        items = [item for item in self._items if item.section is None]
        return Plan(items, self._seen_modseq)

    def render(self, tx: Tx, selected: Selected, numbers: Iterable[int], rows: Rows) -> list[bytes]:
        """The FETCH responses for rows of `columns`, at least one; `numbers` are their message numbers."""
        columns = dict(zip(self.columns, zip(*rows, strict=True), strict=True))
        part = Slice(tx, selected, columns, self.short_bodies)
        values = chain.from_iterable([fill(part) for fill in self._fills])
        template = self._template
        return [template % message for message in zip(numbers, *values, strict=True)]


# Items without a section


def _flags(part: Slice) -> Sequence[Iterable[Any]]:
    selected, flags = part.selected, part.columns["flags"]
    selected.learn_flags(part.tx, flags)
    texts = list(map(selected.flag_texts.__getitem__, flags))
    for recent in selected.view.recent_slices(part.columns["uid"]):
        known = texts[recent]
        shown = {text: with_recent(text) for text in set(known)}
        texts[recent] = map(shown.__getitem__, known)
    return (texts,)


def _newly_seen(modseq: int, behind: bytes) -> Renderer:
    """FLAGS, `behind` other items, where \\Seen was set by this command (RFC 3501 §6.4.5: SHOULD be included)."""

    def fill(part: Slice) -> Sequence[Iterable[Any]]:
        (texts,) = _flags(part)
        changed = part.columns["modseq"]
        return (
            [
                b"%bFLAGS (%b)" % (behind, text) if of_row == modseq else b""
                for text, of_row in zip(texts, changed, strict=True)
            ],
        )

    return Renderer(b"%b", ("flags", "modseq"), fill)


def _column(name: str, template: bytes) -> Renderer:
    """An item that is a column as it stands."""
    return Renderer(template, (name,), lambda part: (part.columns[name],))


def _mapped(name: str, template: bytes, function: Callable[[Any], bytes]) -> Renderer:
    return Renderer(template, (name,), lambda part: (map(function, part.columns[name]),))


def _object_id(name: str, template: bytes, make: Callable[[int, int], bytes]) -> Renderer:
    """RFC 8474 §5.3."""

    def fill(part: Slice) -> Sequence[Iterable[Any]]:
        account = part.tx.account
        return ([make(account, number) for number in part.columns[name]],)

    return Renderer(template, (name,), fill)


def _bodies(part: Slice) -> Sequence[Iterable[Any]]:
    known = part.short_bodies
    return ([known.get(text) or body_of(text) for text in part.columns["bodystructure"]],)


_PLAIN: dict[str, Renderer] = {
    "UID": _column("uid", b"UID %d"),
    "FLAGS": Renderer(b"FLAGS (%b)", ("flags",), _flags),
    "INTERNALDATE": _mapped("internaldate", b"INTERNALDATE %b", format_internaldate),
    "RFC822.SIZE": _column("size", b"RFC822.SIZE %d"),
    "EMAILID": _object_id("content", b"EMAILID (%b)", emailid),
    "THREADID": _object_id("thread", b"THREADID (%b)", threadid),
    "SAVEDATE": _mapped(
        "savedate", b"SAVEDATE %b", lambda saved: format_internaldate(pack_date(saved))
    ),
    # RFC 8970 §3.2
    "PREVIEW": _mapped("preview", b"PREVIEW %b", lambda text: string(text.encode())),
    "MODSEQ": _column("modseq", b"MODSEQ (%d)"),
    "ENVELOPE": _column("envelope", b"ENVELOPE %b"),
    "BODYSTRUCTURE": _column("bodystructure", b"BODYSTRUCTURE %b"),
    "BODY": Renderer(b"BODY %b", ("bodystructure",), _bodies),
}


_STREAMED = Renderer(b"", (), lambda part: ())
"""Of items that are never rendered from a row."""


def _renderer(item: FetchItem) -> Renderer:
    if item.section is None:
        return _PLAIN[item.name]
    if item.name in BINARY_NAMES:
        return _STREAMED
    label = item.label.replace(b"%", b"%%")
    section = item.section
    if item.partial is None and not section.part:
        if section.text == "":
            return Renderer(label + b" {%d}\r\n%b%b", ("header", "body"), _whole)
        if section.text == "HEADER":
            return Renderer(label + b" %b", ("header",), _header)
        if section.text == "TEXT":
            return Renderer(label + b" %b", ("body",), _text)
        codes = [FIELD_CODES.get(name.lower()) for name in section.fields]
        if section.text == "HEADER.FIELDS" and None not in codes:
            fill = _common_fields(section, bytes(code for code in codes if code))
            return Renderer(label + b" %b", ("shape", "fields"), fill)
    columns: tuple[str, ...] = ("header", "size", "parts")
    if section.part or not section.text.startswith("HEADER"):
        columns += ("body",)
    return Renderer(label + b" %b", columns, _any_section(item, section))


# Sections


def literal(octets: bytes) -> bytes:
    """NUL is sent as 0x80, since no literal can carry it (RFC 3501 §4.3, §9 CHAR8)."""
    return b"{%d}\r\n%b" % (len(octets), without_nul(octets))


def without_nul(octets: bytes) -> bytes:
    return octets.replace(b"\0", b"\x80") if b"\0" in octets else octets


def _whole(part: Slice) -> Sequence[Iterable[Any]]:
    headers = part.columns["header"]
    bodies = [body or b"" for body in part.columns["body"]]
    sizes = [len(header) + len(body) for header, body in zip(headers, bodies, strict=True)]
    return sizes, map(without_nul, headers), map(without_nul, bodies)


def _header(part: Slice) -> Sequence[Iterable[Any]]:
    return (map(literal, part.columns["header"]),)


def _text(part: Slice) -> Sequence[Iterable[Any]]:
    return ([literal(body or b"") for body in part.columns["body"]],)


def _any_section(item: FetchItem, section: Section) -> Fill:
    """Sections of all kinds, also partial ones, of messages whose body is one piece at most."""

    def render(header: bytes, size: int, parts: bytes, body: bytes | None) -> bytes:
        span = locate(section, Message(header, size - len(header), parts))
        if span is None:
            return b"NIL"
        octets = span.head + (body or b"")[span.start : span.end]
        if section.fields:
            octets = b"".join(fields_of(section, octets))
        if item.partial is not None:
            first, count = item.partial
            octets = octets[first : first + count]
        return literal(octets)

    def fill(part: Slice) -> Sequence[Iterable[Any]]:
        columns = part.columns
        headers = columns["header"]
        bodies = columns.get("body") or (None,) * len(headers)
        return (map(render, headers, columns["size"], columns["parts"], bodies),)

    return fill


def _common_fields(section: Section, codes: bytes) -> Fill:
    """HEADER.FIELDS of fields that are stored apart from the header block, which is not read then."""
    places: dict[bytes, Callable[[list[bytes]], Iterable[bytes]]] = {}

    def pick(shape: bytes) -> Callable[[list[bytes]], Iterable[bytes]]:
        wanted = [place for place, code in enumerate(shape) if code in codes]
        if not wanted:
            return lambda fields: ()
        if len(wanted) == 1:
            only = wanted[0]
            return lambda fields: (fields[only],)
        return itemgetter(*wanted)

    def fill(part: Slice) -> Sequence[Iterable[Any]]:
        values = []
        for shape, fields in zip(part.columns["shape"], part.columns["fields"], strict=True):
            take = places.get(shape)
            if take is None:
                take = places[shape] = pick(shape)
            octets = b"".join(take(fields.split(b"\0")))
            octets += b"\r\n" if not octets or octets.endswith(b"\n") else b"\r\n\r\n"
            values.append(b"{%d}\r\n%b" % (len(octets), octets))
        return (values,)

    return fill
