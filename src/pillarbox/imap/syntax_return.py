"""RETURN, which says what of a search's result is wanted (RFC 4466 §2.6.1, RFC 4731 §3.1), and PARTIAL (RFC 9394 §4).

An option without an argument is one more name in `_OPTIONS`.
"""

import re
from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.seqset import MAX_NUMBER

_OPTIONS = frozenset(
    (b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"RELEVANCY", b"CONTEXT", b"UPDATE")
)
_PARTIAL = re.compile(rb"(-?)([1-9][0-9]{0,9}):(-?)([1-9][0-9]{0,9})")


@dataclass(slots=True, frozen=True)
class Partial:
    """Results from `first` to `last`, 1 being the first one, or the last one if `from_end`. `text` is as written."""

    first: int
    last: int
    from_end: bool
    text: bytes

    def slice_of(self, length: int) -> slice:
        """Where in a sequence of this length they are."""
        first, last = min(self.first - 1, length), min(self.last, length)
        return slice(length - last, length - first) if self.from_end else slice(first, last)


@dataclass(slots=True, frozen=True)
class Return:
    """`options` are upper case; where there are none, ALL is among them (RFC 4731 §3.1)."""

    options: frozenset[str]
    partial: Partial | None = None

    def __contains__(self, option: str) -> bool:
        return option in self.options


def parse_return(cursor: Cursor) -> Return | None:
    """` RETURN (...)` if it stands here."""
    start = cursor.position
    if cursor.text[start : start + 8].upper() != b" RETURN ":
        return None
    cursor.position += 8
    if cursor.skip(b"()"):
        return Return(frozenset(("ALL",)))
    found: set[str] = set()
    partials: list[Partial] = []
    cursor.parenthesised(lambda: _option(cursor, found, partials), "a list of return options")
    if "ALL" in found and partials:  # RFC 9394 §3.1
        raise RemoteError("ALL and PARTIAL exclude each other")
    return Return(frozenset(found), partials[0] if partials else None)


def _option(cursor: Cursor, found: set[str], partials: list[Partial]) -> None:
    name = cursor.word("a return option")
    if name == b"PARTIAL":
        if partials:
            raise RemoteError("PARTIAL stands twice")
        cursor.space()
        partials.append(parse_partial(cursor))
    elif name not in _OPTIONS:
        raise RemoteError("Unknown return option")
    found.add(name.decode("ascii"))


def parse_partial(cursor: Cursor) -> Partial:
    match = cursor.take(_PARTIAL, "a range like 1:500 or -1:-500")
    first, last = sorted((int(match[2]), int(match[4])))
    if match[1] != match[3] or last > MAX_NUMBER:
        raise RemoteError("Expected a range like 1:500 or -1:-500")
    return Partial(first, last, match[1] == b"-", match[0])
