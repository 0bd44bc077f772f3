"""What is changed in an account's file before it is used in place of another: from a backup, or from a repair.

Clients may have seen numbers that the file does not know of. So each mailbox gets a new UIDVALIDITY, and they forget
what they had (RFC 3501 §2.3.1.1, RFC 9051 §2.3.1.1); mailboxes and contents get their ids above all that may have been
given (RFC 8474 §4.1, §5.1). The unique ids of POP3 must stay (RFC 1939 §7): each message of INBOX keeps the one it had.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from pillarbox.store import database, mailboxes
from pillarbox.store.accounts import account_path

CONTENTS_SKIPPED = 1 << 24
MAILBOXES_SKIPPED = 1 << 20
"""More than there can have been since."""


@dataclass(slots=True)
class Seen:
    """The highest numbers that the file in use has given."""

    uidvalidity: int = 0
    content: int = 0
    mailbox: int = 0


def seen_by(path: Path) -> Seen:
    """Of a file that may be missing or damaged: what can be read of it."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            row = connection.execute(
                "SELECT uidvalidity, next_content, next_mailbox FROM account_state"
            ).fetchone()
        finally:
            connection.close()
    except apsw.Error:
        row = None
    return Seen(*(int(value) for value in row)) if row else Seen()


def give_to(path: Path, account: int, folder: Path) -> Path:
    """Make a file that of another number of account; where it is then, below `folder`. Raises apsw.Error, OSError."""
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
) -> set[int]:
    """Give all new numbers, and leave shares to `grantees` and to anyone (None: all of them); who has some then.
    Synced on return. Raises apsw.Error, Unavailable."""
    connection = database.connect(path)
    try:
        database.migrate(connection, "account")
        database.set_synchronous(connection, database.FULL)
        with connection:
            _keep_unique_ids(connection, account)
            _renumber(connection, account, seen, generation, now_s)
            rows = connection.execute("SELECT DISTINCT grantee FROM acl").fetchall()
            left: set[Any] = {row[0] for row in rows}
            if grantees is not None:
                for grantee in left - set(grantees) - {0}:
                    connection.execute("DELETE FROM acl WHERE grantee = ?", (grantee,))
                left &= {0, *grantees}
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
    database.sync_file(path)
    return left


def _keep_unique_ids(connection: apsw.Connection, account: int) -> None:
    """As `pop3d.maildrop` makes them."""
    connection.execute(
        "UPDATE message SET uidl = (SELECT printf('%08x', uidvalidity) FROM mailbox AS b"
        " WHERE b.account = message.account AND b.mailbox = message.mailbox) || printf('%08x', uid)"
        " WHERE account = ? AND mailbox = ? AND uidl IS NULL",
        (account, mailboxes.INBOX),
    )


def _renumber(
    connection: apsw.Connection, account: int, seen: Seen, generation: int, now_s: int
) -> None:
    state = connection.execute(
        "SELECT uidvalidity, next_content, next_mailbox FROM account_state WHERE account = ?",
        (account,),
    ).fetchone()
    if state is None:
        return  # it was just made: its first use gives it all
    uidvalidity = max(int(state[0]), seen.uidvalidity, now_s)
    rows = connection.execute(
        "SELECT mailbox FROM mailbox WHERE account = ? ORDER BY mailbox", (account,)
    ).fetchall()
    for (mailbox,) in rows:
        uidvalidity += 1
        connection.execute(
            "UPDATE mailbox SET uidvalidity = ? WHERE account = ? AND mailbox = ?",
            (uidvalidity, account, mailbox),
        )
    connection.execute(
        "UPDATE account_state SET uidvalidity = ?, next_content = ?, next_mailbox = ?, modseq = modseq + ?,"
        " generation = ? WHERE account = ?",
        (
            uidvalidity,
            max(int(state[1]), seen.content) + CONTENTS_SKIPPED,
            max(int(state[2]), seen.mailbox) + MAILBOXES_SKIPPED,
            CONTENTS_SKIPPED,
            generation,
            account,
        ),
    )
