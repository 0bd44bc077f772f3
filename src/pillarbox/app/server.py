"""A whole mail server in one process, or one of several workers: `Server` wires the configuration to the store, the
services and the sockets."""

import datetime
import fcntl
import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from pillarbox.app.doors import make_doors
from pillarbox.app.maintenance import Maintenance
from pillarbox.app.outbound import Outbound
from pillarbox.app.renewal import Renewal
from pillarbox.app.seams import Seams
from pillarbox.app.services import make_smtp_context
from pillarbox.app.shared import ADDRESS_SLOTS
from pillarbox.app.sockets import Sockets, addresses_of, bind_all, close_all
from pillarbox.app.workplace import Workplace
from pillarbox.auth.bans import Bans
from pillarbox.auth.login import Authenticator
from pillarbox.certs.present import Certificates
from pillarbox.config.schema import Config
from pillarbox.core.address import canonical_domain
from pillarbox.core.networks import parse_networks
from pillarbox.core.tally import Tally
from pillarbox.delivery.pending import PendingWorker
from pillarbox.net.admission import Admission, Admitted, Elsewhere
from pillarbox.net.listener import Listeners
from pillarbox.net.service import Service
from pillarbox.smtpd.context import SmtpContext
from pillarbox.smtpd.pickup import Pickup
from pillarbox.store import database, drop, run
from pillarbox.store.logins import Logins
from pillarbox.store.place import Place
from pillarbox.store.run import LoginFailures
from pillarbox.store.spool import TOTAL_OCTETS, SpoolRoom
from pillarbox.store.store import Store
from pillarbox.trace.file import DAY_US, TraceFile, trace_path
from pillarbox.trace.recorder import Recorder
from pillarbox.trace.writer import TraceWriter

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
        workplace: Workplace | None = None,
        seams: Seams | None = None,
    ) -> None:
        """`failure_delay_s` is the delay after a wrong password; tests want none. `on_fatal` hears that the store
        cannot make mail durable any more: stop then. `prepare` gets the store before anything listens. Not `sends`:
        mail to other hosts stays in the queue. With a `workplace` it is one of several. `seams` are for tests."""
        self._workplace = workplace or Workplace()
        self._seams = seams or Seams()
        self._config = config
        self._failure_delay_s = failure_delay_s
        self._on_fatal = on_fatal
        self._prepare = prepare
        self._sends = sends
        self._started = int(time.time())
        self._tally = Tally()
        self._exit = AsyncExitStack()
        self._drain_s = DRAIN_S
        self._serves = False
        self._admission: Admission | None = None
        self._maintenance: Maintenance | None = None
        self.sockets: Sockets = {}
        """What is listened on."""
        self.store: Store | None = None
        self.services: dict[str, Service] = {}
        """By name, from the start on."""

    @property
    def addresses(self) -> dict[str, list[tuple[str, int]]]:
        """By service, what is listened on: host and port."""
        return addresses_of(self.sockets)

    async def start(self) -> None:
        """Open everything, recover from an unclean stop, then listen. Raises Refused and Unavailable."""
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise

    async def _start(self) -> None:
        config, workplace = self._config, self._workplace
        place, shared = workplace.place, workplace.shared
        # All of them before anything else: another program may have a port.
        self.sockets = workplace.sockets or bind_all(config)[0]
        self._exit.callback(close_all, self.sockets)
        certificates = Certificates(
            config, lambda: datetime.datetime.now(datetime.UTC), workplace.read
        )
        if workplace.hints is not None:
            self._exit.callback(
                workplace.hints.close
            )  # after the store, which tells of what it puts in at its end
        recorder = Recorder(is_on=config.explain.enabled)
        store = self.store = Store(
            config.data_path,
            on_fatal=self._on_fatal,
            place=place,
            relay=workplace.hints,
            tally=self._tally,
            recorder=recorder,
        )
        if recorder.is_on:
            self._record(recorder, place)  # until the store is closed: that files mail, too
        self._exit.push_async_callback(store.close)
        if workplace.hints is not None:
            workplace.hints.listen(store.hinted, store.catch_up)
        if place.is_first:
            run.wipe(config.data_path / "run.db")
        await store.put_left()
        widen_descriptor_table()  # the store has raised its limit
        if store.recovered_messages:
            log.info("%d messages were recovered from the journal", store.recovered_messages)
        if self._prepare is not None:
            await self._prepare(store)
        if place.is_first and not store.directory.has_domains():
            log.warning(
                "there is no domain in %s, so logins are put off, and mail (451) that no smarthost or route takes:"
                " mount its disk or mend data_dir, if it should be elsewhere; to begin with a new server, run:"
                " pillarbox domain add example.org",
                config.data_path,
            )
        failures = LoginFailures(
            config.data_path / "run.db",
            clock=time.time,
            marks=shared.failures,
            mark=shared.mark,
        )
        self._exit.callback(failures.close)
        logins = Logins(
            config.data_path / "logins.db",
            clock=time.time,
            has_account=store.directory.has_account,
        )
        self._exit.callback(logins.close)
        authenticator = Authenticator(
            store.directory,
            failures,
            logins,
            exempt=parse_networks(config.security.never_throttled),
            doors=make_doors(config),
            failure_delay_s=self._failure_delay_s,
            tally=self._tally,
            recorder=recorder,
            proofs=shared.proofs(),
        )
        self._exit.callback(authenticator.close)
        outbound = Outbound(
            config,
            store,
            place,
            sends=self._sends,
            on_fatal=self._on_fatal,
            tally=self._tally,
            clock=self._seams.clock,
            find_route=self._seams.find_route,
            tls=self._seams.tls,
        )
        self._exit.push_async_callback(outbound.stop)
        await outbound.start()
        admission = self._admission = Admission(
            most_connections(),
            config.security.connections_per_address,
            parse_networks(config.security.proxy_protocol_from),
        )
        admission.banned = Bans(store.directory, parse_networks(config.security.never_throttled))
        if place.workers > 1:
            admission.elsewhere = Elsewhere(shared.addresses, ADDRESS_SLOTS, shared.mark)
        if workplace.balance is not None:
            admission.balance = workplace.balance
            self._exit.callback(workplace.balance.close)
        hostname = canonical_domain(config.hostname)
        maintenance = self._maintenance = Maintenance(
            store, admission, certificates, hostname, self.publish, logins, has_duty=place.has_duty
        )
        maintenance.start()
        self._exit.push_async_callback(maintenance.stop)
        listeners = Listeners(admission, workplace.prefix)
        self._exit.push_async_callback(lambda: listeners.close(self._drain_s))
        spool_folder = config.data_path / "spool"
        spool_folder.mkdir(mode=0o700, exist_ok=True)
        room = SpoolRoom(spool_folder, TOTAL_OCTETS // place.workers)
        smtp = make_smtp_context(config, store, authenticator, room, outbound, shared, self._tally)
        if place.has_duty:
            self._take_duty(store, outbound, smtp)
            if config.tls.acme:
                renewal = Renewal(config, certificates, workplace.challenge)
                renewal.start()
                self._exit.push_async_callback(renewal.stop)
        services = self.services = self._seams.make_services(config, smtp, certificates)
        for name, bound in self.sockets.items():
            for sock in bound:
                await listeners.listen(sock, services[name])
        listeners.share()
        self._serves = True
        self.publish()

    def _record(self, recorder: Recorder, place: Place) -> None:
        """Take to a file what happens, for `pillarbox explain`."""
        config = self._config
        file = TraceFile(
            trace_path(config.data_path, place.number),
            keep_us=config.explain.keep_days * DAY_US,
            most_octets=config.explain.max_size // place.workers,
            workers=place.workers if place.has_duty else 0,
        )
        writer = TraceWriter(recorder, file)
        writer.start()
        self._exit.push_async_callback(writer.stop)

    def _take_duty(self, store: Store, outbound: Outbound, smtp: SmtpContext) -> None:
        """What one worker does for all."""
        config = self._config
        pending = PendingWorker(store, outbound.notices.tell_later_success)
        pending.start()
        self._exit.push_async_callback(pending.stop)
        drop.make_folder(config.drop_path, shared=bool(config.sendmail.drop_dir))
        pickup = Pickup(smtp, config.drop_path, frozenset(config.sendmail.trusted_users))
        pickup.start()
        self._exit.push_async_callback(pickup.stop)

    def connections(self) -> list[Admitted]:
        """Those that are open."""
        return list(self._admission.connections) if self._admission is not None else []

    def publish(self) -> None:
        """Tell what this process does, for `pillarbox status`."""
        if self._admission is None or not self._serves:
            return
        connections = Counter(each.service.name for each in self._admission.connections)
        self._workplace.shared.publish(
            {
                **connections,
                "pid": os.getpid(),
                "started": self._started,
                "beat": time.monotonic_ns() // 1_000_000,
                "sqlite_octets": database.octets_in_memory(),
            },
            self._tally.numbers(),
            self._tally.slow.recent(time.time()),
        )

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Finish the commands in hand, part from all peers, close everything. Harmless when done before."""
        self._drain_s = drain_s
        await self._exit.aclose()

    def refresh(self) -> None:
        """Take up renewed certificates now. Other changes of the configuration need a restart."""
        log.info("looking at the certificates; other settings count after a restart")
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
