"""FETCH, its items and modifiers (RFC 3501 §6.4.5, RFC 3516 §4.2, RFC 4466 §2.4). A new item without arguments is one
more name in `_ITEMS`."""

import re
from dataclasses import dataclass
from functools import lru_cache

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.responses import astring
from pillarbox.imap.seqset import SeqSet
from pillarbox.imap.syntax_partial import Partial, parse_partial

MAX_ITEMS = 1000
"""Our limit for the items of one FETCH, each counted once."""

KEPT_LISTS = 256
"""Lists of items that are known as they were written: a client asks for the same few again and again."""
LONGEST_KEPT = 256
"""Octets of one."""


@dataclass(slots=True, frozen=True)
class Section:
    """What of a message. `part` is empty for the message itself; `text` is "", "HEADER", "HEADER.FIELDS",
    "HEADER.FIELDS.NOT", "TEXT" or "MIME"; `fields` are upper case, each once, in the order given."""

    part: tuple[int, ...] = ()
    text: str = ""
    fields: tuple[bytes, ...] = ()


@dataclass(slots=True, frozen=True)
class FetchItem:
    """`name` is that of the RFC, "BODY[]" or "BINARY[]" for all with a section in brackets. `label` is the item's
    name in the response, origin octet included. `section` is there for every item whose value is octets of the message,
    RFC822 too; `partial` is (first octet from 0, count). `sets_seen`: the flag `\\Seen` is implicitly set."""

    name: str
    label: bytes
    section: Section | None = None
    partial: tuple[int, int] | None = None
    sets_seen: bool = False


@dataclass(slots=True)
class Fetch:
    """Macros are expanded; no item stands twice; for UID FETCH the items always hold UID (RFC 3501 §6.4.8).

    `changed_since` is a mod-sequence, None without it; `vanished`: what was expunged since then is wanted, too
    (RFC 7162 §3.1.4.1, §3.2.6). `partial`: only these of the messages (RFC 9394 §3.3).
    """

    sequence: SeqSet
    items: tuple[FetchItem, ...]
    uid: bool = False
    changed_since: int | None = None
    vanished: bool = False
    partial: Partial | None = None


def _plain_items(*names: str) -> dict[bytes, FetchItem]:
    return {name.encode("ascii"): FetchItem(name, name.encode("ascii")) for name in names}


_ITEMS: dict[bytes, FetchItem] = {
    **_plain_items("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE"),
    **_plain_items("ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ"),
    **_plain_items("EMAILID", "THREADID", "SAVEDATE", "PREVIEW"),
    # RFC 3501 §6.4.5: functionally equivalent to BODY[], BODY.PEEK[HEADER], BODY[TEXT]
    b"RFC822": FetchItem("RFC822", b"RFC822", Section(), sets_seen=True),
    b"RFC822.HEADER": FetchItem("RFC822.HEADER", b"RFC822.HEADER", Section(text="HEADER")),
    b"RFC822.TEXT": FetchItem("RFC822.TEXT", b"RFC822.TEXT", Section(text="TEXT"), sets_seen=True),
}

_UID = _ITEMS[b"UID"]
MODSEQ = _ITEMS[b"MODSEQ"]
_FAST = (_ITEMS[b"FLAGS"], _ITEMS[b"INTERNALDATE"], _ITEMS[b"RFC822.SIZE"])
_MACROS: dict[bytes, tuple[FetchItem, ...]] = {
    b"FAST": _FAST,
    b"ALL": (*_FAST, _ITEMS[b"ENVELOPE"]),
    b"FULL": (*_FAST, _ITEMS[b"ENVELOPE"], _ITEMS[b"BODY"]),
}

_NAME = re.compile(rb"[A-Za-z0-9.]+")
_SECTION = re.compile(
    rb"\[(?:([1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*)(?:\.(HEADER|TEXT|MIME))?|(HEADER|TEXT))?"
    rb"(?:(?<=HEADER)(\.FIELDS(?:\.NOT)?) )?",
    re.IGNORECASE,
)
_BINARY = frozenset((b"BINARY", b"BINARY.PEEK", b"BINARY.SIZE"))
_BINARY_SECTION = re.compile(rb"\[((?:[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*)?)\]")
_LAZY = re.compile(rb" \(LAZY(?: LAZY)*+\)", re.IGNORECASE)
_PARTIAL = re.compile(rb"<([0-9]{1,10})\.([1-9][0-9]{0,9})>")


def parse_fetch(cursor: Cursor, uid: bool = False) -> Fetch:
    cursor.space()
    sequence = cursor.sequence_set()
    cursor.space()
    fetch = Fetch(sequence, _parse_items(cursor, uid), uid)
    if cursor.skip(b" "):
        cursor.parenthesised(lambda: _parse_modifier(cursor, fetch), "a list of modifiers")
        if fetch.vanished and fetch.changed_since is None:  # RFC 7162 §3.2.6
            raise RemoteError("VANISHED needs CHANGEDSINCE")
    return fetch


def _parse_modifier(cursor: Cursor, fetch: Fetch) -> None:
    match cursor.word("a modifier of FETCH"):
        case b"CHANGEDSINCE" if fetch.changed_since is None:
            cursor.space()
            fetch.changed_since = cursor.modseq()
            if MODSEQ not in fetch.items:  # RFC 7162 §3.1.4.1
                fetch.items += (MODSEQ,)
        case b"VANISHED" if fetch.uid:
            fetch.vanished = True
        case b"PARTIAL" if fetch.uid and fetch.partial is None:
            cursor.space()
            fetch.partial = parse_partial(cursor)
        case _:
            raise RemoteError("Unknown modifier of FETCH")


def _parse_items(cursor: Cursor, uid: bool) -> tuple[FetchItem, ...]:
    text = cursor.text[cursor.position :]
    end = text.find(b") (") + 1  # modifiers follow, with other numbers each time
    text = text[:end] if end else text
    if len(text) <= LONGEST_KEPT and b"{" not in text and b'"' not in text:
        items = _items_of(text, uid)
        if items is not None:
            cursor.position += len(text)
            return items
    return _read_items(cursor, uid)


@lru_cache(KEPT_LISTS)
def _items_of(text: bytes, uid: bool) -> tuple[FetchItem, ...] | None:
    """The items that a text without strings is. None: it is something else, or more."""
    cursor = Cursor(text)
    try:
        items = _read_items(cursor, uid)
    except RemoteError:
        return None
    return items if cursor.position == len(text) else None


def _read_items(cursor: Cursor, uid: bool) -> tuple[FetchItem, ...]:
    items: list[FetchItem] = [_UID] if uid else []
    if cursor.text.startswith(b"(", cursor.position):
        items += cursor.parenthesised(lambda: _parse_item(cursor), "data items")
    else:
        match = _NAME.match(cursor.text, cursor.position)
        macro = _MACROS.get(match[0].upper()) if match else None
        if match and macro:
            cursor.position = match.end()
            items += macro
        else:
            items.append(_parse_item(cursor))
    return _unique(items)


def parse_fetch_atts(cursor: Cursor) -> tuple[FetchItem, ...]:
    """A list in parentheses of single items, as other commands take it; no macros."""
    return _unique(cursor.parenthesised(lambda: _parse_item(cursor), "data items"))


def _unique(items: list[FetchItem]) -> tuple[FetchItem, ...]:
    unique = tuple(dict.fromkeys(items))
    if len(unique) > MAX_ITEMS:
        raise RemoteError(f"At most {MAX_ITEMS} data items are told at once")
    return unique


def _parse_item(cursor: Cursor) -> FetchItem:
    name = cursor.take(_NAME, "a data item")[0].upper()
    if cursor.text.startswith(b"[", cursor.position) and name in (b"BODY", b"BODY.PEEK"):
        return _parse_body(cursor, name == b"BODY.PEEK")
    if name in _BINARY:
        return _parse_binary(cursor, name)
    item = _ITEMS.get(name)
    if item is None:
        raise RemoteError("Unknown data item" if name != b"BODY.PEEK" else "Expected a section")
    if name == b"PREVIEW" and (lazy := _LAZY.match(cursor.text, cursor.position)):
        # RFC 8970 §4.1: LAZY changes nothing, since previews are made at delivery. Another list is FETCH's own.
        cursor.position = lazy.end()
    return item


def _parse_body(cursor: Cursor, peek: bool) -> FetchItem:
    section, label = parse_section(cursor)
    label = b"BODY[%b]" % label
    partial, label = _parse_partial(cursor, label)
    return FetchItem("BODY[]", label, section, partial, sets_seen=not peek)


def _parse_binary(cursor: Cursor, name: bytes) -> FetchItem:
    """RFC 3516 §7: the section is a part number or nothing."""
    numbers = cursor.take(_BINARY_SECTION, "a part number in brackets")[1]
    section = Section(tuple(int(number) for number in numbers.split(b".")) if numbers else ())
    if name == b"BINARY.SIZE":
        return FetchItem("BINARY.SIZE", b"BINARY.SIZE[%b]" % numbers, section)
    partial, label = _parse_partial(cursor, b"BINARY[%b]" % numbers)
    return FetchItem("BINARY[]", label, section, partial, sets_seen=name == b"BINARY")


def _parse_partial(cursor: Cursor, label: bytes) -> tuple[tuple[int, int] | None, bytes]:
    """With the label as it stands in the response."""
    if not cursor.text.startswith(b"<", cursor.position):
        return None, label
    first, count = cursor.take(_PARTIAL, "a partial like <0.2048>").groups()
    return (int(first), int(count)), label + b"<%d>" % int(first)


def parse_section(cursor: Cursor) -> tuple[Section, bytes]:
    """A section in brackets, and how it stands in the response, without them."""
    part_text, part_kind, kind, fields_suffix = cursor.take(_SECTION, "a section").groups()
    fields: tuple[bytes, ...] = ()
    part_numbers = tuple(int(number) for number in part_text.split(b".")) if part_text else ()
    text = (part_kind or kind or b"").upper()
    label = b".".join(piece for piece in (part_text, text) if piece)
    if fields_suffix:
        fields = _parse_field_names(cursor)
        text += fields_suffix.upper()
        label += b"%b (%b)" % (fields_suffix.upper(), b" ".join(astring(name) for name in fields))
    cursor.require(b"]", 'a section and "]"')
    return Section(part_numbers, text.decode("ascii"), fields), label


def _parse_field_names(cursor: Cursor) -> tuple[bytes, ...]:
    names = cursor.parenthesised(lambda: cursor.astring("a field name"), "a list of field names")
    return tuple(dict.fromkeys(name.upper() for name in names))
