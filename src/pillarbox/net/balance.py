"""Which of several workers serves a new connection: the one with the fewest of its service.

The kernel spreads connections over the workers by chance, or gives a burst to whoever is awake first: of ten sessions
one may get seven, and its core is busy while another idles. So whoever accepts a connection looks into shared memory,
and hands it on to a worker that has fewer, before a word was said. Each worker writes its own cells only; what is on
its way to a worker counts as its own. A connection is handed on once at most. Two that look at the same moment may both
decide for the same one: it is even but for that.

A worker that is near its limit of open files takes no more until it is not. What is handed to it all the same, when it
can open none, the kernel closes: that client sees the end of its connection at once, and none waits for nothing.
"""

import asyncio
import logging
import os
import random
import resource
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

MOST_SERVICES = 15
TAKEN_A_TURN = 16
SPARE_DESCRIPTORS = 64
"""For what is on its way, and for files, when no more connections are taken."""
FULL_S = 1.0
"""After so long a worker that took no more looks whether it may again."""

NOW_OCTETS = (1 + MOST_SERVICES) * 8
"""Of memory for a worker: whether it takes connections, and how many it has of each service. Cleared when it ends."""


def passed_octets(workers: int) -> int:
    """Of memory for each worker, never cleared: how many connections of each service it took from others, and how many
    it gave to each of them."""
    return (1 + workers) * MOST_SERVICES * 8


log = logging.getLogger("pillarbox.net")


class Balance:
    """That of one worker."""

    def __init__(
        self,
        now: memoryview,
        passed: memoryview,
        services: Sequence[str],
        number: int,
        incoming: socket.socket,
        outgoing: Mapping[int, socket.socket],
    ) -> None:
        """`now`, `passed` and the names and order of `services` (MOST_SERVICES at most) are the same for all workers.
        `number` counts from 1. `incoming` is a socket that keeps packets apart, to which the others write by
        `outgoing`, which are by the number of who reads there."""
        self._now = now.cast("B").cast("Q")
        self._passed = passed.cast("B").cast("Q")
        workers = len(now) // NOW_OCTETS
        self._row = len(self._passed) // workers
        self._number = number
        self._incoming = incoming
        self._outgoing = outgoing
        self._others = list(outgoing)
        self._services = services
        self._indexes = {name: index for index, name in enumerate(services)}
        self._take: Callable[[str, socket.socket], Awaitable[object]]
        self._arriving: set[asyncio.Future[object]] = set()
        self._full: asyncio.TimerHandle | None = None  # while no more are taken
        self._first_spare = 0
        for each in (incoming, *outgoing.values()):
            each.setblocking(False)

    def begin(self, take: Callable[[str, socket.socket], Awaitable[object]]) -> None:
        """From now on, on this loop, `take` gets what others hand on, (service, socket), and has counted it when it is
        done."""
        self._take = take
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = soft if soft >= 0 else 1 << 30
        self._first_spare = max(limit - SPARE_DESCRIPTORS, limit // 2)
        asyncio.get_running_loop().add_reader(self._incoming, self._read)
        self._now[self._start(self._number)] = 1

    def end(self) -> None:
        """No more are taken."""
        if self._full is not None:
            self._full.cancel()
        self._now[self._start(self._number)] = 0
        with suppress(OSError):  # closed before
            asyncio.get_running_loop().remove_reader(self._incoming)

    def close(self) -> None:
        for each in (self._incoming, *self._outgoing.values()):
            each.close()

    def add(self, service: str, change: int) -> None:
        """+1: a connection of our own came; -1: one left."""
        cell = self._start(self._number) + 1 + self._indexes[service]
        self._now[cell] = max(0, self._now[cell] + change)

    def hand_on(self, service: str, descriptor: int) -> bool:
        """Give a connection that we accepted to another worker if that has fewer of its service; its descriptor here
        can be closed then. We look at one of the others, by chance: that is nearly as good as the best."""
        index = self._indexes[service]
        other = self._others[0] if len(self._others) == 1 else random.choice(self._others)
        if not self._now[self._start(other)]:
            return False
        if self._load(other, index) >= self._load(self._number, index):
            return False
        try:
            socket.send_fds(self._outgoing[other], [bytes([index])], [descriptor])
        except OSError:  # it has no room for more now, or is gone
            return False
        self._passed[(self._number - 1) * self._row + other * MOST_SERVICES + index] += 1
        return True

    def _start(self, number: int) -> int:
        return (number - 1) * (1 + MOST_SERVICES)

    def _load(self, number: int, index: int) -> int:
        passed, row = self._passed, self._row
        given = sum(passed[number * MOST_SERVICES + index :: row])
        taken = passed[(number - 1) * row + index]
        return self._now[self._start(number) + 1 + index] + max(0, given - taken)

    def _read(self) -> None:
        for _ in range(TAKEN_A_TURN):
            try:
                octets, descriptors, _flags, _sender = socket.recv_fds(self._incoming, 1, 1)
            except BlockingIOError:
                return
            if not octets:  # nobody writes any more: the supervisor was killed
                return
            index = octets[0]
            if not descriptors:  # our limit of open files: the kernel closed the connection
                self._took(index, None)
                self._refrain()
            for descriptor in descriptors:
                if descriptor >= self._first_spare:  # the lowest that is free
                    self._refrain()
                taking = self._take(self._services[index], socket.socket(fileno=descriptor))
                task = asyncio.ensure_future(taking)
                self._arriving.add(task)
                task.add_done_callback(self._arriving.discard)
                task.add_done_callback(partial(self._took, index))

    def _refrain(self) -> None:
        """Take no more from others for a while."""
        if self._full is None:
            log.warning("near the limit of open files: other workers get new connections")
            self._now[self._start(self._number)] = 0
            self._full = asyncio.get_running_loop().call_later(FULL_S, self._look_for_room)

    def _look_for_room(self) -> None:
        try:
            lowest = os.dup(self._incoming.fileno())
        except OSError:
            lowest = self._first_spare
        else:
            os.close(lowest)
        if lowest >= self._first_spare:
            self._full = asyncio.get_running_loop().call_later(FULL_S, self._look_for_room)
            return
        self._full = None
        self._now[self._start(self._number)] = 1

    def _took(self, index: int, _task: "asyncio.Future[object] | None") -> None:
        self._passed[(self._number - 1) * self._row + index] += 1
