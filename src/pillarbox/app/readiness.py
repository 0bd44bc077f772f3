"""Whether mail can be taken, kept and sent now: what `/readyz` says, and why not."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pillarbox.app.canary import Canary, read_canary
from pillarbox.app.figures import Status, WorkerState
from pillarbox.core.errors import Unavailable
from pillarbox.store.new_file import open_new
from pillarbox.store.queue_figures import QueueFigures, QueueReader

LEAST_FREE_OCTETS = 64 << 20
"""Less is no room: a journal alone may need as much."""

PROBE_OCTETS = 64 * 1024
"""What is written to see whether the disk takes it."""

LOOK_S = 5.0
"""For the disk to answer."""

OLD_S = 2.0
"""A look is not older than this."""

STUCK_S = 600.0
"""Mail that has been due for so long, while nothing was sent, does not move."""


@dataclass(slots=True, frozen=True)
class DiskFigures:
    """Of the file system of the data folder."""

    free_octets: int
    """For us, not for root."""
    all_octets: int


@dataclass(slots=True, frozen=True)
class Findings:
    """Of one look."""

    at: float
    queue: QueueFigures | None
    disk: DiskFigures | None
    problems: tuple[str, ...] = ()
    canary: Canary = field(default_factory=Canary)


class Readiness:
    """Looks at most once in OLD_S, whoever asks and however often. On one event loop; the disk has a thread."""

    def __init__(
        self, folder: Path, status: Status, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._status = status
        self._clock = clock
        self._queue = QueueReader(folder / "queue.db")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="look")
        self._last = Findings(float("-inf"), None, None)
        self._looking: asyncio.Future[Findings] | None = None
        self._since = 0.0
        self.stopping = False
        """The server ends: whoever sends us clients shall stop that."""

    async def look(self) -> Findings:
        """What is known of queue and disk; the problems are those of the disk and the queue only."""
        if self._clock() - self._last.at < OLD_S:
            return self._last
        if self._looking is None:
            self._since = self._clock()
            loop = asyncio.get_running_loop()
            self._looking = loop.run_in_executor(self._thread, self._look)
            self._looking.add_done_callback(self._seen)
        try:
            async with asyncio.timeout(LOOK_S):
                return await asyncio.shield(self._looking)
        except TimeoutError:
            waited = int(self._clock() - self._since)
            return Findings(
                self._clock(), None, None, (f"store: the disk has not answered for {waited} s",)
            )

    def _seen(self, done: "asyncio.Future[Findings]") -> None:
        self._looking = None
        if not done.cancelled() and done.exception() is None:
            self._last = done.result()

    def _look(self) -> Findings:
        """In the thread."""
        problems = []
        queue = disk = None
        try:
            disk = disk_of(self._folder)
            if disk.free_octets < LEAST_FREE_OCTETS:
                problems.append(
                    f"disk: {disk.free_octets >> 20} MiB are free in {self._folder};"
                    f" {LEAST_FREE_OCTETS >> 20} are the least"
                )
            probe(self._folder)
        except OSError as error:
            problems.append(f"store: {self._folder} cannot be written: {error.strerror}")
        try:
            queue = self._queue.read()
            problems += self._stuck(queue)
        except Unavailable as error:
            problems.append(f"queue: {error.text}")
        return Findings(self._clock(), queue, disk, tuple(problems), read_canary(self._folder))

    def _stuck(self, queue: QueueFigures) -> list[str]:
        still_s = self._clock() - self._status.moved_at
        problems = []
        if min(queue.overdue_s, still_s) > STUCK_S:
            problems.append(
                f"queue: mail to other hosts has been due for {queue.overdue_s} s, and nothing was sent"
            )
        if queue.local_overdue_s > STUCK_S:
            problems.append(
                f"queue: deliveries to accounts here have been due for {queue.local_overdue_s} s"
            )
        return problems

    def problems_of_workers(self, workers: list[WorkerState]) -> list[str]:
        """Of what workers say of themselves; none: they listen, and their event loops go round."""
        if self.stopping:
            return ["workers: the server is stopping"]
        problems = []
        for worker in workers:
            if not worker.pid:
                problems.append(
                    f"workers: worker {worker.number} does not serve yet, or was restarted"
                )
            elif not worker.serves:
                problems.append(
                    f"workers: worker {worker.number} has been silent for {int(worker.silence_s)} s"
                )
        return problems

    async def problems(self) -> list[str]:
        """All that is wrong, in a line each; none: the server is ready."""
        return [*self.problems_of_workers(self._status.workers()), *(await self.look()).problems]

    def close(self) -> None:
        self._thread.shutdown(wait=False)
        if self._looking is None:
            self._queue.close()


def disk_of(folder: Path) -> DiskFigures:
    """Blocks. Raises OSError."""
    found = os.statvfs(folder)
    return DiskFigures(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def probe(folder: Path) -> None:
    """Write a file, make it durable and remove it. Blocks. Raises OSError where the disk takes nothing."""
    path = folder / "probe"
    descriptor = open_new(path)
    try:
        left = PROBE_OCTETS
        while left > 0:
            left -= os.write(descriptor, bytes(left))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
