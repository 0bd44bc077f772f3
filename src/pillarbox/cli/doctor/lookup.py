"""Questions to the DNS of any type, with their answers as text. Nothing raises."""

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.resolver
import dns.reversename

from pillarbox.config.schema import Config
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.dns.query import Status

ANSWER_S = 5.0
"""For one question, all servers and tries included."""
AT_ONCE = 16
"""Questions that are under way."""

DNS_SILENT = "the DNS gives no answer"
DNS_ADVICE = "look at dns.servers and at the name servers of the zone, then run this again"


@dataclass(slots=True, frozen=True)
class Found:
    """An answer."""

    status: Status
    values: tuple[str, ...] = ()
    """Names are in lower case, without final dot; a TXT is its joined strings."""
    name: str = ""
    """The end of the chain of CNAMEs."""

    @property
    def failed(self) -> bool:
        return self.status is Status.FAILED


class Lookup:
    """For one event loop. Asks a question only once."""

    def __init__(self, servers: Sequence[tuple[str, int]]) -> None:
        """`servers` are addresses with ports; none: those of the system, else one on this machine."""
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        except dns.exception.DNSException:
            self._resolver = dns.asyncresolver.Resolver(configure=False)
            servers = [("127.0.0.1", 53)]
        if servers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(address, port) for address, port in servers
            ]
        self._resolver.lifetime = ANSWER_S
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._asked: dict[tuple[str, str], asyncio.Task[Found]] = {}

    async def ask(self, name: str, kind: str) -> Found:
        """`name` without final dot, in A-labels; `kind` like "MX"."""
        key = name.lower(), kind
        if key not in self._asked:
            self._asked[key] = asyncio.create_task(self._ask(*key))
        return await asyncio.shield(self._asked[key])

    async def addresses(self, name: str) -> list[str] | None:
        """Of a host, IPv4 first; None: the DNS does not tell."""
        both = await asyncio.gather(self.ask(name, "A"), self.ask(name, "AAAA"))
        if any(found.failed for found in both):
            return None
        return [value for found in both for value in found.values]

    async def pointers(self, address: str) -> Found:
        """The names that an address has."""
        name = dns.reversename.from_address(str(ipaddress.ip_address(address)))
        return await self.ask(name.to_text(omit_final_dot=True), "PTR")

    async def _ask(self, name: str, kind: str) -> Found:
        try:
            async with self._slots:
                found = await self._resolver.resolve(
                    dns.name.from_text(name + "."), kind, raise_on_no_answer=False
                )
        except dns.resolver.NXDOMAIN:
            return Found(Status.NO_SUCH_NAME, (), name)
        except (dns.exception.DNSException, OSError, ValueError):
            return Found(Status.FAILED, (), name)
        end = found.canonical_name.to_text(omit_final_dot=True).lower()
        return Found(Status.OK, tuple(_text(data) for data in found.rrset or ()), end)


def make_lookup(config: Config) -> Lookup:
    """With the configured servers."""
    return Lookup([parse_endpoint(server) for server in config.dns.servers])


def _text(data: dns.rdata.Rdata) -> str:
    if isinstance(data, dns.rdtypes.ANY.TXT.TXT):
        return b"".join(data.strings).decode("latin-1")
    text = data.to_text()
    if data.rdtype in (dns.rdatatype.MX, dns.rdatatype.SRV, dns.rdatatype.PTR):
        head, space, name = text.rpartition(" ")
        return head + space + (name.lower().removesuffix(".") or ".")
    return text
