"""`trace-WORKER.db`: what one worker recorded, in batches.

A row has the lines of about a second, so that writing costs one insert, and reading one search in C. There are no
syncs: a power cut may damage the file, which is then set aside, and a new one begun. The file may be deleted at any
time. It holds at most so many octets and days: the oldest rows go first, and their pages are used again.
"""

import logging
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

VERSION = 1
"""`user_version`. A file of another version is set aside."""

_SCHEMA = (
    # `run` is when the worker began, microseconds: ids of connections are unique in it. `first` is when the first
    # line happened, `last` when all were written.
    "CREATE TABLE batch (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, first INTEGER NOT NULL,"
    " last INTEGER NOT NULL, lines BLOB NOT NULL)",
    f"PRAGMA user_version = {VERSION}",
)

LARGEST_BATCH = 256 << 10
"""Octets of a row, about."""
TRIM_EVERY = 60
"""Writes."""
TRIM_SHARE = 20
"""A full file loses one part in so many."""
BUSY_TIMEOUT_MS = 2000
"""For somebody who looks at the file: a writer hardly ever waits for readers."""

COMMANDS = 0
"""What commands did stands in a file of its own, as if they were a worker with this number."""

DAY_US = 86400 * 1_000_000

_NAME = re.compile(r"trace-([0-9]+)\.db")

log = logging.getLogger("pillarbox.trace")


def trace_path(data_dir: Path, worker: int) -> Path:
    return data_dir / f"trace-{worker}.db"


def is_trace(name: str) -> bool:
    """Whether a file of the data folder is a trace, or what belongs to one."""
    return _NAME.match(name) is not None


class TraceFile:
    """The writer's side; all methods block, for a thread. Raises apsw.Error and OSError from `write` only."""

    def __init__(self, path: Path, *, keep_us: int, most_octets: int, workers: int = 0) -> None:
        """`workers`: how many there are, for the one that removes old files of others; 0: it removes none."""
        self.path = path
        self._workers = workers
        self._keep_us = keep_us
        self._most_octets = most_octets
        self._run = time.time_ns() // 1000
        self._connection: apsw.Connection | None = None
        self._identity: tuple[int, ...] = ()
        self._writes = 0

    def write(self, lines: Sequence[bytes], now_us: int) -> None:
        """Add lines, in order of time. If that fails, none of those that are left is there; the next call begins with a
        file that can be used, if that is possible."""
        try:
            connection = self._usable()
            with connection:
                for part in _parts(lines):
                    row = (self._run, _time_of(part[0]), now_us)
                    connection.execute(
                        "INSERT INTO batch (run, first, last, lines) VALUES (?, ?, ?, ?)",
                        (*row, b"\n".join(part)),
                    )
            self._identity = self._find_identity()
            self._writes += 1
            if self._writes % TRIM_EVERY == 1:
                self._trim(connection, now_us)
        except (apsw.CorruptError, apsw.NotADBError):
            self.close()
            set_aside(self.path)
            raise
        except (apsw.Error, OSError):
            self.close()
            raise

    def _usable(self) -> apsw.Connection:
        """The open file, unless somebody has deleted it."""
        if self._connection is not None and self._find_identity() != self._identity:
            self.close()
        if self._connection is None:
            self._connection = _open(self.path)
            self._writes = 0
        return self._connection

    def _find_identity(self) -> tuple[int, ...]:
        """Changes when the file, or the log beside it, is another or gone."""
        try:
            return tuple(os.stat(f"{self.path}{suffix}").st_ino for suffix in ("", "-wal"))
        except FileNotFoundError:
            return ()

    def tidy(self, now_us: int) -> None:
        """Let go of what is too old, also where nothing new comes. Raises apsw.Error and OSError."""
        if self.path.exists():
            try:
                self._trim(self._usable(), now_us)
                self._identity = self._find_identity()
            except (apsw.Error, OSError):
                self.close()
                raise
        self._remove_left(now_us)

    def _remove_left(self, now_us: int) -> None:
        """Files of workers that are no more, and what was set aside, once nobody wrote to them for long."""
        if not self._workers:
            return
        for path in self.path.parent.glob("trace-*.db*"):
            match = _NAME.match(path.name)
            is_present = match is not None and 1 <= int(match[1]) <= self._workers
            if match is None or (is_present and path.suffix != ".old"):
                continue
            if path.stat().st_mtime * 1_000_000 < now_us - self._keep_us:
                path.unlink(missing_ok=True)

    def _trim(self, connection: apsw.Connection, now_us: int) -> None:
        connection.execute("DELETE FROM batch WHERE last < ?", (now_us - self._keep_us,))
        while _used_octets(connection) > self._most_octets:
            rows = _count(connection)
            if rows <= 1:
                break
            connection.execute(
                "DELETE FROM batch WHERE id IN (SELECT id FROM batch ORDER BY id LIMIT ?)",
                (max(1, rows // TRIM_SHARE),),
            )
        if _octets(connection) > self._most_octets:
            connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(apsw.Error):
                connection.close()


def _count(connection: apsw.Connection) -> int:
    row: Any = connection.execute("SELECT count(*) FROM batch").fetchone()
    return int(row[0])


def _octets(connection: apsw.Connection) -> int:
    return int(connection.pragma("page_count")) * int(connection.pragma("page_size"))


def _used_octets(connection: apsw.Connection) -> int:
    free = int(connection.pragma("freelist_count")) * int(connection.pragma("page_size"))
    return _octets(connection) - free


def _open(path: Path) -> apsw.Connection:
    """Open or make the file; one that is damaged or of another version is set aside. Raises apsw.Error, OSError."""
    for _ in range(2):
        try:
            connection = apsw.Connection(str(path))
            try:
                if _prepare(connection, path):
                    return connection
            except BaseException:
                connection.close()
                raise
            connection.close()
        except (apsw.CorruptError, apsw.NotADBError) as error:
            log.warning("%s is damaged (%s)", path, error)
        set_aside(path)
    raise apsw.CantOpenError(f"{path} cannot be used")


def _prepare(connection: apsw.Connection, path: Path) -> bool:
    """Whether the file can be used."""
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    is_new = not connection.execute("SELECT name FROM sqlite_schema LIMIT 1").fetchall()
    if is_new:
        path.chmod(0o600)
        connection.pragma("auto_vacuum", "INCREMENTAL")
    elif connection.pragma("user_version") != VERSION:
        log.info("%s is of another version of Pillarbox", path)
        return False
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "OFF")
    connection.pragma("journal_size_limit", 1 << 20)
    if is_new:
        with connection:
            for statement in _SCHEMA:
                connection.execute(statement).fetchall()
    return True


def set_aside(path: Path) -> None:
    """Under a name with ".old", in place of what was set aside before; what belongs to it goes."""
    log.warning("%s is set aside as %s.old; a new one is begun", path, path.name)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        os.replace(path, f"{path}.old")


def _parts(lines: Sequence[bytes]) -> list[list[bytes]]:
    """Some of about LARGEST_BATCH octets each."""
    parts: list[list[bytes]] = []
    room = 0
    for line in lines:
        if room < len(line):
            parts.append([])
            room = LARGEST_BATCH
        parts[-1].append(line)
        room -= len(line)
    return parts


def _time_of(line: bytes) -> int:
    """A line begins with "[TIME,"."""
    return int(line[1 : line.index(b",")])
