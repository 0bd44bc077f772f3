"""Listening sockets: bound by address, closed with a drain."""

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from pillarbox.core.endpoint import format_endpoint, parse_endpoint
from pillarbox.core.errors import Refused
from pillarbox.net.admission import Admission
from pillarbox.net.balance import Balance
from pillarbox.net.connection import Connection
from pillarbox.net.service import Service
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


def start_listening(sock: socket.socket, service: str, backlog: int = BACKLOG) -> None:
    """Make a bound socket accept connections, before uvloop has it, which would only close one that cannot. Raises
    Refused: two programs may bind a port as long as neither listens."""
    try:
        sock.listen(backlog)
    except OSError as error:
        address = format_endpoint(*sock.getsockname()[:2])
        raise Refused(why_not_heard(service, address, error)) from error


def why_not_heard(service: str, address: str, error: OSError) -> str:
    """What to tell whoever starts the server, of an error of `bind` or `listen`."""
    reason = {
        errno.EADDRINUSE: "another program has this port (ss -ltnp tells which)",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE, else choose higher ones in [listen]",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    return f"cannot listen on {address} ({service}): {reason}"


class Listeners:
    """All listening sockets of a process."""

    def __init__(self, admission: Admission, prefix: str = "") -> None:
        """`prefix` begins the ids of connections."""
        self._admission = admission
        self._prefix = prefix
        self._turns: Turns | None = None
        self._servers: list[asyncio.Server] = []
        self._factories: dict[str, Callable[[], Connection]] = {}
        self._numbers = itertools.count(1)

    async def listen(self, sock: socket.socket, service: Service) -> None:
        """Accept connections for a service. Raises Refused."""
        start_listening(sock, service.name)
        loop = asyncio.get_running_loop()
        if self._turns is None:
            self._turns = Turns(loop)
        make = self._factories[service.name] = self._factory(service, self._turns)
        balance = self._admission.balance

        def accept() -> asyncio.Protocol:
            return make() if balance is None else _Arrival(service.name, make, balance)

        server = await loop.create_server(accept, sock=sock, backlog=BACKLOG, start_serving=True)
        self._servers.append(server)

    def share(self) -> None:
        """All services are listened to: take connections that other workers hand on, too."""
        if self._admission.balance is not None:
            self._admission.balance.begin(self._take)

    async def _take(self, service: str, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # it is gone again
            await loop.connect_accepted_socket(self._factories[service], sock)

    def _factory(self, service: Service, turns: Turns) -> Callable[[], Connection]:
        admission = self._admission
        prefix = self._prefix

        def make() -> Connection:
            return Connection(service, f"{prefix}{next(self._numbers):x}", admission, turns)

        return make

    async def close(self, drain_s: float) -> None:
        """Accept no more, part from every peer after its present command, cut off what is left after `drain_s`."""
        for server in self._servers:
            server.close()
        if self._admission.balance is not None:
            self._admission.balance.end()
        for connection in list(self._admission.connections):
            connection.stop()
        deadline = asyncio.get_running_loop().time() + drain_s
        while self._admission.connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self._admission.connections):
            connection.abort()
        await asyncio.sleep(0)


class _Arrival(asyncio.Protocol):
    """A connection of which it is not yet known which worker serves it."""

    __slots__ = ("_balance", "_make", "_service")

    def __init__(self, service: str, make: Callable[[], Connection], balance: Balance) -> None:
        self._service = service
        self._make = make
        self._balance = balance

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the class.
        transport = cast(asyncio.Transport, transport)
        descriptor = transport.get_extra_info("socket").fileno()
        if self._balance.hand_on(self._service, descriptor):
            transport.abort()  # closes our descriptor alone
            return
        connection = self._make()
        transport.set_protocol(connection)
        connection.connection_made(transport)
