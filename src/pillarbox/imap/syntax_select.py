"""SELECT and EXAMINE with their parameters: CONDSTORE and QRESYNC (RFC 4466 §2.1, RFC 7162 §3.1.8, §3.2.5)."""

from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.seqset import SeqSet

Ranges = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Resync:
    """What a client knows of a mailbox (RFC 7162 §3.2.5). `uids`: those that it knows, None for all.

    `numbers` and `their_uids` are as many: message numbers, and the UIDs that the client knows under them.
    """

    uidvalidity: int
    modseq: int
    uids: SeqSet | None = None
    numbers: Ranges = ()
    their_uids: Ranges = ()


@dataclass(slots=True)
class Select:
    mailbox: str
    condstore: bool = False
    resync: Resync | None = None


def parse_select(cursor: Cursor) -> Select:
    cursor.space()
    select = Select(cursor.mailbox())
    if cursor.skip(b" "):
        cursor.parenthesised(lambda: _parameter(cursor, select), "a list of parameters")
    return select


def _parameter(cursor: Cursor, select: Select) -> None:
    match cursor.word("a parameter of SELECT"):
        case b"CONDSTORE":
            select.condstore = True
        case b"QRESYNC" if select.resync is None:
            cursor.space()
            select.resync = _resync(cursor)
        case _:
            raise RemoteError("Unknown parameter of SELECT")


def _resync(cursor: Cursor) -> Resync:
    cursor.require(b"(", "what is known of the mailbox")
    uidvalidity = cursor.number("a UIDVALIDITY")
    cursor.space()
    resync = Resync(uidvalidity, cursor.modseq())
    if cursor.skip(b" "):
        if not cursor.text.startswith(b"(", cursor.position):
            resync.uids = cursor.uid_set()
            if cursor.skip(b" "):
                _matches(cursor, resync)
        else:
            _matches(cursor, resync)
    cursor.require(b")", '")"')
    return resync


def _matches(cursor: Cursor, resync: Resync) -> None:
    """RFC 7162 §3.2.5.2."""
    cursor.require(b"(", "message numbers and their UIDs")
    resync.numbers = cursor.uid_set().ranges
    cursor.space()
    resync.their_uids = cursor.uid_set().ranges
    cursor.require(b")", '")"')
    if _count(resync.numbers) != _count(resync.their_uids):
        raise RemoteError("Expected as many UIDs as message numbers")


def _count(ranges: Ranges) -> int:
    return sum(last - first + 1 for first, last in ranges)
