"""GETMETADATA and SETMETADATA (RFC 5464 §5)."""

import re
from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor

MAX_ENTRIES = 1000
"""Our limit for the entries of one command."""
LONGEST_ENTRY = 512
"""Octets."""

_DEPTHS = {b"0": 0, b"1": 1, b"INFINITY": -1}
_ENTRY = re.compile(rb"(?:/[^\x00-\x1f\x7f-\xff/*%]+)+")
_OPTIONS = re.compile(rb"\([A-Za-z]")


@dataclass(slots=True)
class GetMetadata:
    """`mailbox` "" is the server. `depth` -1: all that is below. `max_size` None: whatever the size."""

    mailbox: str
    entries: tuple[str, ...]
    depth: int = 0
    max_size: int | None = None


@dataclass(slots=True)
class SetMetadata:
    """None removes an entry."""

    mailbox: str
    values: tuple[tuple[str, bytes | None], ...]


def parse_get_metadata(cursor: Cursor) -> GetMetadata:
    """The options stand before the mailbox in the grammar, and behind it in all examples: both are taken."""
    cursor.space()
    options = _options(cursor)
    if options is not None:
        cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    if options is None and (options := _options(cursor)) is not None:
        cursor.space()
    if cursor.text.startswith(b"(", cursor.position):
        entries = cursor.parenthesised(lambda: _entry(cursor), "a list of entries")
    else:
        entries = [_entry(cursor)]
    _check_number(entries)
    depth, max_size = options or (0, None)
    return GetMetadata(mailbox, tuple(dict.fromkeys(entries)), depth, max_size)


def parse_set_metadata(cursor: Cursor) -> SetMetadata:
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    values = cursor.parenthesised(lambda: _entry_value(cursor), "a list of entries with values")
    _check_number(values)
    for entry, _ in values:
        names = entry.split("/")
        # RFC 5464 §3.2: a scope and at least one name; in a vendor's namespace two more
        if len(names) < (5 if names[2:3] == ["vendor"] else 3):
            raise RemoteError(f"{entry} is not the name of an entry")
    return SetMetadata(mailbox, tuple(values))


def _options(cursor: Cursor) -> tuple[int, int | None] | None:
    """DEPTH and MAXSIZE; None: there are no options here."""
    if _OPTIONS.match(cursor.text, cursor.position) is None:
        return None
    depth, max_size = 0, None
    for name, value in cursor.parenthesised(lambda: _option(cursor), "a list of options"):
        if name == b"DEPTH":
            depth = value
        else:
            max_size = value
    return depth, max_size


def _option(cursor: Cursor) -> tuple[bytes, int]:
    name = cursor.word("an option")
    cursor.space()
    if name == b"MAXSIZE":
        return name, cursor.number()
    if name != b"DEPTH":
        raise RemoteError("Unknown option")
    depth = _DEPTHS.get(cursor.word("a depth"))
    if depth is None:
        raise RemoteError('DEPTH is "0", "1" or "infinity"')
    return name, depth


def _entry(cursor: Cursor) -> str:
    """In lower case (RFC 5464 §3.2: case does not count)."""
    entry = cursor.astring("an entry name")
    if len(entry) > LONGEST_ENTRY or _ENTRY.fullmatch(entry) is None:
        raise RemoteError("An entry name is a path like /private/comment")
    name = entry.decode("ascii").lower()
    if name.split("/")[1] not in ("private", "shared"):
        raise RemoteError("An entry name begins with /private or /shared")
    return name


def _entry_value(cursor: Cursor) -> tuple[str, bytes | None]:
    entry = _entry(cursor)
    cursor.space()
    return entry, None if cursor.nil() else cursor.octets("a value")


def _check_number(entries: list[str] | list[tuple[str, bytes | None]]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise RemoteError(f"At most {MAX_ENTRIES} entries fit into one command")
