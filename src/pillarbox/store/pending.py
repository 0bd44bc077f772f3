"""Local deliveries that were accepted but could not be done at once (`queue.db`, tables of their own).

A message is here once, with one row for each recipient that still lacks it; committed before the 250. Doing a
delivery again is harmless: its key is (queue id, recipient).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from pillarbox.store import database

FIRST_RETRY_S = 5
LONGEST_RETRY_S = 300


@dataclass(slots=True)
class PendingDelivery:
    """One recipient's."""

    queue_id: str
    recipient: str
    account: int
    prefix: bytes
    attempts: int
    internaldate: int
    octets: bytes
    sender: str
    """The reverse-path without angle brackets, "" for the null path; like `envid` for a report to it."""
    envid: str
    wishes: list[tuple[str, str]] = field(default_factory=list)
    """(address, ORCPT) of recipients whose delivery is to be told, as they were written."""

    @property
    def key(self) -> str:
        """What makes this delivery known in the account's file."""
        return f"{self.queue_id}/{self.recipient}"


class Pending:
    """The table. Its functions block for a sync at most; call the writing ones in a thread."""

    def __init__(self, path: Path, *, clock: Callable[[], float], vfs: str | None = None) -> None:
        self._connection = database.open_single(path, "queue", vfs=vfs)
        self._clock = clock
        self._mutex = threading.Lock()

    def close(self) -> None:
        with self._mutex:  # a thread may be at work for a caller that was cancelled
            self._connection.close()

    def add(
        self,
        queue_id: str,
        sender: str,
        internaldate: int,
        octets: bytes,
        recipients: list[tuple[str, int, bytes]],
        *,
        envid: str = "",
        wishes: list[tuple[str, str, str]] | None = None,
    ) -> None:
        """Keep a message for (recipient, account, prefix) rows, durably; `wishes` are (recipient, address, ORCPT) of
        those whose delivery is to be told. Raises Unavailable."""
        try:
            with self._mutex, self._connection:
                self._connection.execute(
                    "INSERT INTO queued_message (queue_id, sender, received, octets, envid) VALUES (?, ?, ?, ?, ?)",
                    (queue_id, sender, internaldate, octets, envid),
                )
                self._connection.executemany(
                    "INSERT INTO pending VALUES (?, ?, ?, ?, 0, ?, '')",
                    [
                        (queue_id, recipient, account, prefix, int(self._clock()) + FIRST_RETRY_S)
                        for recipient, account, prefix in recipients
                    ],
                )
                self._connection.executemany(
                    "INSERT OR IGNORE INTO pending_wish VALUES (?, ?, ?, ?)",
                    [(queue_id, *wish) for wish in wishes or ()],
                )
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def due(self, limit: int) -> list[PendingDelivery]:
        """Deliveries whose next try has come, oldest first, at most `limit`. Raises Unavailable."""
        try:
            with self._mutex:
                rows: list[Any] = self._connection.execute(
                    "SELECT p.queue_id, p.recipient, p.account, p.prefix, p.attempts, q.received, q.octets,"
                    " q.sender, q.envid"
                    " FROM pending AS p JOIN queued_message AS q ON q.queue_id = p.queue_id"
                    " WHERE p.next_try <= ? ORDER BY p.next_try LIMIT ?",
                    (int(self._clock()), limit),
                ).fetchall()
                deliveries = [PendingDelivery(*row) for row in rows]
                for each in deliveries:
                    wishes: list[Any] = self._connection.execute(
                        "SELECT address, orcpt FROM pending_wish WHERE queue_id = ? AND recipient = ?",
                        (each.queue_id, each.recipient),
                    ).fetchall()
                    each.wishes = wishes
        except apsw.Error as error:
            raise database.unavailable(error) from error
        return deliveries

    def make_all_due(self) -> None:
        """Let the next try of all deliveries be now. Raises Unavailable."""
        try:
            with self._mutex, self._connection:
                self._connection.execute("UPDATE pending SET next_try = ?", (int(self._clock()),))
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def done(self, delivery: PendingDelivery) -> None:
        """Forget a delivery, and the message with its last one."""
        with self._mutex, self._connection:
            for table in ("pending", "pending_wish"):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE queue_id = ? AND recipient = ?",
                    (delivery.queue_id, delivery.recipient),
                )
            self._connection.execute(
                "DELETE FROM queued_message WHERE queue_id = ?"
                " AND NOT EXISTS (SELECT 1 FROM pending WHERE queue_id = queued_message.queue_id)",
                (delivery.queue_id,),
            )

    def failed(self, delivery: PendingDelivery, error: str) -> None:
        """Try a delivery again later: after 5 s, doubling up to 5 minutes."""
        delay = min(FIRST_RETRY_S << min(delivery.attempts, 10), LONGEST_RETRY_S)
        with self._mutex, self._connection:
            self._connection.execute(
                "UPDATE pending SET attempts = attempts + 1, next_try = ?, error = ?"
                " WHERE queue_id = ? AND recipient = ?",
                (int(self._clock()) + delay, error, delivery.queue_id, delivery.recipient),
            )

    def count(self) -> int:
        """How many deliveries wait."""
        with self._mutex:
            row: Any = self._connection.execute("SELECT count(*) FROM pending").fetchone()
        return int(row[0])
