"""What the workers of a server share while it runs (`run.db`): wiped at each start, losing it stops nothing.

Read and written inline: that takes microseconds, and so does waiting for another worker.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from pillarbox.core.slots import Mark, mark_of
from pillarbox.store import database

FORGIVEN_S = 3600
"""In how many seconds as many failures are forgiven as lead to a refusal."""

_NEARLY = 0.001
"""Of a failure: what times, as floating-point numbers, may be wrong by."""

MOST_KEYS = 200_000
"""Of failed logins; those that are forgiven first go first. Some 20 MB."""
_TIDY_EVERY = 256

MARKS = 1 << 16
MARKS_OCTETS = MARKS * 8


def wipe(path: Path) -> None:
    """Forget the last run; before any worker opens the file. Raises Unavailable."""
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    _open(path).close()


def _open(path: Path) -> apsw.Connection:
    connection = database.open_single(path, "run")
    connection.pragma("synchronous", "OFF")
    return connection


@dataclass(slots=True, frozen=True)
class Failed:
    """What is counted under a key."""

    key: str
    until: float
    """Epoch seconds: when all is forgiven."""

    def count(self, now: float, most: int) -> int:
        """How many failures there are still."""
        return _whole((self.until - now) * most / FORGIVEN_S)

    def fewer_at(self, most: int) -> float:
        """When there are fewer than `most`, in epoch seconds."""
        return self.until - (most - 1) * FORGIVEN_S / most


class LoginFailures:
    """How often logins failed lately, by key. Failures are forgiven steadily: `most` of them in FORGIVEN_S. One that is
    forgiven in part still counts whole, so `most` failures are `most` until one of them is forgiven.

    Marks in memory, by key, say until when there may be a failure: who has none, as most have, costs no question."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float],
        marks: memoryview | None = None,
        mark: Mark = mark_of,
    ) -> None:
        """`marks` is MARKS_OCTETS of memory, zero at first, with one `mark` for all that have the file open; without it
        the file is always asked."""
        self._connection = _open(path)
        self._clock = clock
        self._added = 0
        self._marks = None if marks is None else marks.cast("B").cast("d")
        self._mark = mark

    def add(self, key: str, most: int) -> int:
        """Count a failure; returns how many there are, this one included."""
        now = self._clock()
        step_s = FORGIVEN_S / most
        if self._marks is not None:  # first, so that no failure is ever without one
            place = self._mark(key) % MARKS
            self._marks[place] = max(self._marks[place], now + 2 * FORGIVEN_S)
        try:
            self._tidy(now)
            row: Any = self._connection.execute(
                "INSERT INTO login_failure VALUES (?1, ?2 + ?3) ON CONFLICT (key)"
                " DO UPDATE SET until = min(max(until, ?2) + ?3, ?2 + 2 * ?4) RETURNING until",
                (key, now, step_s, FORGIVEN_S),
            ).fetchone()
        except apsw.Error:
            return 1  # a full disk must not keep anybody out or let anybody in
        return _whole((row[0] - now) / step_s)

    def count(self, key: str, most: int) -> int:
        """How many there are."""
        if self._marks is not None and self._marks[self._mark(key) % MARKS] <= self._clock():
            return 0
        try:
            row: Any = self._connection.execute(
                "SELECT until FROM login_failure WHERE key = ?", (key,)
            ).fetchone()
        except apsw.Error:
            return 0
        return Failed(key, row[0]).count(self._clock(), most) if row else 0

    def forget(self, key: str) -> None:
        """A login worked."""
        try:
            self._connection.execute("DELETE FROM login_failure WHERE key = ?", (key,))
        except apsw.Error:
            return

    def all(self) -> list[Failed]:
        """Everything that is counted. Raises Unavailable."""
        try:
            return [Failed(*row) for row in self._connection.execute("SELECT * FROM login_failure")]
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def forgive(self, keys: Iterable[str]) -> None:
        """Forget them, with a small write for each, so that no worker waits long. Marks in memory may stay: they only
        have the file asked. Raises Unavailable."""
        try:
            for key in keys:
                self._connection.execute("DELETE FROM login_failure WHERE key = ?", (key,))
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def _tidy(self, now: float) -> None:
        self._added += 1
        if self._added % _TIDY_EVERY:
            return
        execute = self._connection.execute
        execute("DELETE FROM login_failure WHERE until < ?", (now,))
        execute(
            "DELETE FROM login_failure WHERE key IN (SELECT key FROM login_failure ORDER BY until"
            " LIMIT max(0, (SELECT count(*) FROM login_failure) - ?))",
            (MOST_KEYS,),
        )

    def close(self) -> None:
        self._connection.close()


def _whole(failures: float) -> int:
    return max(0, math.ceil(failures - _NEARLY))


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
