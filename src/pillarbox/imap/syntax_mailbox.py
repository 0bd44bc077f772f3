"""Commands about mailboxes but LIST: SELECT to STATUS (RFC 3501 §6.3; CREATE with USE: RFC 6154 §3)."""

import re
from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import ATOM_CLASS, Cursor

STATUS_ITEMS = frozenset(
    (
        b"MESSAGES",
        b"RECENT",
        b"UIDNEXT",
        b"UIDVALIDITY",
        b"UNSEEN",
        b"DELETED-STORAGE",  # RFC 9208 §4.1.4
        b"DELETED",  # RFC 9051 §6.3.11
        b"HIGHESTMODSEQ",  # RFC 7162 §3.1.7
        b"MAILBOXID",  # RFC 8474 §4.3
        b"SIZE",  # RFC 8438 §4
        b"APPENDLIMIT",  # RFC 7889 §5
    )
)

_USE_ATTRIBUTE = re.compile(rb"\\[%b]+" % ATOM_CLASS)


@dataclass(slots=True)
class Mailbox:
    """The argument of DELETE, SUBSCRIBE and UNSUBSCRIBE."""

    mailbox: str


@dataclass(slots=True)
class Create:
    """`special_use` holds attributes as written, with their backslash: `b"\\\\Sent"`."""

    mailbox: str
    special_use: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Rename:
    mailbox: str
    new_mailbox: str


@dataclass(slots=True)
class Status:
    """`items` are upper case, each once, in the order given."""

    mailbox: str
    items: tuple[str, ...]


def parse_mailbox(cursor: Cursor) -> Mailbox:
    cursor.space()
    return Mailbox(cursor.mailbox())


def parse_create(cursor: Cursor) -> Create:
    cursor.space()
    mailbox = cursor.new_mailbox()
    if not cursor.skip(b" "):
        return Create(mailbox)
    cursor.require(b"(", "a list of parameters")
    if cursor.word("USE") != b"USE":
        raise RemoteError("CREATE takes no parameter but USE")
    cursor.space()
    if cursor.skip(b"()"):
        attributes = []
    else:
        attributes = cursor.parenthesised(
            lambda: cursor.take(_USE_ATTRIBUTE, "a special-use attribute")[0],
            "a list of special-use attributes",
        )
    cursor.require(b")", '")"')
    return Create(mailbox, tuple(attributes))


def parse_rename(cursor: Cursor) -> Rename:
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    return Rename(mailbox, cursor.new_mailbox())


def parse_status(cursor: Cursor) -> Status:
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    return Status(mailbox, parse_status_items(cursor))


def parse_status_items(cursor: Cursor) -> tuple[str, ...]:
    """The list in parentheses; upper case, each item once, in the order given."""
    items = cursor.parenthesised(lambda: _status_item(cursor), "a list of status items")
    return tuple(dict.fromkeys(items))


def _status_item(cursor: Cursor) -> str:
    item = cursor.word("a status item")
    if item not in STATUS_ITEMS:
        raise RemoteError("Unknown status item")
    return item.decode("ascii")
