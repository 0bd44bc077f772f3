"""Commands that change or copy messages: STORE, COPY, MOVE, EXPUNGE (RFC 3501 §6.4, 4315 §2.1, 6851 §3)."""

import re
from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor, FlagList
from pillarbox.imap.seqset import SeqSet

_STORE_ITEM = re.compile(rb"([+-]?)FLAGS(\.SILENT)?(?= )", re.IGNORECASE)


@dataclass(slots=True)
class Store:
    """`mode` is "+" add, "-" remove or "" replace. `silent`: no untagged FETCH is wanted. `unchanged_since`: only
    messages with this mod-sequence or a lower one (RFC 7162 §3.1.3)."""

    sequence: SeqSet
    mode: str
    silent: bool
    flags: FlagList
    uid: bool = False
    unchanged_since: int | None = None


@dataclass(slots=True)
class Copy:
    """The arguments of COPY and MOVE."""

    sequence: SeqSet
    mailbox: str
    uid: bool = False


@dataclass(slots=True)
class Expunge:
    """`uids` is None for EXPUNGE, which has no argument; UID EXPUNGE always has it."""

    uids: SeqSet | None = None


def parse_store(cursor: Cursor, uid: bool = False) -> Store:
    cursor.space()
    sequence = cursor.sequence_set()
    cursor.space()
    unchanged_since = None
    if cursor.skip(b"("):
        if cursor.word("a modifier of STORE") != b"UNCHANGEDSINCE":
            raise RemoteError("STORE takes no modifier but UNCHANGEDSINCE")
        cursor.space()
        unchanged_since = cursor.modseq(lowest=0)
        cursor.require(b") ", '") "')
    mode, silent = cursor.take(_STORE_ITEM, "FLAGS, +FLAGS or -FLAGS").groups()
    cursor.space()
    return Store(
        sequence, mode.decode("ascii"), silent is not None, cursor.flags(), uid, unchanged_since
    )


def parse_copy(cursor: Cursor, uid: bool = False) -> Copy:
    cursor.space()
    sequence = cursor.sequence_set()
    cursor.space()
    return Copy(sequence, cursor.mailbox(), uid)


def parse_expunge(cursor: Cursor) -> Expunge:
    return Expunge()


def parse_uid_expunge(cursor: Cursor) -> Expunge:
    cursor.space()
    return Expunge(cursor.sequence_set())
