"""Rows of a damaged account file to which no readable b-tree leads any more, taken from its pages.

A row's table is told by its columns. Only tables that could not be read whole get any, and only rows that they do not
have. Pages that SQLite freed keep old rows: with a freelist that can be read these are left out. Where it is lost, a
row in a page that no b-tree leads to is doubtful: it may be an old version, or of mail that was deleted. Then a content
is taken if something else in the file still tells of it, a message if no expunge of it is recorded, the latest version
first; and what only numbers or rights depend on is not taken.
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from pillarbox.store import changes, mailboxes, numbers
from pillarbox.store.content import PIECE_BITS
from pillarbox.store.numbers import can_be
from pillarbox.store.pages import INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE, Cell, Marks, Pages

_WITH_ROWID = {
    "inbbb": "octets",
    "inb": "body_piece",
    "iniiibbt": "rendered",
    "inbb": "fields",
    "innb": "fields",
    "inititttib": "sort_key",
    "inntitttib": "sort_key",
    "int": "keyword_set",
}
_SHORT = "ini"
"""Of `expunged`, `line_end` and `thread`: see _table."""

_WITHOUT_ROWID = {
    "iitiiiiiiiiit": "mailbox",
    "iiiiiiiiin": "message",
    "iiiiiiiiit": "message",
    "iiiiii": "change",
    "it": "subscription",
    "iitb": "metadata",
    "iiit": "acl",
}
_PLACE = "iiii"
"""Of the index `message_content`: content, account, mailbox, UID."""

_BY_CONTENT = {
    "octets": "content",
    "body_piece": "id",
    "rendered": "content",
    "fields": "content",
    "sort_key": "content",
    "line_end": "content",
    "expunged": "content",
    "keyword_set": "id",
}
"""(table, its key), of those with rowids."""

_WITNESSES = ("rendered", "fields", "sort_key")

BY_EACH_CONTENT = ("octets", *_WITNESSES)
"""Each content has one row in each of these."""

TABLES = frozenset((*_BY_CONTENT, *_WITHOUT_ROWID.values())) - {"change"}
"""Those whose rows are found here."""

_LETTERS = {type(None): "n", int: "i", float: "f", bytes: "b", str: "t"}

_MOST_CONTENTS = 1 << 40
_EARLIEST_S = 1_000_000_000
"""Before there was any Pillarbox; more line ends than a message can lack."""

_CHECKED = frozenset(("octets", "body_piece", *_WITNESSES, "message", "mailbox"))
"""Tables whose rows are looked at, whatever gave them."""


@dataclass(slots=True)
class Damaged:
    """A file that could not be read whole through its b-trees."""

    path: Path
    has_own_header: bool
    roots: Mapping[str, int]
    """The root page of each table and index, as far as known."""
    unread: Collection[str]
    """Tables of which rows are missing, or may be."""
    expunges: Mapping[int, changes.Ranges]
    """Those that it has a record of, by mailbox, as far as known: ranges of UIDs."""
    account: int
    now_s: int


@dataclass(slots=True)
class Found:
    """What must be known of the rows that were taken."""

    has_doubtful_messages: bool = False
    may_be_old: bool = False
    """Some may be of mail that was deleted: nothing that was read whole speaks for them."""
    expunges: dict[int, changes.Ranges] = field(default_factory=dict)
    """UIDs of which an expunge is recorded, by mailbox, in order."""


@dataclass(slots=True)
class _Taking:
    """What is going on."""

    damaged: Damaged
    new: apsw.Connection
    pages: Pages
    sure: Marks
    """Pages of which is known that they are in use; all that are not free, where the freelist is known."""
    found: Found


def is_row(table: str, row: tuple[Any, ...], account: int) -> bool:
    """Whether what a b-tree gave for a table can be a row of it: the b-tree may be that of another one."""
    if table == "account_state":
        _account, modseq, content, mailbox, *_ = row
        return (
            row[0] == account
            and all(type(value) is int for value in row)
            and can_be(modseq, numbers.BELIEVED_MODSEQ)
            and can_be(content, numbers.BELIEVED_CONTENT)
            and can_be(mailbox, numbers.BELIEVED_MAILBOX)
        )
    if table not in _CHECKED:
        return bool(row[0] == account)
    shape = "".join(_LETTERS[type(value)] for value in row)
    if table in _BY_CONTENT:
        is_own = _WITH_ROWID.get(f"in{shape[2:]}") == table and shape[1] == "i"
        highest = numbers.BELIEVED_CONTENT << (PIECE_BITS if table == "body_piece" else 0)
        return row[0] == account and is_own and can_be(row[1], highest)
    if row[0] != account or _WITHOUT_ROWID.get(shape) != table:
        return False
    return can_be(row[1], numbers.BELIEVED_MAILBOX) and (table != "message" or _is_message(row))


def add_strays(new: apsw.Connection, damaged: Damaged) -> Found:
    """Put the rows into the new file, which has all that the b-trees gave, and places of messages into its temporary
    table `place` (mailbox, uid, content). Blocks. Raises OSError, and apsw.Error if the new file cannot be written."""
    known = {mailbox: changes.merge(ranges) for mailbox, ranges in damaged.expunges.items()}
    found = Found(expunges=known)
    if not TABLES & set(damaged.unread):
        return found
    with Pages(damaged.path, damaged.has_own_header) as pages:
        roots = [] if pages.is_free_known else list(damaged.roots.values())
        taking = _Taking(damaged, new, pages, pages.reachable(roots), found)
        if set(damaged.unread) & set(_WITHOUT_ROWID.values()):
            _take_without_rowid(taking)
        if set(damaged.unread) & set(_BY_CONTENT):
            _take_with_rowid(taking)
    return found


def _is_sure(taking: _Taking, cell: Cell) -> bool:
    return taking.pages.is_free_known or cell.page in taking.sure


def _insert(new: apsw.Connection, table: str, row: tuple[Any, ...]) -> bool:
    """Unless such a row is there."""
    try:
        new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row)
    except (apsw.ConstraintError, apsw.MismatchError):
        return False
    return new.changes() > 0


def _take_without_rowid(taking: _Taking) -> None:
    new, damaged = taking.new, taking.damaged
    columns = ",".join(f"c{number}" for number in range(10))
    new.execute(f"CREATE TEMP TABLE doubtful ({columns})")
    boxes: list[tuple[bool, tuple[Any, ...]]] = []
    for cell in taking.pages.cells(LEAF_INDEX, INTERIOR_INDEX):
        table = "place" if cell.shape == _PLACE else _WITHOUT_ROWID.get(cell.shape)
        is_sure = _is_sure(taking, cell)
        if table is None or not (
            table in damaged.unread
            or (table == "change" and not taking.pages.is_free_known)
            or (table == "place" and is_sure and "message" in damaged.unread)
        ):
            continue
        row: Any = taking.pages.values(cell)
        if row is None or row[table == "place"] != damaged.account:
            continue
        if table == "mailbox":
            if can_be(row[1], numbers.BELIEVED_MAILBOX):
                boxes.append((is_sure, row))
        elif table == "change":
            _note_gone(taking, row)
        elif table == "place":
            if can_be(row[2], numbers.BELIEVED_MAILBOX):
                new.execute("INSERT INTO place VALUES (?, ?, ?)", (row[2], row[3], row[0]))
        elif table == "message" and not is_sure:
            # Looked at when all is known of what was expunged.
            new.execute(f"INSERT INTO doubtful VALUES ({','.join('?' * 10)})", row)
        elif is_sure and (table != "message" or _is_message(row)):
            _insert(new, table, row)
    boxes.sort(key=lambda each: (each[0], each[1][10]), reverse=True)  # by ModSeq
    for _, row in boxes:
        _insert(new, "mailbox", row)
    _take_doubtful_messages(taking)
    new.execute("DROP TABLE doubtful")


def _is_message(row: tuple[Any, ...]) -> bool:
    _account, mailbox, uid, content, flags, modseq, size, *_ = row
    return (
        can_be(mailbox, numbers.BELIEVED_MAILBOX)
        and can_be(uid, numbers.HIGHEST_UID)
        and can_be(content, numbers.BELIEVED_CONTENT)
        and can_be(modseq, numbers.BELIEVED_MODSEQ)
        and flags >= 0 <= size
    )


def _note_gone(taking: _Taking, row: tuple[Any, ...]) -> None:
    _account, mailbox, _modseq, first, last, kind = row
    if kind == mailboxes.EXPUNGED:
        taking.found.expunges.setdefault(mailbox, []).append((first, last))


def _take_doubtful_messages(taking: _Taking) -> None:
    """Those that no expunge is known of, in mailboxes that are there, with their latest flags."""
    new = taking.new
    gone = taking.found.expunges
    for mailbox, ranges in gone.items():
        gone[mailbox] = changes.merge(ranges)
    known = {row[0] for row in new.execute("SELECT mailbox FROM mailbox")}
    are_known = "mailbox" not in taking.damaged.unread
    are_recorded = are_known and "change" not in taking.damaged.unread
    for row in new.execute("SELECT * FROM doubtful ORDER BY c5 DESC"):
        _account, mailbox, uid, *_ = row
        ranges = gone.get(mailbox, [])
        place = bisect_right(ranges, (uid, 1 << 63)) - 1
        is_gone = place >= 0 and ranges[place][1] >= uid
        if is_gone or (are_known and mailbox not in known) or not _is_message(row):
            continue
        if _insert(new, "message", row):
            taking.found.has_doubtful_messages = True
            taking.found.may_be_old |= not are_recorded


def _take_with_rowid(taking: _Taking) -> None:
    new = taking.new
    for cell in taking.pages.cells(LEAF_TABLE):
        table = _table(taking, cell)
        key = cell.rowid
        if table not in taking.damaged.unread or table is None or key is None or key <= 0:
            continue
        name = _BY_CONTENT[table]
        if new.execute(f"SELECT 1 FROM {table} WHERE {name} = ?", (key,)).fetchone():
            continue
        is_sure = _is_sure(taking, cell)
        if not is_sure and not _is_told_of(taking, table, key):
            continue
        row: Any = taking.pages.values(cell)
        if row is None or row[0] != taking.damaged.account:
            continue
        is_new = _insert(new, table, (row[0], key, *row[2:]))
        if is_new and table == "octets" and not is_sure and _witness(taking) is None:
            taking.found.may_be_old |= not _has_message(new, key)


def _table(taking: _Taking, cell: Cell) -> str | None:
    if cell.shape != _SHORT:
        return _WITH_ROWID.get(cell.shape)
    row: Any = taking.pages.values(cell)
    if cell.rowid is None or cell.rowid >= _MOST_CONTENTS or row is None:
        return None  # of `thread`, by the hash of a Message-ID
    if _EARLIEST_S <= row[2] <= taking.damaged.now_s + 86400:
        return "expunged"
    return "line_end" if 0 < row[2] < _EARLIEST_S else None


def _is_told_of(taking: _Taking, table: str, key: int) -> bool:
    """Whether a doubtful row belongs to a content that is in use, as far as anything tells."""
    if table in ("expunged", "line_end"):  # these do no harm
        return True
    if table == "keyword_set":
        return False
    content = key >> PIECE_BITS if table == "body_piece" else key
    if _has_message(taking.new, content):
        return True
    witness = _witness(taking)
    if witness is not None:
        return _has(taking.new, witness, content)
    return "message" in taking.damaged.unread


def _witness(taking: _Taking) -> str | None:
    """A table that was read whole and has a row for each content in use."""
    return next((name for name in _WITNESSES if name not in taking.damaged.unread), None)


def _has_message(new: apsw.Connection, content: int) -> bool:
    return _has(new, "message", content)


def _has(new: apsw.Connection, table: str, content: int) -> bool:
    return bool(new.execute(f"SELECT 1 FROM {table} WHERE content = ?", (content,)).fetchone())
