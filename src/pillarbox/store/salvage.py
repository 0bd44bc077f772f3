"""What can be read of a damaged account file, into a new one.

Tables are read through their b-trees from both ends, and what these do not lead to from the pages (`store.strays`). A
message counts as saved if its octets are whole; what is rendered from them is made anew where it is lost. Octets that
no message points to, and that were not expunged, go into a mailbox of their own. SQLite has no checksums: octets that
were changed within a page are not noticed.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from pillarbox.store import changes, database, mailboxes, mending, sort_keys, strays
from pillarbox.store.journaled import Journaled
from pillarbox.store.mending import Salvaged
from pillarbox.store.numbers import BELIEVED_MAILBOX, can_be
from pillarbox.store.tx import Tx

_TABLES = (
    "account_state",
    "mailbox",
    "subscription",
    "keyword_set",
    "keyword",
    "quota_told",
    "metadata",
    "acl",
    "taken",
    "delivered",
    "octets",
    "rendered",
    "fields",
    "sort_key",
    "line_end",
    "thread",
    "expunged",
    "body_piece",
    "message",
)
_LATER = frozenset(("keyword", "quota_told", "metadata", "acl", "taken"))
"""Not in files of the first version."""

_PAGE_OCTETS = 4096


@dataclass(slots=True)
class _Old:
    """The damaged file."""

    connection: apsw.Connection | None
    """None: it cannot be opened."""
    has_own_header: bool
    unread: set[str] = field(default_factory=set)
    """Tables and indexes that could not be read whole through their b-trees."""


def salvage(source: Path, target: Path, account: int, now_s: int, journaled: Journaled) -> Salvaged:
    """Make the file `target` from what can be read of `source`, which is changed, and what the journals have. Blocks.
    Raises OSError, Unavailable and apsw.Error if the new file cannot be written."""
    database.create(target, "account")
    old = _open(source, target)
    new = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        new.pragma("synchronous", "OFF")
        with new:
            _copy(old, new, account)
            expunges: dict[int, changes.Ranges] = {}
            if "message" in old.unread or journaled.records:
                expunges = _expunges(old, account)
            roots = _roots(old)
            damaged = strays.Damaged(
                source, old.has_own_header, roots, old.unread, expunges, account, now_s
            )
            found = strays.add_strays(new, damaged)
            tx = Tx(account, new, {0: ()}, now_s)
            salvaged = mending.mend(tx, old.unread, found, journaled)
        sort_keys.renew(new)  # the damaged file may be of a version that made them another way
    finally:
        if old.connection is not None:
            old.connection.close()
        new.close()
    return salvaged


def _open(source: Path, empty: Path) -> _Old:
    """The damaged file, with all of its write-ahead log in it. If its first page, or another one that says where the
    tables are, is lost: with those of an empty file, which has the same tables in the same places if it was made by the
    same version."""
    connection = _try_open(source)
    if connection is not None:
        return _Old(connection, has_own_header=True)
    octets = empty.read_bytes()
    pages = source.stat().st_size // _PAGE_OCTETS
    with source.open("r+b") as file:
        # Octets 28 to 31: the size in pages, which counts as octets 24 to 27 and 92 to 95 are the same.
        file.write(octets[:28] + pages.to_bytes(4, "big") + octets[32:_PAGE_OCTETS])
    connection = _try_open(source)
    if connection is None:
        with source.open("r+b") as file:
            for page in _pages_of_schema(empty):
                place = (page - 1) * _PAGE_OCTETS
                file.seek(place)
                file.write(octets[place : place + _PAGE_OCTETS])
        connection = _try_open(source)
    return _Old(connection, has_own_header=False)


def _pages_of_schema(empty: Path) -> set[int]:
    """Those of an empty file in which its tables are described, the first one apart: all that are no table's."""
    connection = apsw.Connection(str(empty), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        roots = {row[0] for row in connection.execute("SELECT rootpage FROM sqlite_schema")}
        return set(range(2, int(connection.pragma("page_count")) + 1)) - roots
    finally:
        connection.close()


def _try_open(path: Path) -> apsw.Connection | None:
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error:
        return None
    try:
        connection.pragma("cell_size_check", "ON")
        connection.execute("SELECT name FROM sqlite_schema").fetchall()
        with suppress(apsw.Error):  # pages are read from the file itself
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.Error:
        connection.close()
        return None
    return connection


def _roots(old: _Old) -> dict[str, int]:
    roots: dict[str, int] = {}
    if old.connection is not None:
        with suppress(apsw.Error):
            for name, page in old.connection.execute(
                "SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0"
            ):
                roots[str(name)] = int(page)
    return roots


def _copy(old: _Old, new: apsw.Connection, account: int) -> None:
    """What the b-trees lead to; where messages or mailboxes are missing, what the indexes have of them goes into the
    temporary tables `place` and `named`."""
    for table in _TABLES:
        for row in _read(old, table, account):
            with suppress(apsw.ConstraintError, apsw.MismatchError, apsw.SQLError):
                new.execute(f'INSERT INTO "{table}" VALUES ({",".join("?" * len(row))})', row)
    _doubt(old, new)
    new.execute("CREATE TEMP TABLE place (mailbox, uid, content)")
    new.execute("CREATE TEMP TABLE named (mailbox, name)")
    if "message" in old.unread:
        for row in _read_index(old, "message", "message_content", "content, mailbox, uid", account):
            new.execute("INSERT INTO place VALUES (?, ?, ?)", (row[2], row[3], row[1]))
    if "mailbox" in old.unread:
        for row in _read_index(old, "mailbox", "mailbox_name", "name, mailbox", account):
            new.execute("INSERT INTO named VALUES (?, ?)", (row[2], row[1]))


def _doubt(old: _Old, new: apsw.Connection) -> None:
    """Tables that were read without an error, but have fewer rows than others say: a page led to a wrong one. Where the
    description of the tables is that of another file, all b-trees may be wrong ones."""

    def count(table: str) -> int:
        row: Any = new.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(row[0])

    counts = {table: count(table) for table in strays.BY_EACH_CONTENT if table not in old.unread}
    for table, rows in counts.items():
        if rows < max(counts.values()) or (not old.has_own_header and len({*counts.values()}) > 1):
            old.unread.add(table)
    state: Any = new.execute("SELECT messages FROM account_state").fetchone()
    if state[0] > count("message") if state else not old.has_own_header:
        old.unread.add("message")
    if not (old.has_own_header or count("mailbox")):
        old.unread.add("mailbox")


def _read(old: _Old, table: str, account: int) -> Iterator[tuple[Any, ...]]:
    """The rows from the first on up to what is damaged, then from the last on."""
    if old.connection is None:
        old.unread.add(table)
        return
    names: list[Any] = []
    with suppress(apsw.Error):
        names = old.connection.execute(
            "SELECT name, pk FROM pragma_table_info(?) ORDER BY cid", (table,)
        ).fetchall()
    if not names:
        if table not in _LATER:
            old.unread.add(table)
        return
    keys = [name for _, name in sorted((pk, name) for name, pk in names if pk)]
    places = [[name for name, _ in names].index(key) for key in keys]
    sql = f'SELECT * FROM "{table}" ORDER BY '
    for row in _both_ends(old, table, sql, keys, places):
        if strays.is_row(table, row, account):
            yield row
        else:
            old.unread.add(table)


def _read_index(
    old: _Old, table: str, index: str, keys: str, account: int
) -> Iterator[tuple[Any, ...]]:
    """(account, columns `keys`) of all rows, from an index alone that begins with them. The second is the mailbox."""
    names = keys.split(", ")
    sql = f"SELECT account, {keys} FROM {table} INDEXED BY {index} ORDER BY "
    for row in _both_ends(old, index, sql, names, list(range(1, len(names) + 1))):
        is_place = (
            row[0] == account and isinstance(row[-1], int) and isinstance(row[-2], (int, str))
        )
        if is_place and can_be(row[2], BELIEVED_MAILBOX):
            yield row


def _both_ends(
    old: _Old, name: str, sql: str, keys: list[str], places: list[int]
) -> Iterator[tuple[Any, ...]]:
    """`sql` in the order of the keys, then backwards if that does not come to an end. Each row once, but for those that
    damage repeats."""
    if old.connection is None:
        old.unread.add(name)
        return
    for direction in ("", " DESC"):
        last: tuple[Any, ...] | None = None
        try:
            row: Any
            for row in old.connection.execute(sql + ", ".join(f"{key}{direction}" for key in keys)):
                key = tuple(row[place] for place in places)
                if last is not None and not (last < key if not direction else key < last):
                    raise apsw.CorruptError("not in order")
                last = key
                yield row
            return
        except (apsw.Error, TypeError, UnicodeDecodeError):
            old.unread.add(name)


def _expunges(old: _Old, account: int) -> dict[int, changes.Ranges]:
    """What is recorded of them, as far as it can be read."""
    found: dict[int, changes.Ranges] = {}
    for row in _read(old, "change", account):
        _account, mailbox, _modseq, first, last, kind = row
        if kind == mailboxes.EXPUNGED and all(type(each) is int for each in (mailbox, first, last)):
            found.setdefault(mailbox, []).append((first, last))
    return found
