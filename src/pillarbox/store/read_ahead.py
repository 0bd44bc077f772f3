"""Reading ahead of a command that walks over a mailbox which is not in memory yet.

What is rendered of each message lies between the bodies, so such a walk waits for the disk once every few messages, and
the event loop with it. Some threads touch the same pages ahead of it, all at once, which brings them into the page
cache: the walk itself reads them from there. Nothing depends on it.
"""

import asyncio
import logging
import resource
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import apsw

from pillarbox.core.errors import Failure
from pillarbox.store import database
from pillarbox.store.accounts import AccountFile, Accounts
from pillarbox.store.messages import touching_sql

THREADS = 8
"""That wait for the disk at the same time."""
STRIPE_UIDS = 256
"""That a thread takes up at a time."""
MOST_STRIPES = 80
"""Of one reading ahead: some 20,000 messages. A walk that is slow behind them asks for more."""

log = logging.getLogger("pillarbox.store")


class ReadAhead:
    """One reading ahead at a time, on one event loop."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ahead")
        self._running = 0
        self._stripes: deque[tuple[int, int]] = deque()

    def begin(
        self, account: int, mailbox: int, uid_range: tuple[int, int], columns: tuple[str, ...]
    ) -> None:
        """Touch what `messages.select` reads for these columns, of the first messages of an inclusive range of UIDs;
        returns at once. The account's file is open, else nothing happens."""
        sql = touching_sql(columns)
        file = self._accounts.get(account)
        if self._running or file is None or not sql:
            return
        first, last = uid_range
        last = min(last, first + MOST_STRIPES * STRIPE_UIDS - 1)
        stripes = self._stripes = deque(
            (start, min(start + STRIPE_UIDS - 1, last))
            for start in range(first, last + 1, STRIPE_UIDS)
        )
        loop = asyncio.get_running_loop()
        for _ in range(min(THREADS, len(stripes))):
            file.pins += 1
            self._running += 1
            work = partial(_touch, file.path, file.vfs, sql, (account, mailbox), stripes)
            future = loop.run_in_executor(self._threads, work)
            future.add_done_callback(partial(self._done, file))

    def _done(self, file: AccountFile, done: "asyncio.Future[None]") -> None:
        file.pins -= 1
        self._running -= 1
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("reading ahead in %s: %s", file.path, error)

    def close(self) -> None:
        """Returns when no thread has a file open: each ends behind its present stripe."""
        self._stripes.clear()
        self._threads.shutdown(cancel_futures=True)


def blocks_read() -> int:
    """How many blocks of 512 octets this thread has had from the disk, not from the page cache."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


def _touch(
    path: Path,
    vfs: str | None,
    sql: str,
    place: tuple[int, int],
    stripes: "deque[tuple[int, int]]",
) -> None:
    """Take stripes until there are none; in a thread."""
    try:
        connection = database.connect(path, vfs=vfs)
    except Failure:
        return  # whoever reads it will tell
    try:
        while stripes:
            try:
                stripe = stripes.popleft()
            except IndexError:
                return  # another thread was quicker
            connection.execute(sql, (*place, *stripe)).fetchall()
    except apsw.Error:
        return
    finally:
        connection.close()
