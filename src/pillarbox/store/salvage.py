"""What can be read of a damaged account file, into a new one.

Tables are read from both ends, and between damaged pages by halves. A message counts as saved if its octets are whole;
what is rendered from them is made anew where it is lost. Octets that no message points to, and that were not expunged,
go into a mailbox of their own. SQLite has no checksums: octets that were changed within a page are not noticed.
"""

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from pillarbox.core.dates import pack_date
from pillarbox.store import appending, database, mailboxes, messages, sort_keys
from pillarbox.store.appending import Append
from pillarbox.store.content import PIECE_BITS, make_content
from pillarbox.store.mailboxes import Name
from pillarbox.store.tx import Tx

RECOVERED = "Recovered"
"""The mailbox of messages whose place is lost."""

MOST_ATTEMPTS = 20_000
"""Reads of a table that fail."""

FIRST_GUESSED = 16
"""Mailboxes that are looked for though nothing names them any more: the first ones of an account."""

_SMALL = (
    "subscription",
    "keyword_set",
    "keyword",
    "quota_told",
    "metadata",
    "acl",
    "taken",
    "delivered",
)
"""Read as they are."""

_BY_CONTENT = (
    ("octets", "content"),
    ("rendered", "content"),
    ("fields", "content"),
    ("sort_key", "content"),
    ("line_end", "content"),
    ("thread", "message_id"),
    ("expunged", "content"),
    ("body_piece", "id"),
)
"""(table, its integer key)."""

_HIGHEST = (1 << 63) - 1
_LOWEST = -(1 << 63)
_PAGE_OCTETS = 4096


@dataclass(slots=True)
class Salvaged:
    """What became of an account's mail."""

    saved: int = 0
    """Messages in their places."""
    recovered: int = 0
    """In the mailbox RECOVERED."""
    lost: dict[str, int] = field(default_factory=dict)
    """By mailbox, as people write it."""
    is_uncounted: bool = False
    """What mailboxes had is not known, so neither is what is lost."""


def salvage(source: Path, target: Path, account: int, now_s: int) -> Salvaged:
    """Make the file `target` from what can be read of `source`, which is changed. Blocks. Raises Unavailable and
    apsw.Error if the new file cannot be written."""
    database.create(target, "account")
    old = _open(source, target)
    new = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        new.pragma("synchronous", "OFF")
        with new:
            if old is not None:
                _copy(old, new, account)
            salvaged = _put_right(Tx(account, new, {0: ()}, now_s))
        sort_keys.renew(new)  # the damaged file may be of a version that made them another way
    finally:
        if old is not None:
            old.close()
        new.close()
    return salvaged


def _open(source: Path, empty: Path) -> apsw.Connection | None:
    """The damaged file. If its first page, or another one that says where the tables are, is lost: with those of an
    empty file, which has the same tables in the same places if it was made by the same version."""
    connection = _try_open(source)
    if connection is not None:
        return connection
    octets = empty.read_bytes()
    pages = source.stat().st_size // _PAGE_OCTETS
    with source.open("r+b") as file:
        # Octets 28 to 31: the size in pages, which counts as octets 24 to 27 and 92 to 95 are the same.
        file.write(octets[:28] + pages.to_bytes(4, "big") + octets[32:_PAGE_OCTETS])
    connection = _try_open(source)
    if connection is not None:
        return connection
    with source.open("r+b") as file:
        for page in _pages_of_schema(empty):
            place = (page - 1) * _PAGE_OCTETS
            file.seek(place)
            file.write(octets[place : place + _PAGE_OCTETS])
    return _try_open(source)


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
    except apsw.Error:
        connection.close()
        return None
    return connection


def _copy(old: apsw.Connection, new: apsw.Connection, account: int) -> None:
    _insert(new, "account_state", _read(old, "account_state", "account", account, account))
    _insert(new, "mailbox", _read(old, "mailbox", "mailbox", 0, 1 << 40, account))
    for table in _SMALL:
        _insert(new, table, _both_ends(old, table))
    for table, key in _BY_CONTENT:
        lowest = _LOWEST if table == "thread" else 0
        _insert(new, table, _read(old, table, key, lowest, _HIGHEST))
    known = {row[0] for row in new.execute("SELECT mailbox FROM mailbox")}
    known |= _mailboxes_with_messages(old, account) | set(range(1, FIRST_GUESSED + 1))
    for mailbox in sorted(known):
        rows = _read(old, "message", "uid", 1, messages.MOST_UIDS, account, mailbox)
        _insert(new, "message", rows)


def _mailboxes_with_messages(connection: apsw.Connection, account: int) -> set[int]:
    """As far as the table of messages leads to them: the lowest, the next, and so on, and likewise from the highest."""
    found: set[int] = set()
    for pick, beyond, start in (("min", ">", -1), ("max", "<", _HIGHEST)):
        sql = f"SELECT {pick}(mailbox) FROM message WHERE account = ? AND mailbox {beyond} ?"
        place = start
        with suppress(apsw.Error):
            while (row := connection.execute(sql, (account, place)).fetchone()) and row[0]:
                place = int(row[0])
                found.add(place)
    return found


def _insert(connection: apsw.Connection, table: str, rows: Iterator[Any]) -> None:
    for row in rows:
        with suppress(apsw.ConstraintError, apsw.MismatchError, apsw.SQLError):
            connection.execute(f'INSERT INTO "{table}" VALUES ({",".join("?" * len(row))})', row)


def _both_ends(connection: apsw.Connection, table: str) -> Iterator[Any]:
    """The rows of a small table: from the first on up to what is damaged, then from the last on."""
    for order in ("", _backwards(connection, table)):
        try:
            yield from connection.execute(f'SELECT * FROM "{table}"{order}')
        except apsw.Error:
            continue
        return


def _backwards(connection: apsw.Connection, table: str) -> str:
    keys = connection.execute(
        "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table,)
    ).fetchall()
    return f" ORDER BY {', '.join(f'{row[0]} DESC' for row in keys)}" if keys else ""


def _read(
    connection: apsw.Connection, table: str, key: str, lowest: int, highest: int, *prefix: int
) -> Iterator[Any]:
    """The rows with such keys that can be read. `prefix`: the account, and the mailbox, of a table by these."""
    scope = "".join(f"{name} = ? AND " for name in ("account", "mailbox")[: len(prefix)])
    sql = f'SELECT * FROM "{table}" WHERE {scope}{key} BETWEEN ? AND ? ORDER BY {key}'
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    if key not in names:
        return
    place = names.index(key)
    ranges = deque([(lowest, highest)])
    attempts = 0
    while ranges and attempts < MOST_ATTEMPTS:
        low, high = ranges.popleft()
        try:
            for row in connection.execute(sql, (*prefix, low, high)):
                low = row[place] + 1
                yield row
            continue
        except apsw.Error:
            attempts += 1
        try:
            for row in connection.execute(f"{sql} DESC", (*prefix, low, high)):
                high = row[place] - 1
                yield row
            continue
        except apsw.Error:
            attempts += 1
        if low < high:
            middle = (low + high) // 2
            ranges += ((low, middle), (middle + 1, high))


def _put_right(tx: Tx) -> Salvaged:
    """Make the rows agree with each other."""
    result = Salvaged(is_uncounted=_mend_state(tx))
    counted = {
        mailbox: (name.replace("\x1f", "/"), count)
        for mailbox, name, count in tx.rows("SELECT mailbox, name, messages FROM mailbox", ())
    }
    whole = _mend_contents(tx)
    _mend_messages(tx, whole)
    _mend_keywords(tx)
    found = Counter(dict(tx.rows("SELECT mailbox, count(*) FROM message GROUP BY mailbox", ())))
    result.saved = found.total()
    result.lost = {
        name: count - found[mailbox]
        for mailbox, (name, count) in counted.items()
        if count > found[mailbox]
    }
    _count(tx)
    result.recovered = _recover_lost(tx, whole)
    for table in ("rendered", "fields", "sort_key", "line_end", "expunged"):
        tx.execute(f"DELETE FROM {table} WHERE content NOT IN (SELECT content FROM octets)", ())
    return result


def _mend_state(tx: Tx) -> bool:
    """The account's own row, and mailboxes for all messages; whether one of these was missing."""
    for table in ("message", "mailbox"):
        tx.execute(
            f"DELETE FROM {table} WHERE account != ? OR typeof(mailbox) != 'integer'", (tx.account,)
        )
    is_new = not tx.row("SELECT 1 FROM account_state", ())
    if is_new:
        tx.execute(
            "INSERT INTO account_state VALUES (?, 1, 1, 2, ?, 0, 0, 0)", (tx.account, tx.now_s)
        )
    tx.execute(
        "UPDATE account_state SET"
        " modseq = max(modseq, (SELECT coalesce(max(modseq), 0) FROM message)),"
        " next_content = max(next_content, 1 + (SELECT coalesce(max(content), 0) FROM octets)),"
        " next_mailbox = max(next_mailbox, 1 + (SELECT coalesce(max(mailbox), 0) FROM message),"
        " 1 + (SELECT coalesce(max(mailbox), 0) FROM mailbox)),"
        " uidvalidity = max(uidvalidity, (SELECT coalesce(max(uidvalidity), 0) FROM mailbox))",
        (),
    )
    rows = tx.rows("SELECT DISTINCT mailbox FROM message UNION SELECT 1", ())
    known = {row[0] for row in tx.rows("SELECT mailbox FROM mailbox", ())}
    missing = sorted(row[0] for row in rows if row[0] not in known)
    for mailbox in missing:
        is_inbox = mailbox == mailboxes.INBOX
        name = mailboxes.INBOX_NAME if is_inbox else _free(tx, f"{RECOVERED} {mailbox}")
        made = mailboxes.create(tx, name)
        tx.execute(
            "UPDATE mailbox SET mailbox = ? WHERE account = ? AND mailbox = ?",
            (mailbox, tx.account, made.id),
        )
    if is_new:
        for first, special_use in mailboxes.FIRST_MAILBOXES:
            if mailboxes.find(tx, (first,)) is None:
                mailboxes.create(tx, (first,), special_use)
    return bool(missing)


def _mend_contents(tx: Tx) -> set[int]:
    """Make anew what is rendered and missing; the contents that are whole."""
    whole = set()
    rows = tx.rows("SELECT content, length(header) + length(body) FROM octets", ())
    for content, octets in rows:
        known = tx.row("SELECT size FROM rendered WHERE content = ?", (content,)) or tx.row(
            "SELECT size FROM message WHERE content = ?", (content,)
        )
        pieces = tx.row(
            "SELECT coalesce(sum(length(octets)), 0), count(*), coalesce(max(id), 0) FROM body_piece"
            " WHERE id BETWEEN ? AND ?",
            (content << PIECE_BITS, (content + 1 << PIECE_BITS) - 1),
        )
        assert pieces is not None
        # Where nobody knows how long it was, pieces without a gap are taken for all of it.
        has_gap = pieces[1] and pieces[2] != (content << PIECE_BITS | pieces[1])
        if has_gap or (known is not None and known[0] != octets + pieces[0]):
            continue
        _render_again(tx, content)
        whole.add(content)
    return whole


def _render_again(tx: Tx, content: int) -> None:
    """Unless all that belongs to a content is there."""
    row = tx.row(
        "SELECT EXISTS (SELECT 1 FROM rendered WHERE content = ?1)"
        " AND EXISTS (SELECT 1 FROM fields WHERE content = ?1)"
        " AND EXISTS (SELECT 1 FROM sort_key WHERE content = ?1)",
        (content,),
    )
    if row != (1,):
        octets = _octets(tx, content)
        pieces = (content << PIECE_BITS, (content + 1 << PIECE_BITS) - 1)
        tx.execute("DELETE FROM body_piece WHERE id BETWEEN ? AND ?", pieces)
        for table in ("octets", "rendered", "fields", "sort_key", "line_end"):
            tx.execute(f"DELETE FROM {table} WHERE content = ?", (content,))
        known = make_content(octets)
        appending.insert_contents(tx, [(content, known, b"")])
        appending.insert_further_pieces(tx, known, content)


def _octets(tx: Tx, content: int) -> bytes:
    row = tx.row("SELECT header, body FROM octets WHERE content = ?", (content,))
    assert row is not None
    pieces = tx.rows(
        "SELECT octets FROM body_piece WHERE id BETWEEN ? AND ? ORDER BY id",
        (content << PIECE_BITS, (content + 1 << PIECE_BITS) - 1),
    )
    return b"".join((*row, *(piece for (piece,) in pieces)))


def _mend_messages(tx: Tx, whole: set[int]) -> None:
    """Leave those whose octets are whole, with flags that exist."""
    rows = tx.rows("SELECT mailbox, uid, content FROM message", ())
    for mailbox, uid, content in rows:
        if content not in whole:
            tx.execute("DELETE FROM message WHERE mailbox = ? AND uid = ?", (mailbox, uid))
    tx.execute(
        "UPDATE message SET size = (SELECT size FROM rendered AS r WHERE r.content = message.content)",
        (),
    )
    tx.execute(
        "UPDATE message SET flags = flags & 31 WHERE flags >> 5 != 0"
        " AND flags >> 5 NOT IN (SELECT id FROM keyword_set)",
        (),
    )


def _mend_keywords(tx: Tx) -> None:
    """All that are in a set are known."""
    for (names,) in tx.rows("SELECT names FROM keyword_set", ()):
        for name in names.split():
            tx.execute(
                "INSERT OR IGNORE INTO keyword VALUES (?, ?, ?)", (tx.account, name.lower(), name)
            )


def _count(tx: Tx) -> None:
    """What mailboxes and the account count."""
    of_mailbox = (
        "FROM message AS m WHERE m.account = mailbox.account AND m.mailbox = mailbox.mailbox)"
    )
    tx.execute(
        f"UPDATE mailbox SET messages = (SELECT count(*) {of_mailbox},"
        f" unseen = (SELECT coalesce(sum(flags & 8 = 0), 0) {of_mailbox},"
        f" deleted = (SELECT coalesce(sum(flags & 4 != 0), 0) {of_mailbox},"
        f" octets = (SELECT coalesce(sum(size), 0) {of_mailbox},"
        f" uidnext = max(uidnext, 1 + (SELECT coalesce(max(uid), 0) {of_mailbox})",
        (),
    )
    tx.execute(
        "UPDATE account_state SET messages = (SELECT count(*) FROM message),"
        " octets = (SELECT coalesce(sum(size), 0) FROM message)",
        (),
    )
    tx.execute("UPDATE mailbox SET change_floor = (SELECT modseq FROM account_state)", ())


def _recover_lost(tx: Tx, whole: set[int]) -> int:
    """Append octets that belong to no message to a mailbox of their own."""
    placed = {
        row[0]
        for row in tx.rows("SELECT content FROM message UNION SELECT content FROM expunged", ())
    }
    lost = sorted(whole - placed)
    if lost:
        target = mailboxes.create(tx, _free(tx, RECOVERED))
        for content in lost:
            item = Append(target.id, make_content(_octets(tx, content)), pack_date(tx.now_s, 0))
            appending.append(tx, item)
    for content in {row[0] for row in tx.rows("SELECT content FROM octets", ())} - placed:
        if content in whole or not tx.row("SELECT 1 FROM message WHERE content = ?", (content,)):
            tx.execute(
                "INSERT OR IGNORE INTO expunged VALUES (?, ?, ?)", (tx.account, content, tx.now_s)
            )
    return len(lost)


def _free(tx: Tx, wanted: str) -> Name:
    """A name that no mailbox has."""
    number, name = 1, (wanted,)
    while mailboxes.find(tx, name) is not None:
        number += 1
        name = (f"{wanted} ({number})",)
    return name
