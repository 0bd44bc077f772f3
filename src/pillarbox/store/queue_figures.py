"""How much waits in `queue.db`, for people and programs that look at a server from outside of its event loop."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from pillarbox.store import database
from pillarbox.store.outgoing_row import AT_ONCE, FREE, HELD, OVER_LIMIT, UNACCEPTED


@dataclass(slots=True, frozen=True)
class QueueFigures:
    """At one moment."""

    messages: int
    recipients: int
    """At other hosts; `active`, `deferred` and `held` are parts of them."""
    active: int
    """Somebody works on them, or they are due."""
    deferred: int
    held: int
    oldest_s: int
    """Since the oldest message came; 0: there is none."""
    overdue_s: int
    """How long the first recipient has been due that nobody works on."""
    local_deliveries: int
    local_overdue_s: int


_STATES = f"""
    SELECT
        count(*) FILTER (WHERE held != {UNACCEPTED}),
        count(*) FILTER (WHERE held = {FREE} AND (owner != '' OR next_try <= ?1)),
        count(*) FILTER (WHERE held IN ({HELD}, {OVER_LIMIT})),
        (SELECT next_try FROM outgoing WHERE held = {FREE} AND next_try > {AT_ONCE} AND owner = ''
            ORDER BY next_try LIMIT 1)
    FROM outgoing"""
_MESSAGES = "SELECT count(*), (SELECT created FROM outgoing_message ORDER BY id LIMIT 1) FROM outgoing_message"


class QueueReader:
    """One connection, for one thread at a time."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._connection: apsw.Connection | None = None
        self._mutex = threading.Lock()

    def read(self) -> QueueFigures:
        """Blocks, a tenth of a second for some 100,000 recipients. Raises Unavailable."""
        with self._mutex:
            if self._connection is None:
                self._connection = database.open_single(self._path, "queue")
            return self._read(self._connection, int(self._clock()))

    def _read(self, connection: apsw.Connection, now: int) -> QueueFigures:
        try:
            states: Any = connection.execute(_STATES, (now,)).fetchone()
            messages: Any = connection.execute(_MESSAGES).fetchone()
            local: Any = connection.execute(
                "SELECT count(*), min(next_try) FROM pending"
            ).fetchone()
        except apsw.Error as error:
            raise database.unavailable(error) from error
        recipients, active, held, due = states
        return QueueFigures(
            messages[0],
            recipients,
            active,
            recipients - active - held,
            held,
            _since(messages[1], now),
            _since(due, now),
            local[0],
            _since(local[1], now),
        )

    def close(self) -> None:
        with self._mutex:
            if self._connection is not None:
                self._connection.close()


def _since(moment: int | None, now: int) -> int:
    return 0 if moment is None else max(0, now - moment)
