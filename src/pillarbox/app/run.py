"""Running a server in the foreground: event loop, signals, log, exit code."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from pillarbox.app.server import Server
from pillarbox.config.schema import Config
from pillarbox.store.store import Store

STOPPED, FATAL = 0, 1
"""Exit codes."""

SWITCH_S = 0.0001
"""How long a thread may keep the interpreter from the event loop, which may want it back after every SQL statement.
With 0.5 ms, deliveries beside one hostile message stalled the loop for 0.85 s; less than 0.1 ms costs CPU at all
times."""

COLLECT_AFTER = (10_000, 20, 20)
"""Hardly anything here is a cycle; with the defaults of CPython, looking for them takes 3 % of the time."""

log = logging.getLogger("pillarbox.app")


def run(
    config: Config,
    announce: Callable[[Server], None],
    prepare: Callable[[Store], Awaitable[None]] | None = None,
    *,
    sends: bool = True,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. `prepare` gets the store before anything listens,
    `announce` is called once all ports answer.

    Raises Refused and Unavailable when the server cannot start.
    """
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(config, announce, prepare, sends=sends))


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
    *,
    sends: bool,
) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        stopping.set()

    server = Server(config, on_fatal=fail, prepare=prepare, sends=sends)

    def stop() -> None:
        if stopping.is_set():
            server.cut_off()  # asked twice
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, server.refresh)
    _warn(config)
    await server.start()
    try:
        announce(server)
        await stopping.wait()
        log.info("stopping")
    finally:
        await server.stop()
    if failures:
        log.critical("stopped: the store failed: %s", failures[0])
        return FATAL
    log.info("stopped")
    return STOPPED


def announce_in_log(server: Server) -> None:
    """What `serve` says once it runs."""
    for service, addresses in server.addresses.items():
        for host, port in addresses:
            shown = f"[{host}]" if ":" in host else host
            log.info("%s listens on %s:%d", service, shown, port)
    log.info("ready")


def _warn(config: Config) -> None:
    if config.security.allow_cleartext_login:
        log.warning(
            "allow_cleartext_login is on: passwords may pass unencrypted; only for a laboratory"
        )
    if config.workers > 1:
        log.warning("workers = %d: this version runs one process", config.workers)
    if not any(getattr(config.listen, name) for name in config.listen.__struct_fields__):
        log.warning("nothing to do: [listen] names no address")
