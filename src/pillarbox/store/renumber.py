"""What is changed in an account's file before it is used in place of another: from a backup, or from a repair.

Clients may have seen numbers that the file does not know of. So each mailbox gets a new UIDVALIDITY, and they forget
what they had (RFC 3501 §2.3.1.1, RFC 9051 §2.3.1.1); mailboxes and contents get their ids above all that may have been
given (RFC 8474 §4.1, §5.1). Some clients (mbsync) go by UIDs all the same: new mail gets UIDs above all that may have
been given, and so does a message that the file in use has no more, or they would take it for one that they had. The
unique ids of POP3 must stay (RFC 1939 §7): each message of INBOX keeps the one it had.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from pillarbox.store import database, mailboxes, numbers
from pillarbox.store.accounts import account_path
from pillarbox.store.numbers import can_be, possible

CONTENTS_SKIPPED = 1 << 24
MAILBOXES_SKIPPED = 1 << 20
UIDS_SKIPPED = 1 << 20
"""More than there can have been since."""

_AWAY = -(1 << 62)
"""From here on there is no UID."""


@dataclass(slots=True)
class Seen:
    """The highest numbers that the file in use has given."""

    uidvalidity: int = 0
    content: int = 0
    mailbox: int = 0
    modseq: int = 0
    kept: dict[str, "SeenMailbox"] = field(default_factory=dict)
    """What the mailboxes have now, by name."""


@dataclass(slots=True)
class SeenMailbox:
    """Clients may have seen each UID below `uidnext`; those of `messages` are there, with size and date."""

    uidnext: int
    messages: dict[int, tuple[int, int]]


def mailboxes_of(path: Path) -> dict[str, SeenMailbox]:
    """Of a file that may be missing or damaged: then none, and all messages keep their UIDs."""
    found = {}
    try:
        connection = database.open_to_read(path)
        try:
            rows: list[Any] = connection.execute(
                "SELECT account, mailbox, name, uidnext FROM mailbox"
            ).fetchall()
            for account, mailbox, name, uidnext in rows:
                messages: Any = connection.execute(
                    "SELECT uid, size, internaldate FROM message WHERE account = ? AND mailbox = ?",
                    (account, mailbox),
                )
                kept = {
                    uid: (size, date)
                    for uid, size, date in messages
                    if can_be(uid, numbers.HIGHEST_UID)
                }
                following = possible(uidnext, numbers.HIGHEST_UIDNEXT) or max(kept, default=0) + 1
                found[name] = SeenMailbox(following, kept)
        finally:
            connection.close()
    except (apsw.Error, UnicodeDecodeError):
        return {}
    return found


def seen_by(path: Path) -> Seen:
    """Of a file that may be missing or damaged: what can be read of it, and can be."""
    seen = Seen()
    try:
        connection = database.open_to_read(path)
        try:
            rows: list[Any] = connection.execute(
                "SELECT uidvalidity, next_content, next_mailbox, modseq FROM account_state"
            ).fetchall()
            for uidvalidity, content, mailbox, modseq in rows:
                seen.modseq = possible(modseq, numbers.BELIEVED_MODSEQ)
                seen.uidvalidity = possible(uidvalidity, numbers.BELIEVED_UIDVALIDITY)
                seen.content = possible(content, numbers.BELIEVED_CONTENT)
                seen.mailbox = possible(mailbox, numbers.BELIEVED_MAILBOX)
            of_mailboxes = _highest(
                connection, "uidvalidity", "mailbox", numbers.BELIEVED_UIDVALIDITY
            )
            seen.uidvalidity = max(seen.uidvalidity, of_mailboxes)
        finally:
            connection.close()
    except (apsw.Error, UnicodeDecodeError):
        pass  # so much of it as could be read
    return seen


def _highest(connection: apsw.Connection, column: str, table: str, highest: int) -> int:
    """Of those that can be; 0 for none."""
    row: Any = connection.execute(
        f"SELECT max({column}) FROM {table} WHERE typeof({column}) = 'integer'"
        f" AND {column} BETWEEN 1 AND {highest}"
    ).fetchone()
    return row[0] or 0


def is_of(path: Path, account: int) -> bool:
    """Whether a file is that of an account already. Raises apsw.Error."""
    connection = database.open_to_read(path)
    try:
        rows = connection.execute("SELECT account FROM account_state").fetchall()
    finally:
        connection.close()
    return [account] == [row[0] for row in rows]


def give_to(path: Path, account: int, folder: Path) -> Path:
    """Make a file that of another number of account; where it is then, below `folder`. What it says of how much it has
    of that one's mail is of no other's: a worker counts what it takes for all. Raises apsw.Error, OSError."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        tables = [
            str(row[0])
            for row in connection.execute(
                "SELECT m.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c"
                " WHERE m.type = 'table' AND c.name = 'account'"
            )
        ]
        with connection:
            for table in {"taken", "delivered"} & set(tables):
                connection.execute(f"DELETE FROM {table} WHERE account != ?", (account,))
            for table in tables:
                connection.execute(f'UPDATE "{table}" SET account = ?', (account,))
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
    target = account_path(folder, account)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.rename(target)
    return target


def renumber(
    path: Path,
    account: int,
    seen: Seen,
    *,
    generation: int,
    now_s: int,
    grantees: Collection[int] | None,
) -> None:
    """Give all new numbers, and leave shares to `grantees` and to anyone (None: all of them). Synced on return.
    Raises apsw.Error, Unavailable."""
    connection = database.connect(path)
    try:
        database.migrate(connection, "account")
        database.set_synchronous(connection, database.FULL)
        with connection:
            _keep_unique_ids(connection, account)
            _move_up(connection, account, seen.kept)
            _renumber(connection, account, seen, generation, now_s)
            if grantees is not None:
                rows: list[Any] = connection.execute("SELECT DISTINCT grantee FROM acl").fetchall()
                for grantee in {row[0] for row in rows} - {0, *grantees}:
                    connection.execute("DELETE FROM acl WHERE grantee = ?", (grantee,))
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
    database.sync_file(path)


def _keep_unique_ids(connection: apsw.Connection, account: int) -> None:
    """As `pop3d.maildrop` makes them."""
    connection.execute(
        "UPDATE message SET uidl = (SELECT printf('%08x', uidvalidity) FROM mailbox AS b"
        " WHERE b.account = message.account AND b.mailbox = message.mailbox) || printf('%08x', uid)"
        " WHERE account = ? AND mailbox = ? AND uidl IS NULL",
        (account, mailboxes.INBOX),
    )


def _move_up(connection: apsw.Connection, account: int, kept: dict[str, SeenMailbox]) -> None:
    """New UIDs for messages that their mailbox has no more, and for all that come."""
    boxes: list[Any] = connection.execute(
        "SELECT mailbox, name, uidnext FROM mailbox WHERE account = ?", (account,)
    ).fetchall()
    for mailbox, name, own_next in boxes:
        now = kept.get(name, SeenMailbox(1, {}))
        rows: list[Any] = connection.execute(
            "SELECT uid, size, internaldate FROM message WHERE account = ? AND mailbox = ? ORDER BY uid",
            (account, mailbox),
        ).fetchall()
        uids = [uid for uid, *_ in rows if can_be(uid, numbers.HIGHEST_UID)]
        moving = [
            uid
            for uid, *figures in rows
            if not can_be(uid, numbers.HIGHEST_UID)
            # It has lost none that it never gave a UID: in an account that was just made, all keep theirs.
            or (uid < now.uidnext and now.messages.get(uid) != tuple(figures))
        ]
        own_next = possible(own_next, numbers.HIGHEST_UIDNEXT) or max(uids, default=0) + 1
        first = max(own_next, now.uidnext) + UIDS_SKIPPED
        if first + len(moving) > numbers.HIGHEST_UID - UIDS_SKIPPED:
            # There is no room above all that were given. The new UIDVALIDITY allows all of them again.
            moving, first = [uid for uid, *_ in rows], 1
        where = "WHERE account = ? AND mailbox = ?"
        # By way of numbers that none has: it may be the number of another that is moved.
        connection.executemany(
            f"UPDATE message SET uid = ? {where} AND uid IS ?",
            [(_AWAY + place, account, mailbox, uid) for place, uid in enumerate(moving)],
        )
        connection.execute(
            f"UPDATE message SET uid = uid + ? {where} AND uid BETWEEN ? AND ?",
            (first - _AWAY, account, mailbox, _AWAY, _AWAY + len(moving)),
        )
        connection.execute(
            "UPDATE mailbox SET uidnext = ? WHERE account = ? AND mailbox = ?",
            (first + len(moving), account, mailbox),
        )


def _renumber(
    connection: apsw.Connection, account: int, seen: Seen, generation: int, now_s: int
) -> None:
    state = connection.execute(
        "SELECT uidvalidity, next_content, next_mailbox, modseq FROM account_state WHERE account = ?",
        (account,),
    ).fetchone()
    if state is None:
        return  # it was just made: its first use gives it all
    uidvalidity = max(
        possible(state[0], numbers.BELIEVED_UIDVALIDITY),
        _highest(connection, "uidvalidity", "mailbox", numbers.BELIEVED_UIDVALIDITY),
        seen.uidvalidity,
        now_s,
    )
    content = max(
        possible(state[1], numbers.BELIEVED_CONTENT)
        or _highest(connection, "content", "octets", numbers.BELIEVED_CONTENT) + 1,
        seen.content,
    )
    next_mailbox = max(
        possible(state[2], numbers.BELIEVED_MAILBOX)
        or _highest(connection, "mailbox", "mailbox", numbers.BELIEVED_MAILBOX) + 1,
        seen.mailbox,
    )
    modseq = CONTENTS_SKIPPED + max(
        possible(state[3], numbers.BELIEVED_MODSEQ)
        or max(
            _highest(connection, "modseq", table, numbers.BELIEVED_MODSEQ)
            for table in ("mailbox", "message")
        ),
        seen.modseq,
    )
    rows = connection.execute(
        "SELECT mailbox FROM mailbox WHERE account = ? ORDER BY mailbox", (account,)
    ).fetchall()
    for (mailbox,) in rows:
        uidvalidity += 1
        connection.execute(
            "UPDATE mailbox SET uidvalidity = ? WHERE account = ? AND mailbox = ?",
            (uidvalidity, account, mailbox),
        )
    for column, table in (
        ("modseq", "message"),
        ("modseq", "mailbox"),
        ("change_floor", "mailbox"),
    ):
        connection.execute(
            f"UPDATE {table} SET {column} = ? WHERE typeof({column}) != 'integer'"
            f" OR {column} NOT BETWEEN 0 AND ?",
            (modseq, modseq),
        )
    connection.execute(
        "UPDATE account_state SET uidvalidity = ?, next_content = ?, next_mailbox = ?, modseq = ?,"
        " generation = ? WHERE account = ?",
        (
            uidvalidity,
            content + CONTENTS_SKIPPED,
            next_mailbox + MAILBOXES_SKIPPED,
            modseq,
            generation,
            account,
        ),
    )
