"""ESEARCH, the search in many mailboxes (RFC 7377 §4; mailbox specifiers: RFC 5465 §6)."""

from dataclasses import dataclass, field

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.syntax_return import Return
from pillarbox.imap.syntax_search import Search, parse_search

_PLAIN = frozenset((b"SELECTED", b"INBOXES", b"PERSONAL", b"SUBSCRIBED"))
_NAMED = frozenset((b"MAILBOXES", b"SUBTREE", b"SUBTREE-ONE"))


@dataclass(slots=True, frozen=True)
class Source:
    """`kind` is lower case; `mailboxes` are there for "mailboxes", "subtree" and "subtree-one"."""

    kind: str
    mailboxes: tuple[str, ...] = ()


SELECTED = Source("selected")


@dataclass(slots=True)
class MultiSearch:
    """`search` has RETURN always, and asks for UIDs."""

    search: Search
    sources: tuple[Source, ...] = (SELECTED,)
    uid: bool = field(default=True, init=False)

    @property
    def returns(self) -> Return:
        return self.search.returns or Return(frozenset(("ALL",)))


def parse_multisearch(cursor: Cursor) -> MultiSearch:
    sources: tuple[Source, ...] = (SELECTED,)
    if cursor.text[cursor.position : cursor.position + 5].upper() == b" IN (":
        cursor.position += 4
        sources = tuple(cursor.parenthesised(lambda: _source(cursor), "a list of mailboxes"))
    return MultiSearch(parse_search(cursor, uid=True), sources)


def _source(cursor: Cursor) -> Source:
    kind = cursor.word("which mailboxes")
    if kind in _PLAIN:
        return Source(kind.decode("ascii").lower())
    if kind not in _NAMED:
        raise RemoteError("Unknown kind of mailboxes")
    cursor.space()
    if cursor.text.startswith(b"(", cursor.position):
        names = cursor.parenthesised(cursor.mailbox, "a list of mailboxes")
    else:
        names = [cursor.mailbox()]
    return Source(kind.decode("ascii").lower(), tuple(names))
