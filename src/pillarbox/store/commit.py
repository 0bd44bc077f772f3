"""Group commit: everything that waits becomes durable together, and each caller is answered after that.

Units of work wait per account. A group for an account is one transaction with a savepoint for each unit. If all its
units are appends, it is committed without a sync and its records go to the journal, with one fdatasync for all
accounts of the turn. If one unit needs more (flags, renames, large bodies), the group is committed at FULL in a
thread, which makes the appends in it durable too; or, where it is short (flags of a few messages), without a sync on
the event loop, and the kernel syncs the file's log. A file that another process has locked is waited for in a thread.
Mail that nobody needs the numbers of is taken: it goes to the journal only, and into its file later, many messages at a
time, but before the next unit (`intake`, `filing`).

A unit may run twice: when the disk makes a whole group fail, its units are rerun one by one. A failed sync of the
journal, or of a log by the kernel, is fatal: the process must stop.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import apsw

from pillarbox.core.errors import DiskFull, Failure, Unavailable
from pillarbox.core.tally import Histogram
from pillarbox.store import database
from pillarbox.store.accounts import AccountFile, Accounts
from pillarbox.store.appending import Append, Appended
from pillarbox.store.damage import tell_unmoved
from pillarbox.store.database import Missing, Replaced
from pillarbox.store.filing import Filing
from pillarbox.store.intake import Intake, Taken
from pillarbox.store.journal import (
    SEGMENT_OCTETS,
    Framed,
    Journal,
    format_record,
    framed_size,
    run_of,
)
from pillarbox.store.numbers import HIGHEST_MAILBOX, can_be
from pillarbox.store.retirement import Left, Retirement, checkpoint
from pillarbox.store.syncing import Syncs
from pillarbox.store.unit import (
    Applied,
    Unit,
    apply,
    apply_at_once,
    fail_all,
    group_size,
    is_short,
    nothing,
    records_of,
    settle,
    stopping,
)
from pillarbox.trace.recorder import Recorder

MOST_MESSAGES_A_TURN = 1024
"""Units between two syncs of the journal: bounds what an unclean stop can make vanish (`recovery.UIDS_SKIPPED`)."""

MOST_LOCKS_AWAITED = 32
"""Files held by another process for which this one can wait at a time, apart from what commits."""

SLICE_S = 0.005
"""How long the committer keeps the event loop at a time, but for a single group."""

INLINE_OCTETS = 1 << 20
"""For the journal in one turn: more is written in a thread."""

LONGEST_PUT_S = 20.0
"""For what an earlier process of this worker left; a file that somebody has locked is not waited for longer."""

CHECKPOINT_PAGES = 1000
"""WAL pages after which a file is checkpointed in the background."""

log = logging.getLogger("pillarbox.store")


@dataclass(slots=True)
class _Arrival:
    """A message that will be taken once it is in the journal."""

    account: int
    taken: Taken
    record: Framed
    done: "asyncio.Future[None]"


class _Pace:
    """Lets the event loop do other things after SLICE_S of our own."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = time.monotonic() + SLICE_S

    async def keep(self) -> None:
        if time.monotonic() > self._end:
            await asyncio.sleep(0)
            self._end = time.monotonic() + SLICE_S


Notify = Callable[[int, set[int]], None]


class Committer:
    """The only writer of account files in this process. Belongs to one event loop."""

    def __init__(
        self,
        accounts: Accounts,
        journal: Journal,
        clock: Callable[[], float],
        notify: Notify,
        is_watched: Callable[[int], bool],
        on_fatal: Callable[[BaseException], None],
        left: Left,
        mark_behind: Callable[[int, int], None],
        most_unsynced: int,
        times: Mapping[str, Histogram],
        recorder: Recorder,
        tell_damage: Callable[[int, BaseException], bool],
    ) -> None:
        """`is_watched`: whether a session wants to know at once what comes for an account. `mark_behind`: see `Intake`.
        `most_unsynced`: of `recovery.MOST_UNSYNCED`, the share of this process. `times`: how long commits take, by
        "journal" and "account". `tell_damage`: see `Damage.tell`."""
        self._times = times
        self._tell_damage = tell_damage
        runs = {run for path in (*left.own, *left.of_start) if (run := run_of(path))}
        self.intake = Intake(journal.worker, journal.run, runs, mark_behind)
        self._filing = Filing(
            self.intake, self._put_now, self.submit, self._start, recorder, tell_damage
        )
        self._arrivals: list[_Arrival] = []
        self._accounts = accounts
        self._journal = journal
        self._clock = clock
        self._notify = notify
        self._is_watched = is_watched
        self._on_fatal = on_fatal
        self._waiting: dict[int, list[Unit]] = {}
        self._turn_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="commit")
        self._syncs = Syncs(self._threads)
        self._lock_threads = ThreadPoolExecutor(MOST_LOCKS_AWAITED, thread_name_prefix="lock")
        self._background = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._retirement = Retirement(
            accounts, journal, self._background, self.submit, self._filing.has_put, tell_damage
        )
        self._checkpointing: set[int] = set()
        self._opening: set[int] = set()
        self._opened: dict[int, AccountFile] = {}
        """Pinned until the next turn."""
        self._unjournalled: list[tuple[AccountFile, Applied]] = []
        """Groups of appends that were applied in a thread and wait for the next sync of the journal."""
        self._left = left
        self._most_unsynced = most_unsynced
        self._recorder = recorder
        self._failed: BaseException | None = None

    def submit(self, account: int, unit: Unit) -> None:
        """Let a unit wait for the next turn; `unit.done` tells its end."""
        if self._failed is not None:
            unit.done.set_exception(stopping())
            return
        waiting = self._waiting.get(account)
        if waiting is None:
            self._waiting[account] = [unit]
        else:
            waiting.append(unit)
        self._wake()

    def take(self, account: int, item: Append) -> "asyncio.Future[None] | None":
        """Keep a message for an account; it is durable when the future is done. None: it has to wait for the account's
        file, which is not open or took nothing the last time, or too much is kept already; or it is for a mailbox that
        cannot be, which is told where the file is at hand."""
        if self._accounts.get(account) is None or not self.intake.may_take(account):
            return None
        if not can_be(item.mailbox, HIGHEST_MAILBOX):
            return None
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._failed is not None:
            done.set_exception(stopping())
            return done
        sequence = self._journal.next_sequence()
        numbers = Appended(item.mailbox, 0, 0, sequence)
        record = format_record(self._journal.run, account, item, numbers, int(self._clock()))
        self._arrivals.append(_Arrival(account, Taken(item, sequence), record, done))
        self._wake()
        return done

    async def catch_up(self, account: int) -> None:
        """Put into an account's file what was taken for it until now; where that fails, it is tried again later."""
        await self._filing.has_put(account, self._journal.last_sequence)

    def _put_now(self, account: int) -> None:
        """Put what was taken into its file, or have the next turn do it; where units wait, it will."""
        if account in self._waiting:
            return
        file = self._accounts.get(account)
        if file is None or file.busy or self._must_sync(file) or not file.try_lock():
            self._filing.put_soon(account)
            return
        file.busy = True
        try:
            group = apply_at_once(file, [self._filing.unit(account)], self._now_s())
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            file.unlock()
        if group is None:
            file.busy = False
            self._filing.put_soon(account)
            return
        self._finish(file, group)

    def _must_sync(self, file: AccountFile) -> bool:
        """Whether a power cut could take more numbers than recovery skips."""
        return file.unsynced >= self._most_unsynced

    def _wake(self) -> None:
        if self._turn_task is None:
            self._turn_task = asyncio.get_running_loop().create_task(self._turns())

    async def _turns(self) -> None:
        try:
            while (ready := self._take_ready()) or self._arrivals or self._unjournalled:
                await self._turn(ready)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._turn_task = None

    def _take_ready(self) -> list[tuple[AccountFile, list[Unit]]]:
        """Groups of accounts that nobody is at work on, up to a turn's worth. Files that are not open come later."""
        ready = []
        total = 0
        for account in list(self._waiting):
            if total >= MOST_MESSAGES_A_TURN:
                break
            file = self._accounts.get(account)
            if self._opened and account in self._opened:
                self._opened.pop(account).pins -= 1
            if file is None:
                if account not in self._opening:
                    self._opening.add(account)
                    self._start(self._open(account))
                continue
            if file.busy:
                continue
            units = self._waiting.pop(account)
            size = group_size(units)
            if len(units) > size:
                self._waiting[account] = units[size:]
                del units[size:]
            if self.intake.is_behind(account):
                units.insert(0, self._filing.unit(account))
            file.busy = True
            total += len(units)
            ready.append((file, units))
        return ready

    async def _open(self, account: int) -> None:
        """Open a file for the units that wait for it."""
        try:
            file = await self._accounts.open(account, int(self._clock()))
        except Exception as error:
            if not isinstance(error, Failure):
                log.exception("account %d: a bug where its file is opened", account)
            self._tell_damage(account, error)
            if self.intake.is_behind(account):
                self.intake.failed(account, time.monotonic())
            for unit in self._waiting.pop(account, ()):
                unit.error = error
                settle(unit)
        else:
            self._opened[account] = file
            self._wake()
        finally:
            self._opening.discard(account)

    async def _turn(self, ready: list[tuple[AccountFile, list[Unit]]]) -> None:
        """Apply groups; those of appends alone wait for one sync of the journal, the others go to threads."""
        arrivals, self._arrivals = self._arrivals, []
        applied, self._unjournalled = self._unjournalled, []
        journalled: list[tuple[AccountFile, list[Unit]]] = []
        short: list[tuple[AccountFile, list[Unit]]] = []
        needed = sum(framed_size(arrival.record) for arrival in arrivals)
        needed += sum(unit.journal_octets for _, group in applied for unit in group.units)
        for file, units in ready:
            if self._must_sync(file) or not is_short(units):
                self._start(self._commit_in_thread(file, units))
            elif all(unit.journalled is not None for unit in units):
                journalled.append((file, units))
                needed += sum(unit.journal_octets for unit in units)
            else:
                short.append((file, units))
        await self._commit_short(short)
        if not journalled and not applied and not arrivals:
            await asyncio.sleep(0)
            return
        try:
            if needed:
                self._journal.reserve(needed)
        except Unavailable as failure:
            for account in {arrival.account for arrival in arrivals}:
                self._tell_damage(account, failure)
            for file, units in journalled:
                self._finish(file, fail_all(units, failure))
            for file, group in applied:
                self._start(self._sync_applied(file, group))
            _refuse(arrivals, failure)
            return
        records = [record for _, group in applied for record in records_of(group)]
        await self._apply_in_slices(journalled, applied, records)
        records += [arrival.record for arrival in arrivals]
        if records:
            accounts = {file.account for file, _ in applied}
            accounts.update(arrival.account for arrival in arrivals)
            began = time.monotonic()
            try:
                await self._write_journal(records, accounts)
                self._times["journal"].observe(time.monotonic() - began)
            except BaseException:
                for file, group in applied:
                    self._finish(file, fail_all(group.units, stopping()))
                _refuse(arrivals, stopping())
                raise
        self._keep(arrivals)
        pace = _Pace()
        for file, group in applied:
            self._finish(file, group)
            await pace.keep()
        if self._journal.used_octets > SEGMENT_OCTETS:
            self._cut_journal()

    async def _apply_in_slices(
        self,
        groups: list[tuple[AccountFile, list[Unit]]],
        applied: list[tuple[AccountFile, Applied]],
        records: list[Framed],
    ) -> None:
        """Apply groups of appends, not yet durable, and add them and their records for the journal; those whose file is
        locked come in a later turn."""
        pace = _Pace()
        for file, units in groups:
            if not file.try_lock():
                self._start(self._apply_when_free(file, units))
                continue
            try:
                group = apply_at_once(file, units, self._now_s())
            finally:
                file.unlock()
            if group is None:
                self._start(self._apply_when_free(file, units))
                continue
            applied.append((file, group))
            records += records_of(group)
            await pace.keep()

    async def _apply_when_free(self, file: AccountFile, units: list[Unit]) -> None:
        """Appends to a file that another process has now, applied as soon as it gives it up."""

        def apply_locked() -> Applied:
            file.lock()
            try:
                return apply(file, units, database.NORMAL, self._now_s())
            finally:
                file.unlock()

        try:
            group = await asyncio.get_running_loop().run_in_executor(
                self._lock_threads, apply_locked
            )
        except BaseException as error:
            self._finish(file, fail_all(units, error))
            self._fail(error)
            raise
        if self._failed is not None:
            self._finish(file, fail_all(units, stopping()))
            return
        self._unjournalled.append((file, group))
        self._wake()

    async def _sync_applied(self, file: AccountFile, group: Applied) -> None:
        """Make appends durable that the journal has no room for."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._background, checkpoint, file.path, file.vfs)
        except (apsw.Error, Failure) as error:
            failure = database.unavailable(error) if isinstance(error, apsw.Error) else error
            for unit in group.units:
                if unit.journalled is not nothing:
                    unit.error = failure
        self._finish(file, group)

    async def _write_journal(self, records: list[Framed], accounts: set[int]) -> None:
        """Few records are written at once, as the files of accounts are, and synced by the kernel; many in a thread."""
        journal = self._journal
        descriptor = journal.descriptor
        if descriptor is not None and sum(map(framed_size, records)) <= INLINE_OCTETS:
            journal.write_unsynced(records, accounts)
            await self._syncs.sync(descriptor)
            return
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, journal.write, records, accounts)

    def _keep(self, arrivals: list[_Arrival]) -> None:
        """They are durable: answer the callers, and hold them until their files get them."""
        for arrival in arrivals:
            account = arrival.account
            self._filing.keep(account, arrival.taken, is_watched=self._is_watched(account))
            if not arrival.done.done():
                arrival.done.set_result(None)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit_in_thread(self, file: AccountFile, units: list[Unit]) -> None:
        """A group that needs a sync, or writes much: all that may block or take long is done in a thread."""
        loop = asyncio.get_running_loop()
        is_lazy = all(unit.journalled is nothing for unit in units)
        level = database.NORMAL if is_lazy and not self._must_sync(file) else database.FULL
        began = time.monotonic()
        try:
            if not file.try_lock():
                await loop.run_in_executor(self._lock_threads, file.lock)
            try:
                group = await loop.run_in_executor(
                    self._threads, apply, file, units, level, self._now_s()
                )
            finally:
                file.unlock()
        except BaseException as error:
            self._finish(file, fail_all(units, error))
            self._fail(error)
            raise
        self._times["account"].observe(time.monotonic() - began)
        if level == database.FULL and any(unit.error is None for unit in group.units):
            file.unsynced = 0
        self._finish(file, group)

    async def _commit_short(self, groups: list[tuple[AccountFile, list[Unit]]]) -> None:
        """Groups that need a sync and write little: committed without one, as appends are, and answered once the
        kernel has synced their logs. To the thread and back would take as long again as all else."""
        pace = _Pace()
        for file, units in groups:
            began = time.monotonic()
            group = self._commit_unsynced(file, units)
            if group is None:
                self._start(self._commit_in_thread(file, units))
                continue
            assert file.log_descriptor is not None
            synced = self._syncs.sync(file.log_descriptor)
            self._tasks.add(synced)
            synced.add_done_callback(partial(self._log_synced, file, group, began))
            await pace.keep()

    def _commit_unsynced(self, file: AccountFile, units: list[Unit]) -> Applied | None:
        """None: somebody else has the file, or its log cannot be opened."""
        try:
            file.open_log()
        except OSError:
            return None
        if not file.try_lock():
            return None
        try:
            return apply_at_once(file, units, self._now_s())
        finally:
            file.unlock()

    def _log_synced(
        self, file: AccountFile, group: Applied, began: float, synced: "asyncio.Future[None]"
    ) -> None:
        self._tasks.discard(synced)
        error = synced.exception()
        if error is not None:
            # What others see already may not be on the disk, and a second sync would not say so.
            self._finish(file, fail_all(group.units, stopping()))
            self._fail(error)
            return
        self._times["account"].observe(time.monotonic() - began)
        file.unsynced = 0
        self._finish(file, group)

    def _now_s(self) -> int:
        return int(self._clock())

    def _finish(self, file: AccountFile, group: Applied) -> None:
        """Answer the callers, tell the sessions, and take up what came for this account meanwhile."""
        file.busy = False
        for unit in group.units:
            if unit.batch is not None:
                file.unsynced += len(unit.batch)
                self._filing.end(file.account, unit)
            else:
                if unit.error is not None:
                    self._tell_damage(file.account, unit.error)
                settle(unit)
        if group.units and isinstance(group.units[0].error, (Missing, Replaced)):
            self._accounts.close_strayed(file.account)
        if group.changed:
            self._notify(file.account, group.changed)
        if file.wal_pages >= CHECKPOINT_PAGES and file.account not in self._checkpointing:
            self._start(self._checkpoint(file))
        if file.account in self._waiting:
            self._wake()

    async def _checkpoint(self, file: AccountFile) -> None:
        self._checkpointing.add(file.account)
        file.pins += 1
        unsynced = file.unsynced
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._background, checkpoint, file.path, file.vfs)
            file.wal_pages = 0
            file.unsynced = max(0, file.unsynced - unsynced)
        except (apsw.Error, Failure) as error:
            failure = (
                error if isinstance(error, Failure) else database.unavailable(error, file.path)
            )
            # Where the disk is full or the file damaged, there is a line of that.
            if not self._tell_damage(file.account, failure) and not isinstance(failure, DiskFull):
                tell_unmoved(file.path, failure)
        finally:
            file.pins -= 1
            self._checkpointing.discard(file.account)

    def _cut_journal(self) -> None:
        """Between two writes only: the next one starts a new segment."""
        segment = self._journal.cut()
        if segment is not None:
            self._start(self._retirement.retire(segment))

    async def put_left(self) -> None:
        """Put into their files what an earlier process of this worker had taken, before anybody reads them here, and
        begin to sync what its journal names; begin to try again what the start could not replay."""
        left, self._left = self._left, Left()
        if left.of_start and left.has_duty:
            self._start(
                self._retirement.retire_left(left.of_start, asyncio.Event(), is_first=False)
            )
        if not left.own:
            return
        when_put = asyncio.Event()
        self._start(self._retirement.retire_left(left.own, when_put))
        with suppress(TimeoutError):
            await asyncio.wait_for(when_put.wait(), LONGEST_PUT_S)

    def _fail(self, error: BaseException) -> None:
        """No more acknowledgements: what is on the disk is not known."""
        if isinstance(error, asyncio.CancelledError) or self._failed is not None:
            return
        self._failed = error
        self._filing.stop()
        for units in self._waiting.values():
            for unit in units:
                unit.error = stopping()
                settle(unit)
        self._waiting.clear()
        _refuse(self._arrivals, stopping())
        self._arrivals.clear()
        self._on_fatal(error)

    async def _quiet(self) -> None:
        while self._turn_task is not None or self._tasks:
            await asyncio.wait([*self._tasks, *([self._turn_task] if self._turn_task else [])])

    async def close(self) -> None:
        """Finish what waits, sync every file that the journal names, and remove the journal."""
        self._retirement.stop()
        await self._quiet()
        if self._failed is None:
            for account in self.intake:
                await self.catch_up(account)
            self._cut_journal()
            await self._quiet()
        self._filing.stop()
        self._lock_threads.shutdown()
        self._threads.shutdown()
        self._syncs.close()
        self._background.shutdown()


def _refuse(arrivals: list[_Arrival], error: Unavailable) -> None:
    for arrival in arrivals:
        if not arrival.done.done():
            arrival.done.set_exception(error)
