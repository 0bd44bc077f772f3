"""What the workers of a server share while it runs (`run.db`): wiped at each start, losing it stops nothing.

Read and written inline: that takes microseconds, and so does waiting for another worker.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apsw

from pillarbox.store import database

FAILURE_LIFE_S = 3600
"""Seconds after the last failed login from a network until its failures are forgotten."""


def wipe(path: Path) -> None:
    """Forget the last run; before any worker opens the file. Raises Unavailable."""
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    _open(path).close()


def _open(path: Path) -> apsw.Connection:
    connection = database.open_single(path, "run")
    connection.pragma("synchronous", "OFF")
    return connection


class LoginFailures:
    """Failed logins by client network."""

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        self._connection = _open(path)
        self._clock = clock

    def add(self, network: str) -> int:
        """Count a failure; returns how many there were lately, this one included."""
        now_s = int(self._clock())
        try:
            self._connection.execute(
                "DELETE FROM login_failure WHERE last < ?", (now_s - FAILURE_LIFE_S,)
            )
            row = self._connection.execute(
                "INSERT INTO login_failure VALUES (?, 1, ?)"
                " ON CONFLICT (network) DO UPDATE SET count = count + 1, last = excluded.last RETURNING count",
                (network, now_s),
            ).fetchone()
        except apsw.Error:
            return 1  # a full disk must not keep anybody out or let anybody in
        return int(row[0])  # type: ignore[index]

    def forget(self, network: str) -> None:
        """A login worked."""
        try:
            self._connection.execute("DELETE FROM login_failure WHERE network = ?", (network,))
        except apsw.Error:
            return

    def close(self) -> None:
        self._connection.close()


class SentCounts:
    """To how many recipients each account has sent, in steps of time that the caller numbers."""

    def __init__(self, path: Path) -> None:
        self._connection = _open(path)

    def take(
        self, account: int, recipients: int, step: int, limits: Iterable[tuple[int, int]]
    ) -> bool:
        """Count so many more in `step`, unless with them there were too many: `limits` are (first step that counts,
        most recipients). Raises Unavailable."""
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            try:
                for first_step, most in limits:
                    row: Any = execute(
                        "SELECT coalesce(sum(recipients), 0) FROM sent WHERE account = ? AND step >= ?",
                        (account, first_step),
                    ).fetchone()
                    if row[0] + recipients > most:
                        return False
                execute(
                    "INSERT INTO sent VALUES (?, ?, ?) ON CONFLICT (account, step)"
                    " DO UPDATE SET recipients = recipients + excluded.recipients",
                    (account, step, recipients),
                )
                execute("DELETE FROM told WHERE account = ?", (account,))
                return True
            finally:
                execute("COMMIT")
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def forget(self, account: int, before_step: int) -> None:
        """Steps of an account that count no more. Raises Unavailable."""
        try:
            self._connection.execute(
                "DELETE FROM sent WHERE account = ? AND step < ?", (account, before_step)
            )
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def is_news(self, account: int) -> bool:
        """Whether nobody was told yet that this account sent too much; from now on somebody was, until it sends again.
        Raises Unavailable."""
        try:
            self._connection.execute("INSERT OR IGNORE INTO told VALUES (?)", (account,))
        except apsw.Error as error:
            raise database.unavailable(error) from error
        return self._connection.changes() == 1

    def close(self) -> None:
        self._connection.close()
