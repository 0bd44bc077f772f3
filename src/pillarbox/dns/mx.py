"""To which hosts mail for a domain goes, in which order, or why to none (RFC 5321 §5.1, RFC 7505).

Two rounds of questions: the MX records, then the addresses of all hosts at once.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from pillarbox.core.address import canonical_domain
from pillarbox.dns.query import Answer, Asking, Mx, Query, RecordType, Status

MAX_HOSTS = 20
"""MX records that are looked at, the best first."""
MAX_ADDRESSES = 8
"""Addresses of one host that are tried; RFC 5321 §5.1 wants two at least."""


@dataclass(slots=True, frozen=True)
class OwnHost:
    """What this host is known as in mail transactions, and what it can reach."""

    names: frozenset[str] = frozenset()
    """Canonical domains (`core.address.canonical_domain`)."""
    addresses: frozenset[str] = frozenset()
    """In the form of `str(ipaddress.ip_address(...))`."""
    ipv4: bool = True
    ipv6: bool = True


@dataclass(slots=True, frozen=True)
class Host:
    """`name` is a host name or an address literal. `addresses` are to be tried in this order."""

    name: str
    preference: int
    addresses: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class Unused:
    """A host that the records name and mail will not go to."""

    name: str
    preference: int
    why: str


@dataclass(slots=True, frozen=True)
class Route:
    """One host or more, best first."""

    hosts: tuple[Host, ...]
    unused: tuple[Unused, ...] = ()
    ttl_s: int = 0


@dataclass(slots=True, frozen=True)
class NoRoute:
    """Mail for the domain cannot go anywhere. It can later if `code` is 4yz. Text is public."""

    code: int
    enhanced: str
    text: str
    unused: tuple[Unused, ...] = ()
    ttl_s: int = 0

    @property
    def permanent(self) -> bool:
        return self.code >= 500


@dataclass(slots=True)
class _Candidates:
    """What is known of the MX hosts while their addresses are collected."""

    hosts: list[Host] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    ttl_s: int = 0
    failed: int | None = None
    """The best preference of which some address could not be looked up now."""


def find_route(domain: str, own: OwnHost, random: Callable[[], float]) -> Asking[Route | NoRoute]:
    """The route to `domain`: a name in U-labels or A-labels, or an address literal.

    Hosts of equal preference are ordered by `random`, which gives numbers like `random.random`. A local domain is not
    for this function: a domain whose best MX is this host is a configuration error (5.4.6).
    """
    if domain.startswith("["):
        return _literal_route(domain, own)
    try:
        name = canonical_domain(domain)
    except ValueError:
        return NoRoute(550, "5.1.2", "The domain of the address is not a domain name")
    [answer] = yield [Query(name, RecordType.MX)]
    if answer.status is Status.NO_SUCH_NAME:
        return NoRoute(550, "5.1.2", f"The domain {name} does not exist", ttl_s=answer.ttl_s)
    if answer.status is Status.FAILED:
        return NoRoute(451, "4.4.3", f"The MX records of {name} cannot be looked up at present")
    records = [record for record in answer.records if isinstance(record, Mx)]
    if records and not any(record.host for record in records):
        # RFC 7505 §3, §4.1
        return NoRoute(556, "5.1.10", f"The domain {name} accepts no mail", ttl_s=answer.ttl_s)
    if not records:
        records = [Mx(0, answer.name)]  # RFC 5321 §5.1: the implicit MX
    ranked = sorted((record.preference, random(), record.host) for record in records if record.host)
    hosts = [Mx(preference, host) for preference, _, host in ranked[:MAX_HOSTS]]
    candidates = yield from _look_up(hosts, own)
    candidates.ttl_s = min(candidates.ttl_s, answer.ttl_s)
    return _choose(name, candidates, own)


def _look_up(records: list[Mx], own: OwnHost) -> Asking[_Candidates]:
    """The addresses of all hosts. IPv6 and IPv4 alternate, so that two attempts try both; within one of them the
    order is that of the answer (RFC 5321 §5.1)."""
    families = [RecordType.AAAA] * own.ipv6 + [RecordType.A] * own.ipv4
    names = list(dict.fromkeys(record.host for record in records))
    answers = yield [Query(name, family) for name in names for family in families]
    by_name = {
        name: answers[at * len(families) : (at + 1) * len(families)]
        for at, name in enumerate(names)
    }
    candidates = _Candidates(ttl_s=min((answer.ttl_s for answer in answers), default=0))
    for record in records:
        found = by_name.pop(record.host, None)
        if found is None:
            candidates.unused.append(_unused(record, "it stands there more than once"))
            continue
        addresses = _alternate(found)
        failed = any(answer.status is Status.FAILED for answer in found)
        if failed and candidates.failed is None:  # the records come best first
            candidates.failed = record.preference
        if addresses or record.host in own.names:
            candidates.hosts.append(Host(record.host, record.preference, addresses))
        elif failed:
            candidates.unused.append(_unused(record, "its address cannot be looked up at present"))
        else:
            candidates.unused.append(_unused(record, "it has no address that can be reached"))
    return candidates


def _alternate(answers: list[Answer]) -> tuple[str, ...]:
    columns = [
        [record for record in answer.records if isinstance(record, str)] for answer in answers
    ]
    mixed = chain.from_iterable(zip_longest(*columns))
    return tuple(address for address in mixed if address is not None)[:MAX_ADDRESSES]


def _choose(name: str, candidates: _Candidates, own: OwnHost) -> Route | NoRoute:
    """Cut the list at this host (RFC 5321 §5.1), and see what is left."""
    hosts = candidates.hosts
    unused = candidates.unused
    own_preference = min((h.preference for h in hosts if _is_own(h, own)), default=None)
    if own_preference is not None:
        for host in hosts:
            if _is_own(host, own):
                unused.append(Unused(host.name, host.preference, "it is this host"))
            elif host.preference >= own_preference:
                why = "it is not better than this host"
                unused.append(Unused(host.name, host.preference, why))
        hosts = [host for host in hosts if host.preference < own_preference]
    ttl_s = candidates.ttl_s
    rejected = tuple(unused)
    if hosts:
        return Route(tuple(hosts), rejected, ttl_s)
    failed = candidates.failed
    if failed is not None and (own_preference is None or failed < own_preference):
        text = f"The addresses of the mail hosts of {name} cannot be looked up at present"
        return NoRoute(451, "4.4.3", text, rejected)
    if own_preference is not None:
        text = f"Mail for {name} loops back to this host, which does not serve that domain"
        return NoRoute(554, "5.4.6", text, rejected, ttl_s)
    text = f"The mail hosts of {name} have no address"
    return NoRoute(550, "5.4.4", text, rejected, ttl_s)


def _is_own(host: Host, own: OwnHost) -> bool:
    return host.name in own.names or not own.addresses.isdisjoint(host.addresses)


def _unused(record: Mx, why: str) -> Unused:
    return Unused(record.host, record.preference, why)


def _literal_route(literal: str, own: OwnHost) -> Route | NoRoute:
    """RFC 5321 §4.1.3: `[192.0.2.1]` or `[IPv6:2001:db8::1]`."""
    text = literal[1:-1]
    is_ipv6 = text[:5].lower() == "ipv6:"
    try:
        address = str(ipaddress.IPv6Address(text[5:]) if is_ipv6 else ipaddress.IPv4Address(text))
    except ValueError:
        return NoRoute(550, "5.1.2", "The address literal is not an IP address")
    if address in own.addresses:
        text = f"Mail for {literal} loops back to this host"
        return NoRoute(554, "5.4.6", text)
    if not (own.ipv6 if is_ipv6 else own.ipv4):
        return NoRoute(550, "5.4.4", f"{literal} cannot be reached from this host")
    return Route((Host(literal, 0, (address,)),))
