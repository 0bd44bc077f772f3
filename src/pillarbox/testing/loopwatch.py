"""Measures what the event loop of a running server does: how long others had to wait for their turn, and why.

`python -m pillarbox.testing.loopwatch CONFIG RECORD` is `pillarbox serve --config CONFIG` with a watch on its loop.
RECORD is a small file that both sides map: the server keeps the worst there since the last `Record.reset`, and whoever
tests it reads that while it runs. For tests and benchmarks; a server without it does nothing of this.

A beat every 2 ms notes how late it comes. The lateness has three parts: the loop thread's own work (its CPU time), its
wait for a CPU that other threads or programs had (the kernel's run-queue time, Linux), and the rest: it was blocked, by
the interpreter's lock in another thread or by a system call. What a busy machine does to us is in the second part only
when the loop's own thread was kept from the CPU; the thread that holds the lock may wait for one too.
"""

import asyncio
import faulthandler
import mmap
import os
import struct
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BEAT_S = 0.002
STALL_S = 0.050
"""What the server must never do to its sessions."""

_LAYOUT = struct.Struct("<QQddddd")
_STACKS_AFTER_S = 0.025


@dataclass(slots=True)
class Figures:
    """Since the last reset, in seconds. The maxima may be of different turns."""

    resets: int = 0
    stalls: int = 0
    """Beats that were STALL_S late or more, the wait for a CPU not counted."""
    late: float = 0.0
    """The longest time that a beat was late."""
    stall: float = 0.0
    """The same without the wait for a CPU: own work and blocked."""
    work: float = 0.0
    """The most CPU time that the loop thread used between two beats."""
    blocked: float = 0.0
    """The longest that the loop neither ran nor waited for a CPU, a pause that it wanted not counted."""
    queued: float = 0.0
    """The longest wait for a CPU."""


class Record:
    """The file in which the figures are."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _LAYOUT.size)
            self._map = mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)

    def read(self) -> Figures:
        return Figures(*_LAYOUT.unpack(self._map[:]))

    def write(self, figures: Figures) -> None:
        self._map[:] = _LAYOUT.pack(
            figures.resets,
            figures.stalls,
            figures.late,
            figures.stall,
            figures.work,
            figures.blocked,
            figures.queued,
        )

    def reset(self) -> None:
        """From the other side: begin anew."""
        self.write(Figures(resets=self.read().resets + 1))


class LoopWatch:
    """Beats on the running loop, for as long as that runs."""

    def __init__(self, record: Record, stacks: IO[str] | None = None) -> None:
        """`stacks` gets what all threads do whenever a beat is late; it costs too much for good figures."""
        self._record = record
        self._stacks = stacks
        self._loop = asyncio.get_running_loop()
        self._queue_times = os.open(
            f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY | os.O_CLOEXEC
        )
        self._figures = record.read()
        self._wall = self._cpu = self._queued = 0.0
        self._start()

    def _start(self) -> None:
        self._queued = self._read_queued()
        self._cpu = time.thread_time()
        self._wall = time.perf_counter()
        if self._stacks is not None:
            faulthandler.dump_traceback_later(_STACKS_AFTER_S, file=self._stacks)
        self._loop.call_later(BEAT_S, self._beat)

    def _read_queued(self) -> float:
        """How long this thread has waited for a CPU, in all."""
        return int(os.pread(self._queue_times, 100, 0).split()[1]) / 1e9

    def _beat(self) -> None:
        wall = time.perf_counter() - self._wall
        work = time.thread_time() - self._cpu
        queued = self._read_queued() - self._queued
        late = max(0.0, wall - BEAT_S)
        stall = max(0.0, late - queued)
        blocked = max(0.0, stall - work)
        figures = self._record.read()
        if figures.resets != self._figures.resets:
            self._figures = Figures(resets=figures.resets)
            self._record.write(self._figures)
        elif late > 0.001:
            self._note(late, stall, work, blocked, queued)
        self._start()

    def _note(self, late: float, stall: float, work: float, blocked: float, queued: float) -> None:
        figures = self._figures
        figures.late = max(figures.late, late)
        figures.stall = max(figures.stall, stall)
        figures.work = max(figures.work, work)
        figures.blocked = max(figures.blocked, blocked)
        figures.queued = max(figures.queued, queued)
        if stall >= STALL_S:
            figures.stalls += 1
        self._record.write(figures)


def main(config_file: str, record_file: str, stacks_file: str = "") -> int:
    """Serve under watch; `stacks_file` gets the stacks of all threads whenever a beat is late."""
    from pillarbox.app.log import log_to_stderr
    from pillarbox.app.run import announce_in_log, run
    from pillarbox.config.load import load_config
    from pillarbox.store.store import Store

    stacks = open(stacks_file, "a") if stacks_file else None  # noqa: SIM115 (open while we run)

    async def watch(_store: Store) -> None:
        LoopWatch(Record(Path(record_file)), stacks)

    log_to_stderr()
    return run(load_config(Path(config_file)), announce_in_log, watch)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
