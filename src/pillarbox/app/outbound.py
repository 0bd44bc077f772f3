"""Wires the queue of mail to other hosts: table, routes, worker and reports."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import dns.exception

from pillarbox.config.regular_file import read_secret
from pillarbox.config.schema import Config
from pillarbox.core.address import canonical_domain
from pillarbox.core.duration import parse_duration
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.secret import Secret
from pillarbox.core.tally import Tally
from pillarbox.dns.mx import OwnHost
from pillarbox.net.resolver import Resolver
from pillarbox.net.tls import client_context
from pillarbox.outbound.route import SMARTHOST, Router, Rule
from pillarbox.outbound.session import TlsContexts
from pillarbox.outbound.signing import MailSigner
from pillarbox.queue.attempt import FindRoute
from pillarbox.queue.enqueue import Enqueuer
from pillarbox.queue.limits import SendingLimits
from pillarbox.queue.notice import Notices
from pillarbox.queue.report import QueueReporter
from pillarbox.queue.schedule import Pressure, Schedule
from pillarbox.queue.worker import QueueWorker
from pillarbox.smtp.client_events import Credentials, TlsMode
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.place import Place
from pillarbox.store.run import SentCounts
from pillarbox.store.store import Store

BEGIN_AGAIN_S = 30.0

log = logging.getLogger("pillarbox.queue")


class Outbound:
    """Mail to other hosts, of one server. Without `sends` the queue only takes mail."""

    def __init__(
        self,
        config: Config,
        store: Store,
        place: Place,
        *,
        sends: bool,
        on_fatal: Callable[[BaseException], None],
        tally: Tally,
        clock: Callable[[], float] = time.time,
        find_route: FindRoute | None = None,
        tls: TlsContexts | None = None,
    ) -> None:
        """`on_fatal` hears that mail cannot be made durable any more. `clock` says when mail is tried and given up;
        `find_route` replaces configuration and DNS, `tls` what is trusted.

        Raises Refused when a password file cannot be read."""
        self.queue = OutgoingQueue(
            config.data_path / "queue.db",
            clock=clock,
            on_fatal=on_fatal,
            place=place,
            times=tally.commits["queue"],
        )
        self.router = make_router(config)
        schedule = Schedule(
            warn_after_s=parse_duration(config.outbound.warn_after),
            give_up_after_s=parse_duration(config.outbound.give_up_after),
        )
        self.enqueuer = Enqueuer(
            self.queue, self.router.next_hop_of, schedule, self._hint, MailSigner(store)
        )
        self.enqueuer.recorder = store.recorder
        submission = config.submission
        self._counts = SentCounts(config.data_path / "run.db")
        self.enqueuer.limits = SendingLimits(
            store.directory,
            self._counts,
            submission.recipients_per_hour,
            submission.recipients_per_day,
            clock,
        )
        self.notices = Notices(
            store,
            self.enqueuer,
            canonical_domain(config.hostname),
            clock,
            lambda: random.getrandbits(20),
            copy_to=config.outbound.copy_bounces_to,
        )
        self.sends = sends
        self._worker: QueueWorker | None = None
        self._beginning: asyncio.Task[None] | None = None
        if sends:
            reporter = QueueReporter(
                self.queue,
                self.notices,
                self.enqueuer.schedule,
                clock,
                random.random,
                tally,
                store.recorder,
            )
            self._worker = QueueWorker(
                self.queue,
                find_route or self.router.find,
                reporter,
                tls or TlsContexts(client_context(verified=True), client_context(verified=False)),
                owner=self.queue.owner,
                clock=clock,
                random=random.random,
                pressure=_share_of(Pressure(), place.workers),
                recorder=store.recorder,
            )
            self.enqueuer.courier = self._worker

    def _hint(self) -> None:
        if self._worker is not None:
            self._worker.hint()

    async def start(self) -> None:
        """Take up what an earlier process left, and begin to send as soon as that is in line with the configured
        routes: mail is taken meanwhile."""
        in_doubt = await self.queue.take_up()
        if in_doubt:
            log.warning("%d recipients may have got their mail already; it is sent again", in_doubt)
        self._beginning = asyncio.get_running_loop().create_task(self._begin())

    async def _begin(self) -> None:
        while True:
            try:
                await self.queue.reroute(self.router.next_hop_of)
                break
            except Unavailable as failure:
                log.error("the queue cannot be read: %s", failure.told)
                await asyncio.sleep(BEGIN_AGAIN_S)
        if self._worker is not None:
            self._worker.start()

    async def stop(self) -> None:
        """What was not answered stays in the queue."""
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.wait([self._beginning])
        if self._worker is not None:
            await self._worker.stop()
        await self.queue.drain()
        self.queue.close()
        self._counts.close()


def _share_of(pressure: Pressure, workers: int) -> Pressure:
    """What each of the workers may do to a destination, so that all together do about what one would."""
    return replace(
        pressure,
        most_sessions=-(-pressure.most_sessions // workers),
        first_sessions=-(-pressure.first_sessions // workers),
    )


def make_router(config: Config) -> Router:
    """Raises Refused when a password file cannot be read."""
    return Router(
        make_resolver(config),
        own_host(config),
        canonical_domain(config.hostname),
        rules=_rules(config),
        mx_port=config.outbound.mx_port,
        random=random.random,
    )


def make_resolver(config: Config) -> Resolver:
    """With the configured servers, else the system's, else one on this machine."""
    servers = [parse_endpoint(server) for server in config.dns.servers]
    try:
        return Resolver(servers)
    except dns.exception.DNSException:
        log.warning("this system names no DNS server; asking 127.0.0.1. Set dns.servers")
        return Resolver([("127.0.0.1", 53)])


def own_host(config: Config) -> OwnHost:
    """Names and addresses under which MX records may name this host."""
    addresses = {parse_endpoint(address)[0] for address in config.listen.smtp}
    return OwnHost(
        frozenset({canonical_domain(config.hostname)}),
        frozenset(addresses - {"0.0.0.0", "::"}),
        ipv6=_has_ipv6(),
    )


def _has_ipv6() -> bool:
    """Whether there is a way to the IPv6 Internet. Sends nothing."""
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect(("2001:500:2::c", 53))
        return True
    return False


_TLS_MODES = {
    "offered": TlsMode.IF_OFFERED,
    "verified": TlsMode.ALWAYS,
    "never": TlsMode.NEVER,
}


def _rules(config: Config) -> dict[str, Rule]:
    settings = config.outbound
    rules: dict[str, Rule] = {}
    for domain, route in settings.routes.items():
        name, port = parse_endpoint(route.host) if route.host else ("", 0)
        wildcard = "*." if domain.startswith("*.") else ""
        rules[wildcard + canonical_domain(domain.removeprefix("*."))] = Rule(
            name,
            port,
            route.protocol == "lmtp",
            _TLS_MODES[route.tls],
            _credentials(route.username, route.password_file),
            route.from_strangers,
        )
    if settings.smarthost:
        name, port = parse_endpoint(settings.smarthost)
        credentials = _credentials(settings.smarthost_username, settings.smarthost_password_file)
        rules[SMARTHOST] = Rule(name, port, tls=TlsMode.ALWAYS, credentials=credentials)
    return rules


def _credentials(username: str, password_file: str) -> Credentials | None:
    if not username:
        return None
    try:
        password = read_secret(Path(password_file))
    except OSError as error:
        raise Refused(
            f"the password file {password_file} cannot be read: {error.strerror}"
        ) from error
    return Credentials(username, Secret(password))
