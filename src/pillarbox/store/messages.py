"""Messages of a mailbox: adding, reading, copying, moving and expunging, always set-wise. Flags: `store.flags`.

UIDs are given as inclusive ranges, ascending and disjoint. Appends come by `store.append`; the other writes are
durable by `store.write`.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pillarbox.core import flags as flag
from pillarbox.core.errors import Refused
from pillarbox.store import keywords, mailboxes
from pillarbox.store.content import PIECE_BITS, PIECE_OCTETS, Content, Rendered
from pillarbox.store.quota import Quota, ensure_within
from pillarbox.store.tx import Tx

Ranges = Sequence[tuple[int, int]]

MOST_UIDS = (1 << 32) - 1

_MOST_THREAD_REFERENCES = 20


@dataclass(slots=True)
class Append:
    """What a delivery or APPEND does to an account."""

    mailbox: int
    content: Content
    internaldate: int
    """A packed date (core.dates)."""
    flags: int = 0
    """System flags only."""
    keywords: tuple[bytes, ...] = ()
    prefix: bytes = b""
    """Whole header fields put in front of the message for this mailbox."""
    delivery_key: str = ""
    """With a key, the same delivery done again adds nothing."""
    quota: Quota | None = None
    """With one, the message is only taken while the account stays within it."""
    queue_id: str = ""
    """Under which the trace knows it, "" for none."""

    @property
    def size(self) -> int:
        """Octets as clients see it (RFC822.SIZE)."""
        return len(self.prefix) + len(self.content.octets)


@dataclass(slots=True)
class Appended:
    """Where an appended message is. A uid of 0: it was there before (same delivery key)."""

    mailbox: int
    uidvalidity: int
    uid: int
    modseq: int


@dataclass(slots=True)
class Numbers:
    """What is given to a message at its append, or taken from the journal on replay."""

    uid: int
    modseq: int
    content: int
    savedate: int


def append(tx: Tx, item: Append, staged_content: int = 0) -> Appended:
    """Add a message. `staged_content`: its body is in the file already under this number.

    Raises Refused TRYCREATE when the mailbox is gone, LIMIT when its UIDs are used up, OVERQUOTA.
    """
    if item.delivery_key:
        if tx.row(
            "SELECT 1 FROM delivered WHERE account = ? AND key = ?",
            (tx.account, item.delivery_key),
        ):
            return Appended(item.mailbox, 0, 0, 0)
        tx.execute(
            "INSERT INTO delivered VALUES (?, ?, ?)", (tx.account, item.delivery_key, tx.now_s)
        )
    size = item.size
    state = tx.row(
        "UPDATE account_state SET modseq = modseq + 1, next_content = next_content + ?,"
        " messages = messages + 1, octets = octets + ? WHERE account = ?"
        " RETURNING modseq, next_content - 1",
        (0 if staged_content else 1, size, tx.account),
    )
    assert state is not None
    modseq, content = state
    if staged_content:
        content = staged_content
        tx.execute("DELETE FROM staged WHERE content = ?", (content,))
    row = tx.row(
        "UPDATE mailbox SET uidnext = uidnext + 1, messages = messages + 1, unseen = unseen + ?,"
        " deleted = deleted + ?, octets = octets + ?, modseq = ?"
        " WHERE account = ? AND mailbox = ? RETURNING uidnext - 1, uidvalidity",
        (
            0 if item.flags & flag.SEEN else 1,
            1 if item.flags & flag.DELETED else 0,
            size,
            modseq,
            tx.account,
            item.mailbox,
        ),
    )
    if row is None:
        raise Refused("there is no such mailbox", "TRYCREATE")
    uid, uidvalidity = row
    if uid > MOST_UIDS:
        raise Refused("the mailbox has used all its numbers; move its mail to another", "LIMIT")
    if item.quota is not None:
        ensure_within(tx, item.quota)
    insert_message(tx, item, Numbers(uid, modseq, content, tx.now_s), with_body=not staged_content)
    tx.changed.add(item.mailbox)
    return Appended(item.mailbox, uidvalidity, uid, modseq)


def insert_message(tx: Tx, item: Append, numbers: Numbers, *, with_body: bool = True) -> None:
    """The rows of a new message, under numbers that are given; `with_body` False: without further pieces."""
    account, execute = tx.account, tx.execute
    flags = item.flags
    if item.keywords:
        flags |= keywords.set_id(tx, item.keywords) << flag.KEYWORD_SHIFT
    size = item.size
    execute(
        "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        (
            account,
            item.mailbox,
            numbers.uid,
            numbers.content,
            flags,
            numbers.modseq,
            size,
            item.internaldate,
            numbers.savedate,
        ),
    )
    insert_content(tx, item.content, numbers.content, item.prefix, with_body=with_body)


def insert_content(
    tx: Tx, content: Content, number: int, prefix: bytes = b"", *, with_body: bool = True
) -> None:
    """What is kept by content, behind the fields in `prefix`, under a number."""
    rendered = content.rendered
    account, execute = tx.account, tx.execute
    execute(
        "INSERT INTO rendered VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            account,
            number,
            len(prefix) + content.header_size,
            len(prefix) + len(content.octets),
            _thread(tx, rendered, number),
            rendered.envelope,
            rendered.bodystructure,
            rendered.preview,
        ),
    )
    execute(
        "INSERT INTO fields VALUES (?, ?, ?, ?)", (account, number, rendered.shape, rendered.fields)
    )
    execute(
        "INSERT INTO octets VALUES (?, ?, ?, ?, ?)",
        (
            account,
            number,
            prefix + content.header,
            rendered.parts,
            content.body_piece(0),
        ),
    )
    if rendered.line_ends_added:
        execute(
            "INSERT INTO line_end VALUES (?, ?, ?)", (account, number, rendered.line_ends_added)
        )
    if with_body:
        for piece in range(1, content.pieces):
            insert_body_piece(tx, content, number, piece)
    execute(
        "INSERT INTO sort_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            account,
            number,
            rendered.sent,
            rendered.subject,
            rendered.is_reply,
            rendered.from_key,
            rendered.to_key,
            rendered.cc_key,
            rendered.message_id,
            array("q", rendered.references).tobytes(),
        ),
    )


def insert_body_piece(tx: Tx, content: Content, number: int, piece: int) -> None:
    """A piece of the body of content `number`, from 1 on."""
    tx.execute(
        "INSERT INTO body_piece VALUES (?, ?, ?)",
        (tx.account, number << PIECE_BITS | piece, content.body_piece(piece)),
    )


def stage(tx: Tx) -> int:
    """Take a content number for a body that will be written in several steps."""
    row = tx.row(
        "UPDATE account_state SET next_content = next_content + 1 WHERE account = ?"
        " RETURNING next_content - 1",
        (tx.account,),
    )
    assert row is not None
    tx.execute("INSERT INTO staged VALUES (?, ?)", (tx.account, row[0]))
    return int(row[0])


def staged(tx: Tx) -> frozenset[int]:
    """Contents that are being written in several steps."""
    rows = tx.rows("SELECT content FROM staged WHERE account = ?", (tx.account,))
    return frozenset(row[0] for row in rows)


def discard_staged(tx: Tx, content: int) -> None:
    """Give up a staged body."""
    tx.execute(
        "DELETE FROM body_piece WHERE id BETWEEN ? AND ?",
        (content << PIECE_BITS, (content + 1 << PIECE_BITS) - 1),
    )
    tx.execute("DELETE FROM staged WHERE content = ?", (content,))


def _thread(tx: Tx, rendered: Rendered, number: int) -> int:
    """The THREADID (RFC 8474 §5.2): that of any message it refers to or that refers to it, else a new one."""
    known = rendered.references[-_MOST_THREAD_REFERENCES:]
    if rendered.message_id:
        known = (rendered.message_id, *known)
    if not known:
        return number
    row = tx.row(
        f"SELECT min(thread) FROM thread WHERE message_id IN ({','.join('?' * len(known))})", known
    )
    thread = number if row is None or row[0] is None else int(row[0])
    for message_id in known:
        tx.execute(
            "INSERT OR IGNORE INTO thread VALUES (?, ?, ?)", (tx.account, message_id, thread)
        )
    return thread


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


@lru_cache(maxsize=256)
def _select_sql(columns: tuple[str, ...]) -> str:
    names = [_COLUMNS[column] for column in columns]
    tables = {name[0] for name in names}
    joins = "".join(join for table, join in _JOINS.items() if table in tables)
    return (
        f"SELECT {', '.join(names)} FROM message AS m{joins}"
        " WHERE m.account = ? AND m.mailbox = ? AND m.uid BETWEEN ? AND ? ORDER BY m.uid"
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


def of_contents(
    tx: Tx, mailbox: int, uid_range: tuple[int, int], contents: str, above: int
) -> list[int]:
    """UIDs in a range, ascending, of messages with one of `contents` (a list in JSON) or with a content above
    `above`."""
    rows = tx.execute(
        "SELECT uid FROM message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
        " AND (content > ? OR content IN (SELECT value FROM json_each(?))) ORDER BY uid",
        (tx.account, mailbox, *uid_range, above, contents),
    )
    return [row[0] for row in rows]


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
