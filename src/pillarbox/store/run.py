"""What the workers of a server share while it runs (`run.db`): wiped at each start, losing it stops nothing."""

from collections.abc import Callable
from pathlib import Path

import apsw

from pillarbox.store import database

FAILURE_LIFE_S = 3600
"""Seconds after the last failed login from a network until its failures are forgotten."""


class LoginFailures:
    """Failed logins by client network."""

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            name.unlink(missing_ok=True)
        self._connection = database.open_single(path, "run")
        self._connection.pragma("synchronous", "OFF")
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
