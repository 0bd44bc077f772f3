"""The login history (`logins.db`): for each account, from where and how it was logged in to, or tried to.

Attempts of one kind share a row, so a client that comes back every minute fills nothing. A process gathers what happens
in memory and writes it once a second, in a thread: a login waits for no disk, and a crash may lose the last second.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from pillarbox.core.errors import Unavailable
from pillarbox.store import database

MOST_ROWS = 100
"""Of one account: half of them for successes, so that failures never push those out."""

MOST_GATHERED = 5000
"""Kinds of attempts in a second and process; others are not kept."""

KNOWN_S = 30 * 86400
"""How long a network counts as one of the account's own after a login from it."""

OK = "ok"


class Attempt(NamedTuple):
    """One kind of attempt."""

    account: int
    client: str
    protocol: str
    mechanism: str
    result: str
    """OK, or why not."""
    with_what: str
    """The name of an app password, or the address of a supporter; "": the account's own."""
    network: str


@dataclass(slots=True)
class History:
    """A row. Times are epoch seconds."""

    client: str
    protocol: str
    mechanism: str
    result: str
    with_what: str
    first: int
    last: int
    attempts: int


class Logins:
    """One for each process."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float],
        has_account: Callable[[int], bool] = lambda _account: True,
    ) -> None:
        """`has_account` is asked on the event loop, for who writes. Raises Unavailable."""
        self._clock = clock
        self._has_account = has_account
        self._reader = database.open_single(path, "logins")
        self._writer = database.open_single(path, "logins")
        self._writer.pragma("synchronous", "NORMAL")
        self._writing = threading.Lock()
        self._gathered: dict[Attempt, int] = {}
        self._written: set[int] = set()
        """Accounts that have new rows, since `removed` was last asked."""

    def note(self, attempt: Attempt) -> None:
        """It happened now. Blocks for nothing."""
        count = self._gathered.get(attempt, 0)
        if count or len(self._gathered) < MOST_GATHERED:
            self._gathered[attempt] = count + 1

    @property
    def is_behind(self) -> bool:
        """Whether there is something to write."""
        return bool(self._gathered)

    def flush(self) -> None:
        """Write what was gathered. Blocks: for a thread. Raises Unavailable; what was gathered is lost then."""
        gathered, self._gathered = self._gathered, {}
        if not gathered:
            return
        now = int(self._clock())
        try:
            with self._writing, self._writer:
                for attempt, count in gathered.items():
                    self._add(attempt, count, now)
                accounts = {attempt.account for attempt in gathered}
                for account in accounts:
                    self._trim(account)
                self._written |= accounts
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def _add(self, attempt: Attempt, count: int, now: int) -> None:
        self._writer.execute(
            "INSERT INTO login VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET last = excluded.last, attempts = attempts + excluded.attempts",
            (
                attempt.account,
                attempt.client,
                attempt.protocol,
                attempt.mechanism,
                attempt.result,
                attempt.with_what,
                attempt.network,
                now,
                now,
                count,
            ),
        )

    def _trim(self, account: int) -> None:
        key = "client, protocol, mechanism, result, with_what"
        for condition in ("result = 'ok'", "result <> 'ok'"):
            self._writer.execute(
                f"DELETE FROM login WHERE account = ?1 AND ({key}) IN (SELECT {key} FROM login"
                f" WHERE account = ?1 AND {condition} ORDER BY last DESC LIMIT -1 OFFSET ?2)",
                (account, MOST_ROWS // 2),
            )

    def history(self, account: int) -> list[History]:
        """The newest first. Raises Unavailable."""
        try:
            rows: list[Any] = self._reader.execute(
                "SELECT client, protocol, mechanism, result, with_what, first, last, attempts"
                " FROM login WHERE account = ? ORDER BY last DESC, client",
                (account,),
            ).fetchall()
        except apsw.Error as error:
            raise database.unavailable(error) from error
        return [History(*row) for row in rows]

    def knows(self, account: int, network: str) -> bool:
        """Whether the account was logged in to from a network lately. Inline: a few rows at most."""
        if any(
            each.account == account and each.network == network and each.result == OK
            for each in self._gathered
        ):
            return True
        try:
            row = self._reader.execute(
                "SELECT 1 FROM login WHERE account = ? AND network = ? AND result = 'ok' AND last > ?",
                (account, network, int(self._clock()) - KNOWN_S),
            ).fetchone()
        except apsw.Error:
            return False
        return row is not None

    def removed(self) -> list[int]:
        """Accounts that something was written for lately, and that are no more: it may have been written after whoever
        removed them forgot them, so they are to be forgotten again."""
        written, self._written = self._written, set()
        return [account for account in written if not self._has_account(account)]

    def forget(self, account: int) -> None:
        """The account is no more. Raises Unavailable."""
        try:
            with self._writing:
                self._writer.execute("DELETE FROM login WHERE account = ?", (account,))
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def close(self) -> None:
        """Writes what was gathered, if that can be."""
        try:
            self.flush()
            for account in self.removed():
                self.forget(account)
        except Unavailable:
            self._gathered.clear()
        self._reader.close()
        self._writer.close()
