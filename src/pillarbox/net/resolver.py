"""Asks the DNS for pure code that wants to know (`dns.query.Asking`), by way of dnspython.

Answers are cached as long as their TTL says. Nothing raises: what cannot be asked is an answer with `Status.FAILED`.
"""

import asyncio
import time
from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TXT
import dns.resolver

from pillarbox.dns.query import Answer, Asking, Mx, Query, Record, RecordType, Result, Status

LIFETIME_S = 12.0
"""For one question, all servers and tries included."""
CACHED_ANSWERS = 20_000
ABSENT_TTL_S = 300
"""How long the absence of a name is believed: RFC 2308 §5 allows hours."""


class Resolver:
    """For one event loop."""

    def __init__(self, servers: Sequence[tuple[str, int]] = ()) -> None:
        """`servers` are addresses with ports; none: those of the system.

        Raises dns.exception.DNSException where the system names none.
        """
        self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(address, port) for address, port in servers
            ]
        self._resolver.lifetime = LIFETIME_S
        self._resolver.cache = dns.resolver.LRUCache(CACHED_ANSWERS)

    async def run(self, asking: Asking[Result]) -> Result:
        """Drive a generator that asks to its result."""
        answers: list[Answer] | None = None
        while True:
            try:
                queries = asking.send(answers) if answers is not None else next(asking)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            answers = await asyncio.gather(*(self.ask(query) for query in queries))

    async def ask(self, query: Query) -> Answer:
        """One answer."""
        kind = dns.rdatatype.RdataType(query.type.value)
        try:
            name = dns.name.from_text(query.name + ".")
            found = await self._resolver.resolve(name, kind, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return Answer(Status.NO_SUCH_NAME, query.name, ttl_s=ABSENT_TTL_S)
        except (dns.exception.DNSException, OSError, ValueError):
            return Answer(Status.FAILED, query.name)
        ttl_s = max(0, int(found.expiration - time.time()))
        end = found.canonical_name.to_text(omit_final_dot=True).lower()
        records = tuple(_record(data, query.type) for data in found.rrset or ())
        return Answer(Status.OK, end, records, ttl_s)


def _record(data: object, kind: RecordType) -> Record:
    if isinstance(data, dns.rdtypes.ANY.MX.MX):
        exchange = data.exchange
        is_root = exchange == dns.name.root
        host = "" if is_root else exchange.to_text(omit_final_dot=True).lower()
        return Mx(data.preference, host)
    if isinstance(data, dns.rdtypes.ANY.TXT.TXT):
        return b"".join(data.strings)
    assert kind in (RecordType.A, RecordType.AAAA)
    return str(data)
