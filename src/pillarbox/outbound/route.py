"""Which hosts a next hop has: the smarthost's addresses, or what the domain's MX records say."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pillarbox.core.address import canonical_domain
from pillarbox.dns.mx import NoRoute, OwnHost, find_route
from pillarbox.dns.query import Answer, Asking, Query, RecordType, Status
from pillarbox.net.resolver import Resolver
from pillarbox.outbound.session import Host
from pillarbox.smtp.client_events import ClientOptions, Credentials, Kind, Outcome, Stage, TlsMode
from pillarbox.smtp.reply import Reply

SMARTHOST = "smarthost"
"""The rule for, and the next hop of, everything without a rule of its own. No domain has this name: it has no dot."""

THE_SMARTHOST = "the smarthost"
THE_ROUTED = "the configured host"
"""`Host.role`; `reply_table` knows them."""

LONGEST_CACHED_S = 3600
IMPLICIT_TLS_PORT = 465
"""RFC 8314 §3.3"""


@dataclass(slots=True, frozen=True)
class Route:
    """Hosts in the order in which they are tried, and how sessions with them are."""

    hosts: tuple[Host, ...]
    options: ClientOptions


@dataclass(slots=True, frozen=True)
class Rule:
    """How mail goes that the configuration says something about: a smarthost, or a route of some domains."""

    name: str = ""
    """The host that it goes to; empty: as the DNS says."""
    port: int = 0
    lmtp: bool = False
    tls: TlsMode = TlsMode.IF_OFFERED
    """ALWAYS: the certificate must be right, too."""
    credentials: Credentials | None = None
    from_strangers: bool = False
    """Mail is taken from everybody, as for a domain of our own."""

    @property
    def is_verified(self) -> bool:
        return self.tls is TlsMode.ALWAYS


class Router:
    """Finds routes, and keeps them as long as the DNS says."""

    def __init__(
        self,
        resolver: Resolver,
        own: OwnHost,
        hostname: str,
        *,
        rules: Mapping[str, Rule],
        mx_port: int,
        random: Callable[[], float],
    ) -> None:
        """`rules` are for canonical domains, for all below one ("*.example.com"), or for the rest (SMARTHOST)."""
        self.resolver = resolver
        self._own = own
        self._hostname = hostname
        self._rules = rules
        self._mx_port = mx_port
        self._random = random
        self._cache: dict[str, tuple[float, Route | Outcome]] = {}

    def rule(self, domain: str) -> tuple[str, Rule | None]:
        """What is configured for a canonical domain, and under which key; the domain and None if nothing is."""
        parents = domain.split(".")
        below = ("*." + ".".join(parents[start:]) for start in range(1, len(parents)))
        for key in (domain, *below, SMARTHOST):
            if key in self._rules:
                return key, self._rules[key]
        return domain, None

    def takes_from_strangers(self, domain: str) -> bool:
        """Whether everybody may send to a domain (as written), though it is not ours."""
        try:
            rule = self.rule(canonical_domain(domain))[1] if self._rules else None
        except ValueError:
            return False
        return rule is not None and rule.from_strangers

    def is_routed(self, domain: str) -> bool:
        """Whether the configuration names the host that mail for a domain (as written) goes to."""
        try:
            rule = self.rule(canonical_domain(domain))[1] if self._rules else None
        except ValueError:
            return False
        return rule is not None and rule.name != ""

    def next_hop(self, domain: str) -> str:
        """Under which name mail for a domain (canonical) is grouped."""
        if not self._rules:
            return domain
        key, rule = self.rule(domain)
        return key if rule is not None and rule.name else domain

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
        rule = self._rules.get(next_hop) or self.rule(next_hop)[1] or Rule()
        if rule.name:
            route, ttl_s = await self._to_relay(rule)
        else:
            route, ttl_s = await self._to_domain(next_hop, rule)
        if len(self._cache) > 10_000:
            self._cache.clear()
        self._cache[next_hop] = (now + min(ttl_s, LONGEST_CACHED_S), route)
        return route

    async def _to_domain(self, domain: str, rule: Rule) -> tuple[Route | Outcome, int]:
        found = await self.resolver.run(find_route(domain, self._own, self._random))
        if isinstance(found, NoRoute):
            kind = Kind.PERMANENT if found.permanent else Kind.TEMPORARY
            reply = Reply(found.code, found.enhanced, found.text)
            return Outcome(kind, Stage.CHECK, reply, from_peer=False), found.ttl_s
        hosts = tuple(
            Host(host.name, address, self._mx_port, verified=rule.is_verified)
            for host in found.hosts
            for address in host.addresses
        )
        return Route(hosts, self._options(rule)), found.ttl_s

    async def _to_relay(self, rule: Rule) -> tuple[Route | Outcome, int]:
        role = THE_SMARTHOST if rule is self._rules.get(SMARTHOST) else THE_ROUTED
        answers = await self.resolver.run(_addresses(rule.name))
        addresses = [str(record) for answer in answers for record in answer.records]
        if not addresses:
            text = f"{role} {rule.name} has no address at present"
            outcome = Outcome(
                Kind.TEMPORARY, Stage.CHECK, Reply(451, "4.4.3", text), from_peer=False
            )
            return outcome, 0
        implicit = rule.port == IMPLICIT_TLS_PORT and rule.tls is not TlsMode.NEVER
        hosts = tuple(
            Host(rule.name, address, rule.port, implicit, verified=rule.is_verified, role=role)
            for address in addresses
        )
        return Route(hosts, self._options(rule)), min(answer.ttl_s for answer in answers)

    def _options(self, rule: Rule) -> ClientOptions:
        return ClientOptions(
            self._hostname, lmtp=rule.lmtp, tls=rule.tls, credentials=rule.credentials
        )


def _addresses(name: str) -> Asking[list[Answer]]:
    """A host's addresses; an address is its own answer."""
    if name.replace(".", "").isdigit() or ":" in name:
        return [Answer(Status.OK, name, (name,), LONGEST_CACHED_S)]
    return (yield [Query(name, RecordType.AAAA), Query(name, RecordType.A)])
