"""`pillarbox serve` with several workers: holds the lock, the sockets and the shared memory, and keeps N workers alive.

Workers are new programs (never a fork of one that has SQLite open) with an inherited set of descriptors. Each has a
listening socket of its own for every address (SO_REUSEPORT), which stays open while a worker is started again, so a
client that connects then waits and is served. The first recovers, tidies and serves before the others begin: clients
are served soonest so, and nobody else has a file open. The supervisor imports little, for it does nothing while they
work.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from pillarbox import __version__
from pillarbox.app.figures import LONGEST_SILENCE_S, Status
from pillarbox.app.footing import Footing
from pillarbox.app.handover import CANNOT_START, STORE_FAILED, Orders, Ready, encode
from pillarbox.app.life import FATAL, STOPPED, announce, summary, warn
from pillarbox.app.shared import Shared, make_memory, open_memory
from pillarbox.app.sockets import Sockets, close_all
from pillarbox.app.status import StatusSocket
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.store.place import Place

if TYPE_CHECKING:
    from pillarbox.app.monitoring import Monitoring

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Before a worker that crashed is started again; doubled with every crash that comes within STEADY_S. Clients of its
sockets wait so long."""
STEADY_S = 10.0

MOST_CRASHES_AT_START = 3
"""Of the first worker, before the server has begun."""

STOP_S = 60.0
"""A worker that has not stopped after this is killed."""

log = logging.getLogger("pillarbox.app")


@dataclass(slots=True)
class _Worker:
    number: int
    sockets: Sockets
    hints_in: socket.socket
    hints_out: socket.socket
    newcomers_in: socket.socket
    newcomers_out: socket.socket
    """Where the others write; connections that they hand on, likewise."""
    process: subprocess.Popen[bytes] | None = None
    talk: socket.socket | None = None
    descriptor: int = -1
    """Of the process, readable when it ended."""
    started: float = 0.0
    crashes: int = 0
    is_ready: bool = False
    why_not: str = ""
    """What it said when it could not start."""


@dataclass(slots=True)
class Supervisor:
    """One run."""

    config: Config
    workers: int
    footing: Footing
    _memory: int = -1
    _workers: list[_Worker] = field(default_factory=list)
    _unusable: list[int] = field(default_factory=list)
    _left: list[str] = field(default_factory=list)
    _has_begun: bool = False
    """The first worker has recovered and tidied; it never happens again in this run."""
    _was_announced: bool = False
    _stopping: bool = False
    _code: int = STOPPED
    _why_not: str = ""
    _shared: Shared = field(init=False)
    _status: Status = field(init=False)
    _monitoring: "Monitoring | None" = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> int:
        """Until SIGTERM or SIGINT; the exit code. Raises Refused when the server cannot start."""
        self._memory = make_memory(self.workers)
        self._shared = Shared(open_memory(self._memory), Place(1, self.workers))
        self._status = Status(self._shared, __version__)
        for number, sockets in enumerate(self.footing.sockets, 1):
            hints = socket.socketpair()
            newcomers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._workers.append(_Worker(number, sockets, *hints, *newcomers))
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._refresh)
        warn(self.config, self.footing.sockets[0])
        self.footing.manager.starting()
        control = StatusSocket(self.config.data_path, self._status, lambda: None)
        await control.start()
        try:
            self._spawn(self._workers[0])
            await self._start_monitoring()
            await self._ended.wait()
        finally:
            control.close()
            if self._monitoring is not None:
                await self._monitoring.close()
            self._close()
        if self._why_not:
            raise Refused(self._why_not)
        if self._code == STOPPED:
            log.info("stopped")
        return self._code

    async def _start_monitoring(self) -> None:
        if not self.footing.metrics:
            return
        from pillarbox.app.monitoring import Monitoring  # what it imports takes memory

        self._monitoring = Monitoring(self.config.data_path, self._status, lambda: None)
        await self._monitoring.start(self.footing.metrics)

    # Workers

    def _spawn(self, worker: _Worker) -> None:
        keeper = self.footing.keeper
        ours, theirs = socket.socketpair()
        others = [other for other in self._workers if other is not worker]
        inherited = [
            theirs.fileno(),
            self.footing.lock,
            self._memory,
            worker.hints_in.fileno(),
            worker.newcomers_in.fileno(),
            *(sock.fileno() for other in others for sock in (other.hints_out, other.newcomers_out)),
            *(sock.fileno() for bound in worker.sockets.values() for sock in bound),
            *([keeper.fileno()] if keeper else []),
            *self._challenge(worker),
        ]
        with theirs:
            worker.process = subprocess.Popen(
                # -P: nothing is imported from the folder where we were started.
                [sys.executable, "-P", "-m", "pillarbox.app.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
                process_group=0,  # Ctrl-C is for the supervisor, who tells its workers
            )
        worker.talk = ours
        worker.is_ready = False
        worker.why_not = ""
        worker.started = time.monotonic()
        worker.descriptor = os.pidfd_open(worker.process.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(worker.descriptor, self._ended_one, worker)
        loop.add_reader(ours, self._heard, worker)
        with suppress(OSError):  # it has ended, which is dealt with
            ours.sendall(encode(self._orders(worker)))
        ours.setblocking(False)

    def _orders(self, worker: _Worker) -> Orders:
        others = [other for other in self._workers if other is not worker]
        return Orders(
            self.config,
            worker.number,
            self.workers,
            not self._has_begun,
            self._unusable,
            self._left,
            self.footing.lock,
            self._memory,
            {name: [sock.fileno() for sock in bound] for name, bound in worker.sockets.items()},
            worker.hints_in.fileno(),
            {other.number: other.hints_out.fileno() for other in others},
            worker.newcomers_in.fileno(),
            {other.number: other.newcomers_out.fileno() for other in others},
            self.footing.keeper.fileno() if self.footing.keeper else -1,
            self._challenge(worker),
        )

    def _challenge(self, worker: _Worker) -> list[int]:
        """The first one answers the CA."""
        return [sock.fileno() for sock in self.footing.challenge] if worker.number == 1 else []

    def _heard(self, worker: _Worker) -> None:
        """The worker serves, or has ended."""
        assert worker.talk is not None
        try:
            line = worker.talk.recv(1 << 20)
        except OSError:
            line = b""
        if not line:
            asyncio.get_running_loop().remove_reader(worker.talk)
            return
        message = msgspec.json.decode(line, type=Ready)
        worker.why_not = message.why_not
        if message.why_not:
            return
        worker.is_ready = True
        if self._stopping:
            return  # it was told so, and the others are not needed any more
        if not self._has_begun:
            self._has_begun = True
            self._unusable, self._left = message.unusable, message.left
            for other in self._workers[1:]:
                self._spawn(other)
        if not self._was_announced and all(each.is_ready for each in self._workers):
            self._was_announced = True
            announce(self._workers[0].sockets)
            self._tell_ready()
            self.footing.manager.watch(self._all_live)

    def _tell_ready(self) -> None:
        self.footing.manager.ready(
            f"{summary(self._workers[0].sockets)} with {self.workers} workers"
        )

    def _all_live(self) -> bool:
        """Whether the event loops of all workers go round; one that ended is dealt with."""
        now_ms = time.monotonic_ns() // 1_000_000
        figures = self._shared.figures()
        return all(
            now_ms - figures[worker.number - 1]["beat"] < LONGEST_SILENCE_S * 1000
            for worker in self._workers
            if worker.is_ready and worker.process is not None
        )

    def _ended_one(self, worker: _Worker) -> None:
        process, talk = worker.process, worker.talk
        assert process is not None
        assert talk is not None
        code = process.wait()
        self._heard(worker)  # its last words
        loop = asyncio.get_running_loop()
        loop.remove_reader(worker.descriptor)
        os.close(worker.descriptor)
        loop.remove_reader(talk)
        talk.close()
        worker.process = worker.talk = None
        self._shared.forget(worker.number)
        if self._stopping:
            self._status.ended.add(worker.number)
            if not any(each.process for each in self._workers):
                self._ended.set()
            return
        self._again_or_stop(worker, code)

    def _again_or_stop(self, worker: _Worker, code: int) -> None:
        if time.monotonic() > worker.started + STEADY_S:
            worker.crashes = 0
        worker.crashes += 1
        cannot_begin = not self._has_begun and (
            code == CANNOT_START or worker.crashes >= MOST_CRASHES_AT_START
        )
        if code == STORE_FAILED or cannot_begin:
            self._code = FATAL
            self._why_not = worker.why_not
            if code == STORE_FAILED:
                log.critical("worker %d: the store failed", worker.number)
            self._stop()
            return
        how = worker.why_not or (f"signal {-code}" if code < 0 else f"code {code}")
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (worker.crashes - 1))
        log.error("worker %d ended (%s); again in %.1f s", worker.number, how, pause_s)
        self._status.restarts[worker.number] = self._status.restarts.get(worker.number, 0) + 1
        asyncio.get_running_loop().call_later(pause_s, self._again, worker)

    def _again(self, worker: _Worker) -> None:
        if self._stopping:
            return
        self._spawn(worker)

    def _refresh(self) -> None:
        """Let all look at the certificates."""
        self.footing.manager.reloading()
        for worker in self._workers:
            if worker.process is not None and worker.is_ready:
                worker.process.send_signal(signal.SIGHUP)
        if self._was_announced:
            self._tell_ready()

    # The end

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = self._status.stopping = True
            self._status.ended.update(each.number for each in self._workers if not each.process)
            self.footing.manager.stopping()
            if self._monitoring is not None:
                self._monitoring.readiness.stopping = True
            if self._code == STOPPED:
                log.info("stopping")
            for worker in self._workers:
                close_all(worker.sockets)  # else clients would wait where nobody accepts
            asyncio.get_running_loop().call_later(STOP_S, self._forward, signal.SIGKILL)
        self._forward(signal.SIGTERM)
        if not any(each.process for each in self._workers):
            self._ended.set()

    def _forward(self, number: int) -> None:
        for worker in self._workers:
            if worker.process is not None:
                worker.process.send_signal(number)

    def _close(self) -> None:
        for worker in self._workers:
            if worker.process is not None:  # we end by a bug
                worker.process.kill()
                worker.process.wait()
            close_all(worker.sockets)
            for sock in (
                worker.hints_in,
                worker.hints_out,
                worker.newcomers_in,
                worker.newcomers_out,
            ):
                sock.close()
        for descriptor in (self._memory, self.footing.lock):
            os.close(descriptor)
        self.footing.manager.close()
        if self.footing.keeper is not None:
            self.footing.keeper.close()


def supervise(config: Config, workers: int, footing: Footing) -> int:
    """Serve with so many workers until SIGTERM or SIGINT; returns the exit code. Raises Refused."""
    with asyncio.Runner() as runner:
        return runner.run(Supervisor(config, workers, footing).run())
