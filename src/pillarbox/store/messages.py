"""Messages of a mailbox: reading, copying, moving and expunging, always set-wise. Adding: `store.appending`; flags:
`store.flags`.

UIDs are given as inclusive ranges, ascending and disjoint. What writes is durable by `store.write`.
"""

import json
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pillarbox.core.dates import epoch_of
from pillarbox.core.errors import Refused
from pillarbox.store import mailboxes
from pillarbox.store.content import PIECE_BITS, PIECE_OCTETS
from pillarbox.store.numbers import HIGHEST_UID
from pillarbox.store.tx import Tx

Ranges = Sequence[tuple[int, int]]

MOST_UIDS = HIGHEST_UID


# Reading

_COLUMNS = {
    "uid": "m.uid",
    "flags": "m.flags",
    "modseq": "m.modseq",
    "size": "m.size",
    "internaldate": "m.internaldate",
    "savedate": "m.savedate",
    "content": "m.content",
    "uidl": "m.uidl",
    "header_size": "r.header_size",
    "envelope": "r.envelope",
    "bodystructure": "r.bodystructure",
    "preview": "r.preview",
    "thread": "r.thread",
    "shape": "f.shape",
    "fields": "f.octets",
    "header": "o.header",
    "parts": "o.parts",
    "body": "o.body",
    "line_ends_added": "e.added",
    "sent": "k.sent",
    "subject": "k.subject",
    "is_reply": "k.is_reply",
    "from_key": "k.from_key",
    "to_key": "k.to_key",
    "cc_key": "k.cc_key",
    "message_id": "k.message_id",
    "refs": "k.refs",
}
"""What `select` can give. `body` is the first piece; `line_ends_added` is None for 0;
dates are packed (core.dates)."""

_JOINS = {
    "r": " JOIN rendered AS r ON r.content = m.content",
    "f": " JOIN fields AS f ON f.content = m.content",
    "o": " JOIN octets AS o ON o.content = m.content",
    "e": " LEFT JOIN line_end AS e ON e.content = m.content",
    "k": " JOIN sort_key AS k ON k.content = m.content",
}


_BETWEEN = "BETWEEN ? AND ?"
_AMONG = "IN (SELECT value FROM json_each(?))"


@lru_cache(maxsize=256)
def _select_sql(columns: tuple[str, ...], wanted: str = _BETWEEN) -> str:
    names = [_COLUMNS[column] for column in columns]
    tables = {name[0] for name in names}
    joins = "".join(join for table, join in _JOINS.items() if table in tables)
    return (
        f"SELECT {', '.join(names)} FROM message AS m{joins}"
        f" WHERE m.account = ? AND m.mailbox = ? AND m.uid {wanted} ORDER BY m.uid"
    )


_TOUCHED = {"r": "r.size", "f": "length(f.octets)", "k": "length(k.refs)"}
"""Behind what is read of a row, by table. What bodies and header blocks take is left alone."""


def touching_sql(columns: tuple[str, ...]) -> str:
    """A query of one row with the parameters of `select`'s, which reads the pages that `select` needs for `columns`;
    "" where these are few."""
    tables = {_COLUMNS[column][0] for column in columns}
    touched = [value for table, value in _TOUCHED.items() if table in tables]
    if not touched:
        return ""
    joins = "".join(join for table, join in _JOINS.items() if table in tables & _TOUCHED.keys())
    return (
        f"SELECT {', '.join(f'total({value})' for value in touched)} FROM message AS m{joins}"
        " WHERE m.account = ? AND m.mailbox = ? AND m.uid BETWEEN ? AND ?"
    )


def select(
    tx: Tx, mailbox: int, ranges: Ranges, columns: tuple[str, ...], limit: int = -1
) -> list[tuple[Any, ...]]:
    """Rows of the messages in `ranges`, by UID, at most `limit` of them (-1: all). See `_COLUMNS`."""
    sql = _select_sql(columns)
    account = tx.account
    if len(ranges) == 1 and limit < 0:
        return tx.rows(sql, (account, mailbox, *ranges[0]))
    if limit < 0 and all(first == last for first, last in ranges):
        uids = json.dumps([first for first, _ in ranges])
        return tx.rows(_select_sql(columns, _AMONG), (account, mailbox, uids))
    found: list[tuple[Any, ...]] = []
    sql += " LIMIT ?"
    for first, last in ranges:
        left = -1 if limit < 0 else limit - len(found)
        if left == 0:
            break
        found += tx.execute(sql, (account, mailbox, first, last, left)).fetchall()
    return found


def select_octets(
    tx: Tx, mailbox: int, ranges: Ranges, columns: tuple[str, ...], octets: int
) -> tuple[list[tuple[Any, ...]], bool]:
    """Like `select`, but only up to the row with which ENVELOPE and BODYSTRUCTURE are more than `octets` together, and
    whether there may be more behind it."""
    sql = _select_sql(columns)
    places = [columns.index(name) for name in columns if name in ("envelope", "bodystructure")]
    found: list[tuple[Any, ...]] = []
    for first, last in ranges:
        for row in tx.execute(sql, (tx.account, mailbox, first, last)):
            found.append(row)
            for place in places:
                octets -= len(row[place])
            if octets < 0:
                return found, True
    return found, False


def uids(tx: Tx, mailbox: int, first_uid: int = 1) -> "array[int]":
    """The UIDs from `first_uid` on, ascending."""
    rows = tx.execute(
        "SELECT uid FROM message WHERE account = ? AND mailbox = ? AND uid >= ? ORDER BY uid",
        (tx.account, mailbox, first_uid),
    )
    return array("I", [row[0] for row in rows])


def of_contents(tx: Tx, mailbox: int, contents: str, most: int) -> list[int]:
    """UIDs of messages with one of `contents`, a list in JSON; `most` of them."""
    # Without statistics SQLite would go through the whole mailbox.
    rows = tx.execute(
        "SELECT uid FROM message INDEXED BY message_content"
        " WHERE content IN (SELECT value FROM json_each(?)) AND account = ? AND mailbox = ? LIMIT ?",
        (contents, tx.account, mailbox, most),
    )
    return [row[0] for row in rows]


def of_contents_above(tx: Tx, mailbox: int, above: int, most: int) -> list[int]:
    """UIDs of messages with a content above `above`; `most` of them."""
    rows = tx.execute(
        "SELECT uid FROM message INDEXED BY message_content"
        " WHERE content > ? AND account = ? AND mailbox = ? LIMIT ?",
        (above, tx.account, mailbox, most),
    )
    return [row[0] for row in rows]


def arrivals(tx: Tx, mailbox: int) -> dict[tuple[int, int], list[int]]:
    """The contents of all messages by (size, moment of arrival in epoch seconds). Not bounded: for who has the store
    alone."""
    found: dict[tuple[int, int], list[int]] = {}
    for size, date, content in tx.rows(
        "SELECT size, internaldate, content FROM message WHERE account = ? AND mailbox = ?",
        (tx.account, mailbox),
    ):
        found.setdefault((size, epoch_of(date)), []).append(content)
    return found


def digest(tx: Tx, content: int) -> bytes:
    """SHA-256 of all octets of a message, read piece by piece; of none where it is gone."""
    made = sha256()
    for pieces in tx.rows("SELECT header, body FROM octets WHERE content = ?", (content,)):
        for piece in pieces:
            made.update(piece)
    first = content << PIECE_BITS
    for (piece,) in tx.execute(
        "SELECT octets FROM body_piece WHERE id BETWEEN ? AND ? ORDER BY id",
        (first, (content + 1 << PIECE_BITS) - 1),
    ):
        made.update(piece)
    return made.digest()


def with_flags(
    tx: Tx, mailbox: int, uid_range: tuple[int, int], mask: int, value: int
) -> list[int]:
    """UIDs in a range, ascending, of messages whose flags are `value` where `mask` has a bit."""
    rows = tx.execute(
        "SELECT uid FROM message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
        " AND flags & ? = ? ORDER BY uid",
        (tx.account, mailbox, *uid_range, mask, value),
    )
    return [row[0] for row in rows]


def first_unseen(tx: Tx, mailbox: int) -> int | None:
    """UID of the first message without \\Seen, or None (RFC 3501 §7.1 UNSEEN)."""
    row = tx.row(
        "SELECT uid FROM message WHERE account = ? AND mailbox = ? AND flags & 8 = 0 ORDER BY uid LIMIT 1",
        (tx.account, mailbox),
    )
    return int(row[0]) if row else None


def whole(tx: Tx, content: int) -> bytes | None:
    """The octets of a message whose body is one piece at most; None if it is gone."""
    row = tx.row("SELECT header, body FROM octets WHERE content = ?", (content,))
    return row[0] + row[1] if row else None


def deleted_octets(tx: Tx, mailbox: int) -> int:
    """How much would be gone with the messages that have \\Deleted."""
    row = tx.row(
        "SELECT total(size) FROM message WHERE account = ? AND mailbox = ? AND flags & 4 != 0",
        (tx.account, mailbox),
    )
    return int(row[0]) if row else 0


_FIRST_PIECE = "SELECT substr(body, ?, ?) FROM octets WHERE content = ?"
_BODY_PIECE = "SELECT substr(octets, ?, ?) FROM body_piece WHERE id = ?"


def body(tx: Tx, content: int, start: int, length: int) -> bytes:
    """`length` octets of the body (what is behind the header block) from `start` on; short at its end."""
    found: list[bytes] = []
    while length > 0:
        piece, offset = divmod(start, PIECE_OCTETS)
        if piece:
            sql, key = _BODY_PIECE, content << PIECE_BITS | piece
        else:
            sql, key = _FIRST_PIECE, content
        row = tx.row(sql, (offset + 1, length, key))
        if row is None or not row[0]:
            break
        found.append(row[0])
        start += len(row[0])
        length -= len(row[0])
    return b"".join(found)


# Copying and expunging


def copy(tx: Tx, mailbox: int, ranges: Ranges, target: int) -> tuple[list[int], int]:
    """Copy messages with flags and dates; returns the source UIDs and the first of the new UIDs, which are consecutive
    in the same order (RFC 4315 §3).

    Raises Refused TRYCREATE when the target is gone.
    """
    sources: list[int] = []
    first_new = 0
    modseq = mailboxes.next_modseq(tx)
    for first, last in ranges:
        found = [row[0] for row in select(tx, mailbox, [(first, last)], ("uid",))]
        if not found:
            continue
        start = _copy_range(tx, mailbox, (first, last), target, modseq)
        first_new = first_new or start
        sources += found
    tx.changed.add(target)
    return sources, first_new


def _copy_range(tx: Tx, mailbox: int, uid_range: tuple[int, int], target: int, modseq: int) -> int:
    where = " WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
    scope = (tx.account, mailbox, *uid_range)
    totals = tx.row(
        "SELECT count(*), sum(size), sum(flags & 8 = 0), sum(flags & 4 != 0) FROM message" + where,
        scope,
    )
    assert totals is not None
    count, octets, unseen, deleted = totals
    row = tx.row(
        "UPDATE mailbox SET uidnext = uidnext + ?, messages = messages + ?, unseen = unseen + ?,"
        " deleted = deleted + ?, octets = octets + ?, modseq = ?"
        " WHERE account = ? AND mailbox = ? RETURNING uidnext",
        (count, count, unseen, deleted, octets, modseq, tx.account, target),
    )
    if row is None:
        raise Refused("there is no such mailbox", "TRYCREATE")
    start: int = row[0] - count
    tx.execute(
        "INSERT INTO message SELECT account, ?, ? + row_number() OVER (ORDER BY uid), content, flags, ?,"
        f" size, internaldate, ?, NULL FROM message{where}",
        (target, start - 1, modseq, tx.now_s, *scope),
    )
    tx.execute(
        "UPDATE account_state SET messages = messages + ?, octets = octets + ? WHERE account = ?",
        (count, octets, tx.account),
    )
    return start


def move(tx: Tx, mailbox: int, ranges: Ranges, target: int) -> tuple[list[int], int]:
    """Copy, then expunge the sources, as one (RFC 6851 §3.3)."""
    sources, first_new = copy(tx, mailbox, ranges, target)
    expunge(tx, mailbox, ranges, only_deleted=False)
    return sources, first_new


def expunge(tx: Tx, mailbox: int, ranges: Ranges, *, only_deleted: bool = True) -> list[int]:
    """Remove messages (those with \\Deleted, or all) in `ranges`; returns their UIDs, ascending."""
    gone: list[int] = []
    counts = [0, 0, 0, 0]
    condition = " AND flags & 4 != 0" if only_deleted else ""
    where = f" WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?{condition}"
    for first, last in ranges:
        scope = (tx.account, mailbox, first, last)
        totals = tx.row(
            "SELECT count(*), total(size), total(flags & 8 = 0), total(flags & 4 != 0) FROM message"
            + where,
            scope,
        )
        assert totals is not None
        if not totals[0]:
            continue
        gone += [row[0] for row in tx.execute("SELECT uid FROM message" + where, scope)]
        tx.execute(
            "INSERT OR REPLACE INTO expunged SELECT account, content, ? FROM message" + where,
            (tx.now_s, *scope),
        )
        tx.execute("DELETE FROM message" + where, scope)
        counts = [old + int(new) for old, new in zip(counts, totals, strict=True)]
    if not gone:
        return gone
    modseq = mailboxes.next_modseq(tx)
    messages, octets, unseen, deleted = counts
    tx.execute(
        "UPDATE mailbox SET messages = messages - ?, octets = octets - ?, unseen = unseen - ?,"
        " deleted = deleted - ?, modseq = ? WHERE account = ? AND mailbox = ?",
        (messages, octets, unseen, deleted, modseq, tx.account, mailbox),
    )
    tx.execute(
        "UPDATE account_state SET messages = messages - ?, octets = octets - ? WHERE account = ?",
        (messages, octets, tx.account),
    )
    mailboxes.record_change(tx, mailbox, modseq, to_ranges(gone), mailboxes.EXPUNGED)
    tx.changed.add(mailbox)
    return gone


def to_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as inclusive ranges: [1, 2, 5] -> [(1, 2), (5, 5)]."""
    ranges: list[tuple[int, int]] = []
    start = previous = -1
    for number in numbers:
        if number == previous + 1 and start >= 0:
            previous = number
            continue
        if start >= 0:
            ranges.append((start, previous))
        start = previous = number
    if start >= 0:
        ranges.append((start, previous))
    return ranges
