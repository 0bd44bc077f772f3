"""The DNS records that a domain needs, and how they stand in a zone file (RFC 1035 §5.1).

MX, SPF (RFC 7208), DKIM (RFC 6376), DMARC (RFC 7489), and SRV records by which mail programs set themselves up
(RFC 6186, RFC 8314 §5.1). No I/O.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pillarbox.config.schema import Config, Listen
from pillarbox.core.address import canonical_domain
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.dkim.keys import record_name, zone_strings
from pillarbox.store.dkim_keys import RETIRED_RECORD_S, DkimKey, KeyState

TTL_S = 3600

# Service -> priority. TLS from the start comes first (RFC 8314 §3), IMAP before POP3 (RFC 6186 §3.4).
SERVICES = {"submissions": 0, "submission": 10, "imaps": 0, "imap": 10, "pop3s": 20, "pop3": 30}


@dataclass(slots=True)
class Record:
    """`name` ends with a dot. The value of a TXT record is its text, without quotes."""

    name: str
    type: str
    value: str
    note: str
    """One line about it."""

    def __str__(self) -> str:
        value = zone_strings(self.value) if self.type == "TXT" else self.value
        return f"; {self.note}\n{self.name} {TTL_S} IN {self.type} {value}"


def domain_records(
    config: Config, domain: str, keys: Sequence[DkimKey], now: int
) -> Iterator[Record]:
    """All records of a canonical domain with these keys, in any state; `now` in epoch seconds."""
    host = canonical_domain(config.hostname)
    yield Record(f"{domain}.", "MX", f"10 {host}.", "The host that takes its mail.")
    yield from _spf_records(config, domain, host)
    for key in keys:
        if key.state is not KeyState.RETIRED or now < key.changed + RETIRED_RECORD_S:
            yield dkim_record(key)
    yield Record(
        f"_dmarc.{domain}.",
        "TXT",
        f"v=DMARC1; p=none; rua=mailto:postmaster@{domain}",
        "DMARC: only reports at first; when they show your mail alone, p=quarantine, then p=reject.",
    )
    for service, priority in SERVICES.items():
        port = _public_port(config.listen, service)
        if port:
            yield Record(
                f"_{service}._tcp.{domain}.",
                "SRV",
                f"{priority} 1 {port} {host}.",
                f"Mail programs find {service} by it.",
            )


def dkim_record(key: DkimKey) -> Record:
    """Of a key in any state."""
    match key.state:
        case KeyState.ACTIVE:
            note = "it signs."
        case KeyState.NEW:
            note = f"not used until: pillarbox domain rotate-keys {key.domain} --activate"
        case KeyState.RETIRED:
            last = datetime.fromtimestamp(key.changed + RETIRED_RECORD_S, UTC)
            note = f"not used any more; remove it after {last:%Y-%m-%d}."
    name = record_name(key.selector, key.domain)
    return Record(f"{name}.", "TXT", key.record, f"DKIM, {key.algorithm} key: {note}")


def _spf_records(config: Config, domain: str, host: str) -> Iterator[Record]:
    if config.outbound.smarthost:
        note = f"SPF: add what the provider of {config.outbound.smarthost} asks for, like include:NAME."
        yield Record(f"{domain}.", "TXT", "v=spf1 mx ~all", note)
        return
    note = "SPF: the hosts that send its mail."
    yield Record(f"{domain}.", "TXT", "v=spf1 mx -all", note)
    if host.endswith(f".{domain}"):
        # RFC 7208 §2.4: a bounce has no sender, so the name in EHLO is checked.
        note = "SPF of the host itself: it sends bounces."
        yield Record(f"{host}.", "TXT", "v=spf1 a -all", note)


def _public_port(listen: Listen, service: str) -> int:
    """Where others reach a service; 0: nowhere."""
    for address in getattr(listen, service):
        host, port = parse_endpoint(address)
        if not ipaddress.ip_address(host).is_loopback:
            return port
    return 0
