"""Telling an idle client of changes as they happen (RFC 2177)."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from pillarbox.net.connection import Connection
from pillarbox.store.store import Store

LOOK_S = 300.0
"""A hint can be lost, if another worker is overwhelmed: an idle session looks for itself this often, or up to twice as
often. Not often enough to keep the files of all who are idle open."""

log = logging.getLogger("pillarbox.imapd")


class Push:
    """Runs `look` on every hint about a mailbox, one at a time, in a task that it owns."""

    __slots__ = (
        "_again",
        "_connection",
        "_look",
        "_loop",
        "_mailbox",
        "_task",
        "_timer",
        "_unsubscribe",
    )

    def __init__(
        self,
        connection: Connection,
        store: Store,
        account: int,
        mailbox: int,
        look: Callable[[], Awaitable[None]],
    ) -> None:
        """`look` queues responses on the engine; it deals with failures that can be expected."""
        self._connection = connection
        self._mailbox = mailbox
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._unsubscribe: Callable[[], None] | None = store.subscribe(account, self._hinted)
        self._timer = self._loop.call_later(_wait_s(), self._timed)

    def _hinted(self, mailboxes: set[int]) -> None:
        if self._mailbox in mailboxes:
            self._start()

    def _timed(self) -> None:
        self._timer = self._loop.call_later(_wait_s(), self._timed)
        self._start()

    def _start(self) -> None:
        self._again = True
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._connection.pause()  # many sessions may be told of the same
                await self._look()
                self._connection.wake()
        except ConnectionError:
            return  # the peer is gone
        except Exception:
            log.exception("%s: a bug in IDLE", self._connection.id)
        finally:
            self._task = None

    def close(self) -> None:
        """Start no more. What runs goes on, see `finished`."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None  # it knows us: who listens no more is freed at once
        self._timer.cancel()
        self._again = False

    async def finished(self) -> None:
        """Wait until nothing runs."""
        if self._task is not None:
            await self._task

    def cancel(self) -> None:
        """Close, and end at once what runs."""
        self.close()
        if self._task is not None:
            self._task.cancel()


def _wait_s() -> float:
    """Not the same for all who began at the same moment."""
    return LOOK_S * random.uniform(0.5, 1)
