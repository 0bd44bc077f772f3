"""Running a server in the foreground: event loop, signals, log, exit code."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from pillarbox import __version__
from pillarbox.app import life
from pillarbox.app.figures import Status
from pillarbox.app.life import FATAL, STOPPED
from pillarbox.app.monitoring import Monitoring
from pillarbox.app.server import Server
from pillarbox.app.status import StatusSocket
from pillarbox.app.watching import Watching
from pillarbox.app.workplace import Workplace
from pillarbox.config.schema import Config
from pillarbox.store.store import Store

SWITCH_S = 0.0001
"""How long a thread may keep the interpreter from the event loop, which may want it back after every SQL statement.
With 0.5 ms, deliveries beside one hostile message stalled the loop for 0.85 s; less than 0.1 ms costs CPU at all
times."""

COLLECT_AFTER = (4_000, 10, 100)
"""Hardly anything here is a cycle; with the defaults of CPython, looking for them takes 3 % of the time. But what came
since the last look is seen in one go: with 10,000 objects and 20 of such looks before a second one, ten sessions that
were told of a rename of thousands of mailboxes stopped everybody for 60 to 90 ms."""

log = logging.getLogger("pillarbox.app")


def run(
    config: Config,
    announce: Callable[[Server], None],
    prepare: Callable[[Store], Awaitable[None]] | None = None,
    *,
    sends: bool = True,
    workplace: Workplace | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. `prepare` gets the store before anything listens,
    `announce` is called once all ports answer. With a `workplace` this process may be one of several workers.

    Raises Refused and Unavailable when the server cannot start.
    """
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(config, announce, prepare, workplace, sends=sends))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where the platform has it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(
    config: Config,
    announce: Callable[[Server], None],
    prepare: Callable[[Store], Awaitable[None]] | None,
    workplace: Workplace | None,
    *,
    sends: bool,
) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        stopping.set()

    workplace = workplace or Workplace()
    is_alone = workplace.place.workers == 1
    server = Server(config, on_fatal=fail, prepare=prepare, sends=sends, workplace=workplace)

    def stop() -> None:
        if stopping.is_set():
            server.cut_off()  # asked twice
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)

    def refresh() -> None:
        workplace.manager.reloading()
        server.refresh()
        workplace.manager.ready(life.summary(server.sockets))

    loop.add_signal_handler(signal.SIGHUP, refresh)
    workplace.manager.starting()
    if is_alone:
        life.warn(config, workplace.sockets)
    await server.start()
    figures = Status(workplace.shared, __version__)
    status = StatusSocket(config.data_path, figures, server.publish)
    monitoring = Monitoring(config.data_path, figures, server.publish)
    watching = Watching(config.data_path, workplace.place.number)
    try:
        assert server.store is not None
        await watching.start(server.services, server.connections, server.store.directory)
        if is_alone:
            await status.start()
            await monitoring.start(workplace.metrics)
        announce(server)
        workplace.manager.ready(life.summary(server.sockets))
        workplace.manager.watch(lambda: True)
        await stopping.wait()
        if is_alone:
            log.info("stopping")
        workplace.manager.stopping()
        monitoring.readiness.stopping = True
    finally:
        status.close()
        watching.close()
        await server.stop()
        await monitoring.close()
        workplace.manager.close()
    if failures:
        log.critical("stopped: the store failed: %s", failures[0])
        return FATAL
    if is_alone:
        log.info("stopped")
    return STOPPED


def announce_in_log(server: Server) -> None:
    """What `serve` says once it runs."""
    life.announce(server.sockets)
