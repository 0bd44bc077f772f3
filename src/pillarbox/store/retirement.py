"""The end of a journal segment: what it names gets into the account files and is synced there, then it is removed.

Segments that an earlier process left, which was killed while others went on, or that the start could not replay whole,
are dealt with first. Each account is tried on its own. A segment stays until all of it is in its files: what fails,
mostly for want of room or because another program has the file, is tried again and again, with pauses that grow.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from pillarbox.core.errors import Failure, told
from pillarbox.store import database
from pillarbox.store.accounts import Accounts
from pillarbox.store.intake import append_lacking
from pillarbox.store.journal import Journal, Record, Segment, keep_aside, named_by, worker_of
from pillarbox.store.unit import Unit

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Before what failed is tried again; each pause is twice the one before."""

MOST_AT_ONCE = 16
"""Accounts that are given what a killed worker took for them."""

log = logging.getLogger("pillarbox.store")


@dataclass(slots=True, frozen=True)
class Left:
    """Segments of earlier processes."""

    own: Sequence[Path] = ()
    """Of this worker, which was killed while others went on; the oldest first."""
    of_start: Sequence[Path] = ()
    """What the start of the server could not replay whole."""
    has_duty: bool = False
    """This worker is the one that tries those again."""


@dataclass(slots=True)
class _Waiting:
    """A segment of an earlier process."""

    segment: Segment
    lacking: set[int] | None = None
    """Accounts whose files may not have all that it took for them; None before it was read."""
    lost_octets: int = 0
    """It is damaged, and has to be kept aside."""

    @property
    def is_put(self) -> bool:
        """All that can be read of it is in its files."""
        return self.lacking == set() and not self.lost_octets


@dataclass(slots=True)
class Retirement:
    """Of the segments of one worker."""

    accounts: Accounts
    journal: Journal
    background: Executor
    """For what blocks."""
    submit: Callable[[int, Unit], None]
    """Lets a unit wait for its commit."""
    has_put: Callable[[int, int], Awaitable[bool]]
    """Whether an account's file has what was taken for it up to a sequence, once that was tried."""
    tell_damage: Callable[[int, BaseException], bool]
    """See `Damage.tell`."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _told: set[tuple[Path, int]] = field(default_factory=set)
    """Segments that stay for an account, as the log has it."""

    def stop(self) -> None:
        """Try what is left once more, at once, and then no more."""
        self._stopping.set()

    async def retire_left(
        self, paths: Sequence[Path], when_put: asyncio.Event, *, is_first: bool = True
    ) -> None:
        """Segments of earlier processes, the oldest first. `when_put`: everybody can see what was taken, but of the
        accounts whose file takes nothing now. Not `is_first`: it was tried just now."""
        waiting = [_Waiting(Segment(path, set())) for path in paths]
        pause_s = FIRST_PAUSE_S
        is_last = False
        if not is_first:
            is_last = await self._pause(pause_s)
        while True:
            await self._put_all(waiting)
            when_put.set()
            waiting = [
                each
                for each in waiting
                if not each.is_put or not await self._retire_once(each.segment)
            ]
            if not waiting or is_last:
                return
            is_last = await self._pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def retire(self, segment: Segment) -> None:
        """Sync the files that a segment names, then remove it."""
        pause_s = FIRST_PAUSE_S
        is_last = self._stopping.is_set()
        while not await self._retire_once(segment) and not is_last:
            is_last = await self._pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _pause(self, pause_s: float) -> bool:
        """Whether there is no time for another one."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_s)
        return self._stopping.is_set()

    async def _put_all(self, waiting: Sequence[_Waiting]) -> None:
        """Put into their files what the segments have of what was taken: of an account nothing behind what failed, for
        a file that has a message that was taken is held to have all before it."""
        failed: set[int] = set()
        for each in waiting:
            if each.is_put:
                continue
            try:
                await self._put(each, failed)
            except FileNotFoundError:
                each.lacking, each.lost_octets = set(), 0  # another process was quicker
            except OSError as error:
                self._stays(each.segment, {0: error})
                return

    async def _put(self, each: _Waiting, failed: set[int]) -> None:
        """One of them, and note what failed. Raises OSError."""
        loop = asyncio.get_running_loop()
        path = each.segment.path
        named = await loop.run_in_executor(self.background, named_by, path)
        if each.lacking is None:
            each.lost_octets = named.lost_octets
            each.segment.accounts = named.accounts
            each.lacking = named.accounts & (named.taken.keys() | self.accounts.unusable)
        worker = worker_of(path)
        errors: dict[int, BaseException] = {}
        wanted = sorted(each.lacking - failed)
        for start in range(0, len(wanted), MOST_AT_ONCE):
            some = wanted[start : start + MOST_AT_ONCE]
            done = await asyncio.gather(
                *(
                    self._append_left(account, worker, named.taken.get(account, []))
                    for account in some
                ),
                return_exceptions=True,
            )
            for account, error in zip(some, done, strict=True):
                if error is None:
                    each.lacking.discard(account)
                else:
                    errors[account] = error
        failed |= errors.keys()
        self._stays(each.segment, errors)
        if each.lost_octets:
            try:
                await loop.run_in_executor(self.background, keep_aside, path, each.lost_octets)
                each.lost_octets = 0
            except OSError as error:
                self._stays(each.segment, {0: error})

    async def _append_left(self, account: int, worker: str, records: list[Record]) -> None:
        """Put what an earlier process had taken, and not yet put, into the file; where the start could not replay an
        account, that is done when its file is opened for this. Raises Failure."""
        if self.accounts.is_removed(account):
            count = len(records)
            log.info(
                "account %d was removed, and with it %d messages in the journal", account, count
            )
            return
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.submit(account, Unit(lambda tx: append_lacking(tx, worker, records), None, 0, done))
        count = await done
        if count:
            log.info("account %d: %d messages of a killed worker were put in", account, count)

    async def _retire_once(self, segment: Segment) -> bool:
        """Whether it is gone."""
        loop = asyncio.get_running_loop()
        errors: dict[int, BaseException] = {}
        for account in sorted(segment.accounts):
            try:
                if self.accounts.is_removed(account) or await self._sync(account, segment):
                    segment.accounts.discard(account)
            except (apsw.Error, Failure) as error:
                errors[account] = error
        self._stays(segment, errors)
        if segment.accounts:
            return False
        try:
            await loop.run_in_executor(self.background, self.journal.remove, segment)
        except OSError as error:
            self._stays(segment, {0: error})
            return False
        return True

    async def _sync(self, account: int, segment: Segment) -> bool:
        """False: the file does not take its mail, and the log has why. Raises apsw.Error, Failure."""
        if not await self.has_put(account, segment.last_sequence):
            return False
        loop, path = asyncio.get_running_loop(), self.accounts.path(account)
        await loop.run_in_executor(self.background, checkpoint, path, self.accounts.vfs)
        self.accounts.ensure_in_place(account)  # or another file was synced than the one it is in
        return True

    def _stays(self, segment: Segment, errors: Mapping[int, BaseException]) -> None:
        """One line of all accounts (0: the segment itself) of which there was none."""
        news = {
            account: error
            for account, error in errors.items()
            if not self.tell_damage(account, error) and (segment.path, account) not in self._told
        }
        if not news:
            return
        self._told.update((segment.path, account) for account in news)
        account, error = next(iter(news.items()))
        who = (
            f"account {account} takes no mail" if account else "it cannot be read, kept or removed"
        )
        more = f" (and {len(news) - 1} more)" if len(news) > 1 else ""
        name = segment.path.name
        log.error(
            "journal %s stays for now, and is tried again: %s%s: %s", name, who, more, told(error)
        )


def checkpoint(path: Path, vfs: str | None) -> None:
    """Move what is in the WAL into the file, synced, by a connection of its own. Blocks.

    A reader of an older moment can keep a checkpoint from doing anything; then a commit at FULL syncs the WAL: whoever
    wants to write on the event loop meanwhile finds the file busy, and waits in a thread.
    """
    connection = database.connect(path, vfs=vfs)
    try:
        try:
            in_wal, done = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            in_wal, done = 1, 0  # another process is about it
        if done < in_wal:
            database.set_synchronous(connection, database.FULL)
            connection.execute("UPDATE account_state SET generation = generation")
    finally:
        connection.close()
