"""Turns: what would keep the event loop for long is done piece by piece, one piece in a turn of the loop.

The loop runs everything that is ready before it looks at its sockets and timers again. So whoever has much to do (a
connection with a lot of input, a command over a whole mailbox) waits here between its pieces, in order of arrival, and
only so many go on at once that others are not kept waiting.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

TURN_S = 0.005
"""How long the pieces of one turn may take together; the last one may begin just before."""

LATE_S = 0.010
"""A turn of the loop that takes this long already takes up no more input."""

GAP_S = 0.0002
"""Input that is taken up sooner than this after the last one counts as of the same turn of the loop: the loop does not
tell where its turns begin."""


class Turns:
    """The queue of one event loop."""

    __slots__ = ("_began", "_loop", "_paused", "_scheduled", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None] | asyncio.Future[None]] = deque()
        self._scheduled = False
        self._began = self._paused = time.monotonic()

    def is_late(self) -> bool:
        """Whether this turn of the loop has taken so long that input should wait for the next one."""
        now = time.monotonic()
        if now - self._paused > GAP_S:
            self._began = now
        self._paused = now
        return now - self._began > LATE_S

    def input_done(self) -> None:
        """After what was taken up because it was not late."""
        self._paused = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    def add(self, piece: Callable[[], None]) -> None:
        """Call `piece` in a turn that has time for it."""
        self._waiting.append(piece)
        self._schedule()

    async def next(self) -> None:
        """Wait for a turn: what follows, up to the next wait, may take some milliseconds."""
        future = self._loop.create_future()
        self._waiting.append(future)
        self._schedule()
        await future

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        waiting = self._waiting
        end = time.monotonic() + TURN_S
        while waiting:
            piece = waiting.popleft()
            if isinstance(piece, asyncio.Future):
                if piece.done():
                    continue  # whoever waited was cancelled
                piece.set_result(None)
                break  # its task goes on after this, and nobody knows for how long
            piece()
            if time.monotonic() > end:
                break
        if waiting:
            self._schedule()
        self._began = self._paused = time.monotonic()
