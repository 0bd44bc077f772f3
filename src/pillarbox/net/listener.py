"""Listening sockets: bound by address, closed with a drain."""

import asyncio
import itertools
import socket
from collections.abc import Callable

from pillarbox.core.endpoint import parse_endpoint
from pillarbox.net.admission import Admission
from pillarbox.net.connection import Connection, Service
from pillarbox.net.turns import Turns

BACKLOG = 1024


def bind(address: str, *, shared: bool = False) -> socket.socket:
    """A bound socket, not yet listening; `shared`: others of this user may have the same address, and the kernel
    spreads the connections over those that listen. Raises OSError, ValueError."""
    host, port = parse_endpoint(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # An IPv4 address of its own in the configuration must stay free ("0.0.0.0:25" beside "[::]:25").
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


class Listeners:
    """All listening sockets of a process."""

    def __init__(self, admission: Admission, prefix: str = "") -> None:
        """`prefix` begins the ids of connections."""
        self._admission = admission
        self._prefix = prefix
        self._turns: Turns | None = None
        self._servers: list[asyncio.Server] = []
        self._numbers = itertools.count(1)

    async def listen(self, sock: socket.socket, service: Service) -> None:
        """Accept connections for a service."""
        loop = asyncio.get_running_loop()
        if self._turns is None:
            self._turns = Turns(loop)
        server = await loop.create_server(
            self._factory(service, self._turns), sock=sock, backlog=BACKLOG, start_serving=True
        )
        self._servers.append(server)

    def _factory(self, service: Service, turns: Turns) -> Callable[[], Connection]:
        admission = self._admission
        prefix = self._prefix

        def accept() -> Connection:
            return Connection(service, f"{prefix}{next(self._numbers):x}", admission, turns)

        return accept

    async def close(self, drain_s: float) -> None:
        """Accept no more, part from every peer after its present command, cut off what is left after `drain_s`."""
        for server in self._servers:
            server.close()
        for connection in list(self._admission.connections):
            connection.stop()
        deadline = asyncio.get_running_loop().time() + drain_s
        while self._admission.connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self._admission.connections):
            connection.abort()
        await asyncio.sleep(0)
