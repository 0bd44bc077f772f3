"""Who waits to have a password looked at: a line for each network, of which a few are looked at at a time.

So a guess is counted before the next but one of its network is looked at, however many come at once, and a network
with many attempts holds up no other one: each has its own first in the threads.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pillarbox.core.errors import Unavailable

MOST_WAITING = 200
"""Of all networks, those that are looked at included; more are told to come back later."""

MOST_IN_LINE = 100
"""Of one network, likewise."""


TOO_MANY = "too many logins at once; try again in a minute"


async def take_place(places: asyncio.Semaphore, until: float | None) -> None:
    """One of them, for the caller to give back. Suspends only where none is free. Raises Unavailable if none is until
    a time of the event loop; None: it waits for as long as it takes."""
    if not places.locked():
        await places.acquire()
        return
    # A time limit is one of a task, and a handler's first step runs in none (`net.connection`), or in another's.
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout_at(until):
            await places.acquire()
    except TimeoutError as error:
        raise Unavailable(TOO_MANY) from error


@dataclass(slots=True)
class _Line:
    places: asyncio.Semaphore
    length: int = 0


class Lines:
    """Those of one process."""

    def __init__(self, at_once: int, part: int = 1) -> None:
        """`at_once`: how many of a network are looked at together; of the limits above it has one part of so many."""
        self._at_once = at_once
        self._part = part
        self._lines: dict[str, _Line] = {}
        self._waiting = 0

    def length(self, network: str) -> int:
        """How many of a network wait or are looked at."""
        line = self._lines.get(network)
        return 0 if line is None else line.length

    @asynccontextmanager
    async def turn(self, network: str, until: float | None = None) -> AsyncIterator[None]:
        """Waits until it is a network's turn, which lasts as long as the context. Raises Unavailable when too many
        wait, and as `take_place` does."""
        line = self._lines.get(network)
        if (
            self._waiting >= MOST_WAITING // self._part
            or self.length(network) >= MOST_IN_LINE // self._part
        ):
            raise Unavailable(TOO_MANY)
        if line is None:
            line = self._lines[network] = _Line(asyncio.Semaphore(self._at_once))
        line.length += 1
        self._waiting += 1
        try:
            await take_place(line.places, until)
            try:
                yield
            finally:
                line.places.release()
        finally:
            self._waiting -= 1
            line.length -= 1
            if not line.length:
                del self._lines[network]
