"""A whole mail server in one process: `Server` wires the configuration to the store, the services and the sockets."""

import datetime
import errno
import fcntl
import logging
import os
import resource
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from pillarbox.app.maintenance import Maintenance
from pillarbox.app.outbound import Outbound
from pillarbox.app.services import make_services, make_smtp_context
from pillarbox.auth.login import Authenticator
from pillarbox.certs.present import Certificates
from pillarbox.config.schema import Config
from pillarbox.core.address import canonical_domain
from pillarbox.core.errors import Refused
from pillarbox.core.networks import parse_networks
from pillarbox.delivery.pending import PendingWorker
from pillarbox.net.admission import Admission
from pillarbox.net.listener import Listeners, bind
from pillarbox.smtpd.pickup import Pickup
from pillarbox.store import drop
from pillarbox.store.run import LoginFailures
from pillarbox.store.spool import SpoolRoom
from pillarbox.store.store import Store

MOST_CONNECTIONS = 10_000
"""Fewer where the system allows fewer open files."""

MOST_DESCRIPTORS = 1 << 16
"""That the kernel's table is made for at the start."""

DRAIN_S = 30.0
"""How long a stop waits for the commands in hand."""

log = logging.getLogger("pillarbox.app")


class Server:
    """Made, started and stopped on one event loop."""

    def __init__(
        self,
        config: Config,
        *,
        failure_delay_s: float = 1.0,
        on_fatal: Callable[[BaseException], None] = lambda _error: None,
        prepare: Callable[[Store], Awaitable[None]] | None = None,
        sends: bool = True,
    ) -> None:
        """`failure_delay_s` is the delay after a wrong password; tests want none. `on_fatal` hears that the store
        cannot make mail durable any more: stop then. `prepare` gets the store before anything listens. Not `sends`:
        mail to other hosts stays in the queue."""
        self._config = config
        self._failure_delay_s = failure_delay_s
        self._on_fatal = on_fatal
        self._prepare = prepare
        self._sends = sends
        self._exit = AsyncExitStack()
        self._drain_s = DRAIN_S
        self._admission: Admission | None = None
        self._maintenance: Maintenance | None = None
        self.addresses: dict[str, list[tuple[str, int]]] = {}
        """By service, what is listened on: host and port."""
        self.store: Store | None = None

    async def start(self) -> None:
        """Open everything, recover from an unclean stop, then listen. Raises Refused and Unavailable."""
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise

    async def _start(self) -> None:
        config = self._config
        sockets = self._bind_all()
        certificates = Certificates(config, lambda: datetime.datetime.now(datetime.UTC))
        store = self.store = Store(config.data_path, on_fatal=self._on_fatal)
        self._exit.push_async_callback(store.close)
        widen_descriptor_table()  # the store has raised its limit
        if store.recovered_messages:
            log.info("%d messages were recovered from the journal", store.recovered_messages)
        if self._prepare is not None:
            await self._prepare(store)
        failures = LoginFailures(config.data_path / "run.db", clock=time.time)
        self._exit.callback(failures.close)
        authenticator = Authenticator(
            store.directory, failures, failure_delay_s=self._failure_delay_s
        )
        self._exit.callback(authenticator.close)
        outbound = Outbound(config, store, sends=self._sends, on_fatal=self._on_fatal)
        self._exit.push_async_callback(outbound.stop)
        await outbound.start()
        pending = PendingWorker(store, outbound.notices.tell_later_success)
        pending.start()
        self._exit.push_async_callback(pending.stop)
        admission = self._admission = Admission(
            most_connections(),
            config.security.connections_per_address,
            parse_networks(config.security.proxy_protocol_from),
        )
        maintenance = self._maintenance = Maintenance(
            store, admission, certificates, canonical_domain(config.hostname)
        )
        maintenance.start()
        self._exit.push_async_callback(maintenance.stop)
        listeners = Listeners(admission)
        self._exit.push_async_callback(lambda: listeners.close(self._drain_s))
        spool_folder = config.data_path / "spool"
        spool_folder.mkdir(mode=0o700, exist_ok=True)
        smtp = make_smtp_context(config, store, authenticator, SpoolRoom(spool_folder), outbound)
        drop.make_folder(config.drop_path, shared=bool(config.sendmail.drop_dir))
        pickup = Pickup(smtp, config.drop_path, frozenset(config.sendmail.trusted_users))
        pickup.start()
        self._exit.push_async_callback(pickup.stop)
        services = make_services(config, smtp, certificates.context)
        for name, bound in sockets.items():
            for sock in bound:
                await listeners.listen(sock, services[name])

    def _bind_all(self) -> dict[str, list[socket.socket]]:
        """All sockets of the configuration, before anything else: another program may have a port."""
        sockets: dict[str, list[socket.socket]] = {}
        for name in self._config.listen.__struct_fields__:
            for address in getattr(self._config.listen, name):
                try:
                    sock = bind(address)
                except OSError as error:
                    raise Refused(_why_not_bound(name, address, error)) from error
                self._exit.callback(sock.close)
                sockets.setdefault(name, []).append(sock)
                self.addresses.setdefault(name, []).append(sock.getsockname()[:2])
        return sockets

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Finish the commands in hand, part from all peers, close everything. Harmless when done before."""
        self._drain_s = drain_s
        await self._exit.aclose()

    def refresh(self) -> None:
        """Take up a renewed certificate now. Other changes of the configuration need a restart."""
        log.info("looking at the certificate; other settings count after a restart")
        if self._maintenance is not None:
            self._maintenance.refresh()

    def cut_off(self) -> None:
        """Drop all connections at once: ends the wait of a `stop` under way."""
        if self._admission is not None:
            for connection in list(self._admission.connections):
                connection.abort()


def most_connections() -> int:
    """How many sockets the limit on open files leaves room for."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft < 0 else max(16, min(MOST_CONNECTIONS, soft // 2))


def widen_descriptor_table() -> None:
    """Make the kernel's table of our open files large at once: while a process has threads, each growth of it waits for
    all CPUs, up to a tenth of a second and within whatever opens the file."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if soft < 0 else min(soft, MOST_DESCRIPTORS)
    descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, wanted - 1))
    finally:
        os.close(descriptor)


def _why_not_bound(service: str, address: str, error: OSError) -> str:
    reason = {
        errno.EADDRINUSE: "another program has this port",
        errno.EACCES: "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    return f"cannot listen on {address} ({service}): {reason}"
