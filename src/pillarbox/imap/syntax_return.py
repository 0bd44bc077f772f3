"""RETURN, which says what of a search's result is wanted (RFC 4466 §2.6.1, RFC 4731 §3.1).

An option without an argument is one more name in `_OPTIONS`.
"""

from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.syntax_fetch import FetchItem, parse_fetch_atts
from pillarbox.imap.syntax_partial import Partial, parse_partial

_OPTIONS = frozenset(
    (b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"RELEVANCY", b"CONTEXT", b"UPDATE")
)


@dataclass(slots=True, frozen=True)
class Return:
    """`options` are upper case; where there are none, ALL is among them (RFC 4731 §3.1). `items` are to be told of
    messages that come into a result that is followed (RFC 5465 §7)."""

    options: frozenset[str]
    partial: Partial | None = None
    items: tuple[FetchItem, ...] = ()

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
    items: list[FetchItem] = []
    cursor.parenthesised(
        lambda: _option(cursor, found, partials, items), "a list of return options"
    )
    if "ALL" in found and partials:  # RFC 9394 §3.1
        raise RemoteError("ALL and PARTIAL exclude each other")
    return Return(frozenset(found), partials[0] if partials else None, tuple(dict.fromkeys(items)))


def _option(
    cursor: Cursor, found: set[str], partials: list[Partial], items: list[FetchItem]
) -> None:
    name = cursor.word("a return option")
    if name == b"PARTIAL":
        if partials:
            raise RemoteError("PARTIAL stands twice")
        cursor.space()
        partials.append(parse_partial(cursor))
    elif name == b"UPDATE" and cursor.skip(b" ("):
        cursor.position -= 1
        items += parse_fetch_atts(cursor)
    elif name not in _OPTIONS:
        raise RemoteError("Unknown return option")
    found.add(name.decode("ascii"))
