"""The one writer of a shared SQLite file: what waits in a turn of the event loop is one transaction.

Small units of work run on the loop and commit without a sync, which takes some 20 microseconds each; one fdatasync of
the write-ahead log beside the loop (`syncing`) then makes all that was committed before it durable. Large units, and
those that meet the lock of another process (a lock file beside the file, so that waiting is fair), run in a thread. A
unit that needs no durability ends with its commit, which outlives the process, not a power cut; the next sync, at most
`LAZY_SYNC_S` later, covers it too. A failed sync is fatal: nothing is written any more, since what is on the disk is
not known.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from pillarbox.core.errors import Unavailable
from pillarbox.core.tally import Histogram
from pillarbox.store import database
from pillarbox.store.syncing import Syncs

T = TypeVar("T")

Work = Callable[[apsw.Connection], T]
"""What runs inside a transaction. It may run twice, so it changes nothing outside."""

LIGHT_OCTETS = 64 * 1024
LIGHT_BATCH_OCTETS = 256 * 1024
"""More octets than these in one unit, or in all that wait, are written in the thread."""
LIGHT_UNITS = 200
"""Units that run in one turn of the loop."""

MOST_TRIES = 20
"""Turns of the loop in which a lock that another process has is tried again, before the thread waits for it."""

LAZY_SYNC_S = 0.2

CHECKPOINT_PAGES = 2000
"""Pages in the write-ahead log (4 KiB each) after which it is copied into the file."""
LONGEST_LOG_PAGES = 4 * CHECKPOINT_PAGES
"""A log that grew over this is cut then."""


class _Unit:
    __slots__ = ("future", "octets", "synced", "work")

    def __init__(
        self, work: Work[Any], future: "asyncio.Future[Any]", octets: int, synced: bool
    ) -> None:
        self.work = work
        self.future = future
        self.octets = octets
        self.synced = synced


class GroupCommit:
    """For one event loop; `write_now` is for programs without."""

    def __init__(
        self,
        path: Path,
        connection: apsw.Connection,
        *,
        sync: Callable[[int], None] = os.fdatasync,
        on_fatal: Callable[[BaseException], None] = lambda _error: None,
        times: Histogram | None = None,
    ) -> None:
        """`connection` is open, in WAL mode, and belongs to this object from now on. `times` gets how long syncs
        take."""
        self._times = times or Histogram()
        self._connection = connection
        self._sync_file = sync
        self._on_fatal = on_fatal
        self._log_pages = 0
        self._tries = 0
        database.set_synchronous(connection, database.NORMAL)
        connection.wal_autocheckpoint(0)
        connection.set_wal_hook(self._note_log_pages)
        connection.pragma("journal_size_limit", -1)  # to cut a long file takes long
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # now the log exists
        # SQLite locks the file and its -shm, never its log, so a descriptor of our own does no harm.
        self._log = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        lock = path.with_suffix(".lock")
        try:
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = database.why_no_file(lock) or f"{lock} cannot be used: {error.strerror}"
            raise Unavailable(why) from error
        database.sync_folder(path.parent)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queue")
        self._syncs = Syncs(self._thread, sync)
        self._waiting: list[_Unit] = []
        self._unsynced: list[tuple[asyncio.Future[Any], Any]] = []
        self._dirty = False
        """Something was committed since the last sync began."""
        self._turn_due = self._thread_has_connection = self._syncing = self._broken = False
        self._lazy: asyncio.TimerHandle | None = None

    # Asking

    def ask(self, work: Work[T], *, octets: int, synced: bool) -> "asyncio.Future[T]":
        """Run `work` with others; the future gets its result when it is committed, or if `synced`, durable. `octets`
        tells how much it writes: what is over LIGHT_OCTETS may take long. Failures are Unavailable."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._broken:
            future.set_exception(_broken())
            return future
        self._waiting.append(_Unit(work, future, octets, synced))
        self._look_soon()
        return future

    async def write(self, work: Work[T]) -> T:
        """Run `work`, which may take long, with others; durable on return. Raises Unavailable."""
        return await self.ask(work, octets=LIGHT_OCTETS + 1, synced=True)

    def write_now(self, work: Work[T]) -> T:
        """The same without an event loop. Blocks. Raises Unavailable."""
        self._await_lock()
        try:
            result = _run_one(self._connection, work)
        finally:
            self._unlock()
        if isinstance(result, BaseException):
            raise result
        self._sync_file(self._log)
        if self._log_pages > CHECKPOINT_PAGES:
            self._checkpoint()
        return result  # type: ignore[no-any-return]

    async def drain(self) -> None:
        """Until all that was asked for is durable."""
        while not self._broken and (
            self._waiting or self._dirty or self._syncing or self._thread_has_connection
        ):
            await self.ask(lambda _connection: None, octets=0, synced=True)

    def close(self) -> None:
        """After `drain`. Blocks."""
        if self._lazy is not None:
            self._lazy.cancel()
        self._thread.shutdown()
        self._syncs.close()
        self._connection.close()
        os.close(self._log)
        os.close(self._lock)

    # The lock between processes

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _await_lock(self) -> None:
        """Blocks."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def _unlock(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    # Turns

    def _look_soon(self) -> None:
        if not self._turn_due and not self._thread_has_connection:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if self._thread_has_connection or not self._waiting:
            return
        is_light = self._is_light()
        is_locked = is_light and self._try_lock()
        if is_light and not is_locked and self._tries < MOST_TRIES:
            # Whoever has it mostly needs some 50 microseconds: less than to hand over to the thread and back.
            self._tries += 1
            self._look_soon()
            return
        self._tries = 0
        units = self._take()
        works = [unit.work for unit in units]
        if is_locked:
            self._connection.set_busy_timeout(0)
            try:
                results = _run(self._connection, works)
            except apsw.BusyError:
                results = (
                    None  # somebody writes who does not know of our lock: that may take a while
                )
            finally:
                self._unlock()
            if results is not None:
                self._committed(units, results)
                return
        self._in_thread(units, works)

    def _is_light(self) -> bool:
        """Whether those whose turn it is are quickly written."""
        octets = [unit.octets for unit in self._waiting[:LIGHT_UNITS]]
        return sum(octets) <= LIGHT_BATCH_OCTETS and max(octets) <= LIGHT_OCTETS

    def _take(self) -> list[_Unit]:
        """Those whose turn it is, all light or all that wait."""
        waiting = self._waiting
        if len(waiting) <= LIGHT_UNITS:
            self._waiting = []
            return waiting
        self._waiting = waiting[LIGHT_UNITS:]
        return waiting[:LIGHT_UNITS]

    def _in_thread(self, units: list[_Unit], works: list[Work[Any]]) -> None:
        connection = self._connection

        def run() -> list[Any]:
            connection.set_busy_timeout(database.BUSY_TIMEOUT_MS)
            self._await_lock()
            try:
                return _run(connection, works)
            except apsw.BusyError as error:
                return [database.unavailable(error)] * len(works)
            finally:
                self._unlock()

        self._use_thread(run, lambda results: self._committed(units, results))

    def _use_thread(self, run: Callable[[], T], then: Callable[[T], None]) -> None:
        """Give the connection to the thread; meanwhile nobody else uses it."""
        self._thread_has_connection = True

        def done(future: "asyncio.Future[T]") -> None:
            self._thread_has_connection = False
            then(future.result())
            if self._waiting:
                self._look_soon()

        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._thread, run).add_done_callback(done)

    def _committed(self, units: list[_Unit], results: list[Any]) -> None:
        self._dirty = True
        wanted = False
        for unit, result in zip(units, results, strict=True):
            if isinstance(result, BaseException):
                if not unit.future.done():
                    unit.future.set_exception(result)
            elif unit.synced:
                wanted = True
                self._unsynced.append((unit.future, result))
            elif not unit.future.done():
                unit.future.set_result(result)
        if wanted:
            self._sync()
        elif self._lazy is None:
            self._lazy = asyncio.get_running_loop().call_later(LAZY_SYNC_S, self._sync_lazily)
        if self._log_pages > CHECKPOINT_PAGES and not self._thread_has_connection:
            self._use_thread(self._checkpoint, lambda _none: None)
        elif self._waiting:
            self._look_soon()

    # Syncs

    def _sync_lazily(self) -> None:
        self._lazy = None
        if self._dirty:
            self._sync()

    def _sync(self) -> None:
        if self._syncing or self._broken:
            return
        self._syncing = True
        self._dirty = False
        covered, self._unsynced = self._unsynced, []
        began = time.monotonic()

        def done(future: "asyncio.Future[None]") -> None:
            self._times.observe(time.monotonic() - began)
            self._synced(future, covered)

        self._syncs.sync(self._log).add_done_callback(done)

    def _synced(
        self,
        done: "asyncio.Future[None]",
        covered: list[tuple["asyncio.Future[Any]", Any]],
    ) -> None:
        self._syncing = False
        error = done.exception()
        if error is not None:
            self._break(error, covered)
            return
        for future, result in covered:
            if not future.done():
                future.set_result(result)
        if self._unsynced:
            self._sync()

    def _break(
        self, error: BaseException, covered: list[tuple["asyncio.Future[Any]", Any]]
    ) -> None:
        self._broken = True
        waiting = [unit.future for unit in self._waiting]
        futures = [*(future for future, _ in (*covered, *self._unsynced)), *waiting]
        self._unsynced = []
        self._waiting = []
        for future in futures:
            if not future.done():
                future.set_exception(_broken())
        self._on_fatal(error)

    # The write-ahead log

    def _note_log_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        """In the thread. A reader in another process may keep the log from starting anew: then next time. A writer that
        goes on meanwhile would always do so, so they wait."""
        is_long = self._log_pages > LONGEST_LOG_PAGES
        self._log_pages = 0
        self._await_lock()
        try:
            self._connection.wal_checkpoint(
                mode=apsw.SQLITE_CHECKPOINT_TRUNCATE if is_long else apsw.SQLITE_CHECKPOINT_PASSIVE
            )
        except apsw.Error:
            return
        finally:
            self._unlock()


def _broken() -> Unavailable:
    return Unavailable("the disk failed; the server must be started again")


def _run(connection: apsw.Connection, works: Sequence[Work[Any]]) -> list[Any]:
    """Results or exceptions of `works`, done in one transaction, or one by one where that is lost. Raises BusyError
    when another process has the lock; then nothing was done."""
    results: list[Any] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [work(connection) for work in works]
        connection.execute("COMMIT")
    except Exception as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        elif isinstance(error, apsw.BusyError):
            raise
        if len(works) > 1:
            return [_run_one(connection, work) for work in works]
        return [database.unavailable(error) if isinstance(error, apsw.Error) else error]
    return results


def _run_one(connection: apsw.Connection, work: Work[Any]) -> Any:
    """Its result or exception."""
    try:
        return _run(connection, [work])[0]
    except apsw.BusyError as error:
        return database.unavailable(error)
