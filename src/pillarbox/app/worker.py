"""One of several workers: `python -m pillarbox.app.worker DESCRIPTOR`, started by the supervisor only."""

import asyncio
import logging
import os
import socket
import sys

import msgspec

from pillarbox.app.handover import CANNOT_START, STORE_FAILED, Orders, Ready, encode
from pillarbox.app.life import FATAL
from pillarbox.app.log import log_to_stderr
from pillarbox.app.run import run
from pillarbox.app.server import Server
from pillarbox.core.errors import Failure

log = logging.getLogger("pillarbox.app")


def main(descriptor: int) -> int:
    """Wait for orders, serve until SIGTERM or until the supervisor ends; the exit code."""
    supervisor = socket.socket(fileno=descriptor)
    with supervisor.makefile("rb") as file:
        line = file.readline()
    if not line:
        return CANNOT_START  # nobody wants us any more
    orders = msgspec.json.decode(line, type=Orders)
    log_to_stderr(orders.config.log_format)

    def announce(server: Server) -> None:
        assert server.store is not None
        asyncio.get_running_loop().add_reader(supervisor, _end_at_once)
        store = server.store
        supervisor.sendall(
            encode(Ready(sorted(store.unusable), [path.name for path in store.left]))
        )

    try:
        code = run(orders.config, announce, workplace=orders.workplace())
    except Failure as failure:
        supervisor.sendall(encode(Ready([], why_not=failure.text)))
        return CANNOT_START
    return STORE_FAILED if code == FATAL else code


def _end_at_once() -> None:
    """The supervisor was killed: what is acknowledged is safe, and a new one shall be able to start."""
    log.critical("the supervisor is gone")
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
