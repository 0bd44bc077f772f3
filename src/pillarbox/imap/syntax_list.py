"""LIST with its selection and return options, and LSUB (RFC 3501 §6.3.8, RFC 5258 §3, §6).

A new option is one more name in `_SELECTIONS` or one more row in `_RETURNS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.syntax_mailbox import parse_status_items

MAX_PATTERNS = 100
"""Our limit for the patterns of one LIST."""


@dataclass(slots=True)
class List:
    """References and patterns are as written: INBOX is in no particular case here. An empty pattern asks for the
    separator, unless the command is `extended` (RFC 5258 §3). Options are upper case; `returns` holds the arguments
    of each, () where it takes none."""

    reference: str
    patterns: tuple[str, ...]
    extended: bool = False
    selection: frozenset[str] = frozenset()
    returns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_SELECTIONS = frozenset((b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE"))
"""RFC 5258 §3.1, RFC 6154 §6."""


def _nothing(cursor: Cursor) -> tuple[str, ...]:
    return ()


def _status_items(cursor: Cursor) -> tuple[str, ...]:
    cursor.space()
    return parse_status_items(cursor)


_RETURNS: dict[bytes, Callable[[Cursor], tuple[str, ...]]] = {
    b"SUBSCRIBED": _nothing,  # RFC 5258 §3.2
    b"CHILDREN": _nothing,
    b"SPECIAL-USE": _nothing,  # RFC 6154 §2
    b"STATUS": _status_items,  # RFC 5819 §4
    b"MYRIGHTS": _nothing,  # RFC 8440 §5
}


def parse_lsub(cursor: Cursor) -> List:
    cursor.space()
    reference = cursor.list_mailbox()
    cursor.space()
    return List(reference, (cursor.list_mailbox(),))


def parse_list(cursor: Cursor) -> List:
    cursor.space()
    is_extended = False
    selection: frozenset[str] = frozenset()
    if cursor.text.startswith(b"(", cursor.position):
        is_extended = True
        selection = _parse_selection(cursor)
        cursor.space()
    reference = cursor.list_mailbox()
    cursor.space()
    if cursor.text.startswith(b"(", cursor.position):
        is_extended = True
        patterns = cursor.parenthesised(cursor.list_mailbox, "a list of patterns")
        if len(patterns) > MAX_PATTERNS:
            raise RemoteError(f"LIST takes at most {MAX_PATTERNS} patterns")
    else:
        patterns = [cursor.list_mailbox()]
    returns: dict[str, tuple[str, ...]] = {}
    if cursor.skip(b" "):
        is_extended = True
        if cursor.word("RETURN") != b"RETURN":
            raise RemoteError("Expected RETURN or the end of the command")
        cursor.space()
        if not cursor.skip(b"()"):
            returns = dict(cursor.parenthesised(lambda: _parse_return(cursor), "return options"))
    return List(reference, tuple(patterns), is_extended, selection, returns)


def _parse_selection(cursor: Cursor) -> frozenset[str]:
    if cursor.skip(b"()"):
        return frozenset()
    names = cursor.parenthesised(lambda: cursor.word("a selection option"), "selection options")
    if not _SELECTIONS.issuperset(names):
        raise RemoteError("Unknown selection option")  # RFC 5258 §3: MUST be BAD
    selection = frozenset(name.decode("ascii") for name in names)
    if "RECURSIVEMATCH" in selection and selection <= {"RECURSIVEMATCH", "REMOTE"}:
        # RFC 5258 §3.1: MUST be BAD
        raise RemoteError("RECURSIVEMATCH needs another selection option")
    return selection


def _parse_return(cursor: Cursor) -> tuple[str, tuple[str, ...]]:
    name = cursor.word("a return option")
    parse = _RETURNS.get(name)
    if parse is None:
        raise RemoteError("Unknown return option")  # RFC 5258 §3: MUST be BAD
    return name.decode("ascii"), parse(cursor)
