"""The file `directory.db`: statements, transactions, and whether it was changed.

Read inline (an indexed read takes microseconds). Writes are durable when they return, and block for a sync.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import apsw

from pillarbox.store import database

LOOK_EVERY_S = 0.02
"""How old may be what is remembered of the directory where another process changes it."""

Value = str | int | bytes | None


class DirectoryFile:
    """One connection, which all parts of a directory share."""

    __slots__ = ("_clock", "_connection", "_looked_at", "_others", "_path")

    def __init__(self, path: Path, *, clock: Callable[[], float], vfs: str | None = None) -> None:
        """Raises Unavailable."""
        self._connection = database.open_single(path, "directory", vfs=vfs)
        self._path = path
        self._clock = clock
        self._looked_at = -math.inf
        """When it was looked for changes by others, in `time.monotonic`."""
        self._others = 0

    def close(self) -> None:
        self._connection.close()

    def now_s(self) -> int:
        """Epoch seconds."""
        return int(self._clock())

    def data_version(self) -> int:
        """Changes whenever another connection has changed the directory; for caches over it."""
        return int(self._connection.pragma("data_version"))

    def version(self) -> tuple[int, int]:
        """Other than before whenever anything was changed; for caches over what is asked for all the time. Changes by
        other processes are noticed after LOOK_EVERY_S."""
        now = time.monotonic()
        if now >= self._looked_at + LOOK_EVERY_S:
            self._looked_at = now
            self._others = self.data_version()
        return self._others, self._connection.total_changes()

    def transaction(self) -> AbstractContextManager[Any]:
        """All that is written within it counts, or nothing."""
        return self._connection

    def row(self, sql: str, *values: Value) -> Any:
        """The first one, or None. Raises Unavailable, as the others do."""
        try:
            return self._connection.execute(sql, values).fetchone()
        except apsw.Error as error:
            raise database.unavailable(error, self._path) from error

    def rows(self, sql: str, *values: Value) -> list[Any]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise database.unavailable(error, self._path) from error

    def write(self, sql: str, *values: Value) -> None:
        try:
            self._connection.execute(sql, values)
        except apsw.Error as error:
            raise database.unavailable(error, self._path) from error
