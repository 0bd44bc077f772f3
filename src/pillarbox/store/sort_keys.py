"""The keys for SORT and THREAD in an account's file, made anew from header fields: an older version of Pillarbox made
them another way, and what it compared as equal need not be so by i;unicode-casemap (RFC 5051)."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import apsw

from pillarbox.mime.envelope import parse_addresses
from pillarbox.mime.header import header_values, split_header
from pillarbox.mime.message import SortKeys, sort_keys

BATCH = 500
"""Messages in a transaction: some 15 ms."""
BATCHES_A_CHECKPOINT = 40

_PROGRESS = (
    "CREATE TABLE IF NOT EXISTS renewed (up_to INTEGER NOT NULL)",
    "INSERT INTO renewed SELECT -1 WHERE NOT EXISTS (SELECT 1 FROM renewed)",
)
_FIELDS = frozenset((b"subject", b"from", b"to", b"cc"))

log = logging.getLogger("pillarbox.store")


def renew(connection: apsw.Connection) -> None:
    """Make the keys of all messages anew, a batch after the other; if it is interrupted, the next call goes on from
    there. Blocks: some 30 microseconds for a message. Raises apsw.Error."""
    if connection.execute("SELECT EXISTS (SELECT 1 FROM sort_key)").fetchone() == (0,):
        return
    for statement in _PROGRESS:
        connection.execute(statement)
    number = 0
    while _renew_batch(connection):
        number += 1
        if number % BATCHES_A_CHECKPOINT == 0:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    connection.execute("DROP TABLE renewed")


def _renew_batch(connection: apsw.Connection) -> bool:
    """Whether there was any left."""
    with connection:
        (behind,) = connection.execute("SELECT up_to FROM renewed").fetchone() or (-1,)
        rows: list[Any] = connection.execute(
            "SELECT k.content, f.octets FROM sort_key AS k"
            " LEFT JOIN fields AS f ON f.content = k.content AND f.shape IS NOT NULL"
            " WHERE k.content > ? ORDER BY k.content LIMIT ?",
            (behind, BATCH),
        ).fetchall()
        if not rows:
            return False
        connection.executemany(
            "UPDATE sort_key SET subject = ?, is_reply = ?, from_key = ?, to_key = ?, cc_key = ?"
            " WHERE content = ?",
            _renewed(connection, rows),
        )
        connection.execute("UPDATE renewed SET up_to = ?", (rows[-1][0],))
    return True


def _renewed(
    connection: apsw.Connection, rows: Iterable[tuple[int, bytes | None]]
) -> Iterator[tuple[str | int, ...]]:
    """The keys of contents, with these, from their common fields (None: from the header)."""
    for content, fields in rows:
        try:
            # NUL parts them, and is in none; or there were too many of them.
            block = fields.replace(b"\0", b"") if fields else _header(connection, content)
            yield (*_keys(block), content)
        except apsw.Error:
            raise
        except Exception:
            log.exception("a bug in the parser: the sort keys of content %d stay", content)


def _header(connection: apsw.Connection, content: int) -> bytes:
    row = connection.execute("SELECT header FROM octets WHERE content = ?", (content,)).fetchone()
    return bytes(row[0]) if row else b""


def _keys(block: bytes) -> SortKeys:
    values = header_values(block, split_header(block), _FIELDS)
    return sort_keys(values, parse_addresses(values))
