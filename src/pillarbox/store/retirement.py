"""The end of a journal segment: what it names gets into the account files and is synced there, then it is removed.

Segments that an earlier process of this worker left, which was killed while others went on, are dealt with first.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import apsw

from pillarbox.core.errors import Failure
from pillarbox.store import database
from pillarbox.store.accounts import Accounts
from pillarbox.store.intake import append_lacking
from pillarbox.store.journal import Journal, Record, Segment, named_by
from pillarbox.store.unit import Unit

log = logging.getLogger("pillarbox.store")


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

    async def retire_left(self, paths: Sequence[Path], when_put: asyncio.Event) -> None:
        """Segments of an earlier process, the oldest first, and none behind one that fails: a file that has a message
        that was taken is held to have all before it. `when_put`: everybody can see what was taken."""
        segments = []
        try:
            for path in paths:
                segment = await self._put_left(path)
                if segment is not None:
                    segments.append(segment)
        except (OSError, apsw.Error, Failure) as error:
            log.error("journal %s and those after it stay: %s", path.name, error)
        when_put.set()
        for segment in segments:
            try:
                await self.retire(segment)
            except OSError as error:
                log.error("journal %s and those after it stay: %s", segment.path.name, error)
                return

    async def _put_left(self, path: Path) -> Segment | None:
        """Put into their files what a segment has of what was taken. Raises OSError, Failure."""
        loop = asyncio.get_running_loop()
        accounts, taken = await loop.run_in_executor(self.background, named_by, path)
        if accounts & self.accounts.unusable:
            return None  # it was there at the start of the server, which put in what it could
        for account, records in taken.items():
            if self.accounts.path(account).exists():  # else the account was removed
                await self._append_left(account, records)
        return Segment(path, accounts)

    async def _append_left(self, account: int, records: list[Record]) -> None:
        """Put what an earlier process had taken, and not yet put, into the file. Raises Failure."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        worker = self.journal.worker
        self.submit(account, Unit(lambda tx: append_lacking(tx, worker, records), None, 0, done))
        count = await done
        if count:
            log.info("account %d: %d messages of a killed worker were put in", account, count)

    async def retire(self, segment: Segment) -> None:
        """Sync the files that a segment names, then remove it; if one cannot be synced, it stays for the next start."""
        loop = asyncio.get_running_loop()
        for account in segment.accounts:
            path = self.accounts.path(account)
            if not path.exists():
                continue  # the account was removed
            if not await self.has_put(account, segment.last_sequence):
                log.error("journal %s stays: account %d takes no mail", segment.path.name, account)
                return
            try:
                await loop.run_in_executor(self.background, checkpoint, path, self.accounts.vfs)
            except (apsw.Error, Failure) as error:
                log.error("journal %s stays: account %d: %s", segment.path.name, account, error)
                return
        await loop.run_in_executor(self.background, self.journal.remove, segment)


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
