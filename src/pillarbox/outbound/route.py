"""Which hosts a next hop has: the smarthost's addresses, or what the domain's MX records say."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from pillarbox.core.address import canonical_domain
from pillarbox.dns.mx import NoRoute, OwnHost, find_route
from pillarbox.dns.query import Answer, Asking, Query, RecordType, Status
from pillarbox.net.resolver import Resolver
from pillarbox.outbound.session import Host
from pillarbox.smtp.client_events import ClientOptions, Credentials, Kind, Outcome, Stage, TlsMode
from pillarbox.smtp.reply import Reply

SMARTHOST = "smarthost"
"""The next hop of everything where a smarthost is configured. No domain has this name: it has no dot."""

LONGEST_CACHED_S = 3600
IMPLICIT_TLS_PORT = 465
"""RFC 8314 §3.3"""


@dataclass(slots=True, frozen=True)
class Route:
    """Hosts in the order in which they are tried, and how sessions with them are."""

    hosts: tuple[Host, ...]
    options: ClientOptions


@dataclass(slots=True, frozen=True)
class Smarthost:
    """Where all mail goes instead."""

    name: str
    port: int
    credentials: Credentials | None


class Router:
    """Finds routes, and keeps them as long as the DNS says."""

    def __init__(
        self,
        resolver: Resolver,
        own: OwnHost,
        hostname: str,
        *,
        smarthost: Smarthost | None,
        mx_port: int,
        random: Callable[[], float],
    ) -> None:
        self._resolver = resolver
        self._own = own
        self._hostname = hostname
        self._smarthost = smarthost
        self._mx_port = mx_port
        self._random = random
        self._cache: dict[str, tuple[float, Route | Outcome]] = {}

    def next_hop(self, domain: str) -> str:
        """Under which name mail for a domain (canonical) is grouped."""
        return SMARTHOST if self._smarthost is not None else domain

    def next_hop_of(self, address: str) -> str:
        """The same for a recipient's address."""
        domain = address.rpartition("@")[2]
        try:
            return self.next_hop(canonical_domain(domain))
        except ValueError:
            return self.next_hop(domain.lower())

    async def find(self, next_hop: str) -> Route | Outcome:
        """The route of a next hop, or why there is none, for now or at all."""
        now = time.monotonic()
        cached = self._cache.get(next_hop)
        if cached is not None and cached[0] > now:
            return cached[1]
        if next_hop == SMARTHOST and self._smarthost is not None:
            route, ttl_s = await self._to_smarthost(self._smarthost)
        else:
            route, ttl_s = await self._to_domain(next_hop)
        if len(self._cache) > 10_000:
            self._cache.clear()
        self._cache[next_hop] = (now + min(ttl_s, LONGEST_CACHED_S), route)
        return route

    async def _to_domain(self, domain: str) -> tuple[Route | Outcome, int]:
        found = await self._resolver.run(find_route(domain, self._own, self._random))
        if isinstance(found, NoRoute):
            kind = Kind.PERMANENT if found.permanent else Kind.TEMPORARY
            reply = Reply(found.code, found.enhanced, found.text)
            return Outcome(kind, Stage.CHECK, reply, from_peer=False), found.ttl_s
        hosts = tuple(
            Host(host.name, address, self._mx_port)
            for host in found.hosts
            for address in host.addresses
        )
        return Route(hosts, ClientOptions(self._hostname)), found.ttl_s

    async def _to_smarthost(self, smarthost: Smarthost) -> tuple[Route | Outcome, int]:
        answers = await self._resolver.run(_addresses(smarthost.name))
        addresses = [str(record) for answer in answers for record in answer.records]
        if not addresses:
            reply = Reply(451, "4.4.3", f"the smarthost {smarthost.name} has no address at present")
            return Outcome(Kind.TEMPORARY, Stage.CHECK, reply, from_peer=False), 0
        implicit = smarthost.port == IMPLICIT_TLS_PORT
        hosts = tuple(
            Host(smarthost.name, address, smarthost.port, implicit, verified=True)
            for address in addresses
        )
        options = ClientOptions(
            self._hostname, tls=TlsMode.ALWAYS, credentials=smarthost.credentials
        )
        return Route(hosts, options), min(answer.ttl_s for answer in answers)


def _addresses(name: str) -> Asking[list[Answer]]:
    """A host's addresses; an address is its own answer."""
    if name.replace(".", "").isdigit() or ":" in name:
        return [Answer(Status.OK, name, (name,), LONGEST_CACHED_S)]
    return (yield [Query(name, RecordType.AAAA), Query(name, RecordType.A)])
