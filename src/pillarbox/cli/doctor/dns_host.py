"""The DNS records of the host itself: its addresses, their names, and TLSA records of port 25."""

import asyncio
import hashlib
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pillarbox.cli.doctor.case import Case
from pillarbox.cli.doctor.finding import Finding, error, ok, warning
from pillarbox.cli.doctor.lookup import DNS_ADVICE, DNS_SILENT


async def check_addresses(case: Case) -> list[Finding]:
    """The hostname has addresses that others can reach, and is no CNAME (RFC 5321 §5.1: an MX leads to addresses)."""
    host = case.host
    addresses = await case.lookup.addresses(host)
    if addresses is None:
        return [error("address", host, DNS_SILENT, DNS_ADVICE)]
    if not addresses:
        advice = f"set A (and AAAA) records of {host}. with the public addresses of this server"
        return [error("address", host, "the hostname has no address in the DNS", advice)]
    shown = ", ".join(addresses)
    end = (await case.lookup.ask(host, "A")).name or host
    if end != host:
        advice = f"give {host}. A and AAAA records of its own"
        return [error("address", host, f"the hostname is a CNAME of {end}", advice)]
    private = [each for each in addresses if not ipaddress.ip_address(each).is_global]
    if private:
        found = f"{', '.join(private)} cannot be reached from the Internet"
        advice = f"let {host}. name public addresses only, unless this is a network of your own"
        return [warning("address", host, found, advice)]
    return [ok("address", host, shown)]


async def check_pointers(case: Case) -> list[Finding]:
    """Each address has a name, that of this host: large providers refuse mail from others."""
    addresses = await case.lookup.addresses(case.host) or []
    return list(await asyncio.gather(*(_check_pointer(case, each) for each in addresses)))


async def _check_pointer(case: Case, address: str) -> Finding:
    advice = f"ask your provider to set the PTR record of {address} to {case.host}."
    answer = await case.lookup.pointers(address)
    if answer.failed:
        return error("ptr", address, DNS_SILENT, DNS_ADVICE)
    if not answer.values:
        return error(
            "ptr", address, "it has no name (PTR): many hosts will refuse our mail", advice
        )
    shown = ", ".join(answer.values)
    if case.host in answer.values:
        return ok("ptr", address, shown)
    for name in answer.values:
        if address in (await case.lookup.addresses(name) or []):
            return warning("ptr", address, f"it is {shown}, not our hostname", advice)
    return error("ptr", address, f"it is {shown}, which is not this address", advice)


async def check_tlsa(case: Case) -> list[Finding]:
    """The TLSA records of port 25, where there are any, fit the certificate: else those who look refuse to send."""
    name = f"_25._tcp.{case.host}"
    answer = await case.lookup.ask(name, "TLSA")
    if answer.failed:
        return [error("tlsa", name, f"{DNS_SILENT}: who looks for TLSA does not send", DNS_ADVICE)]
    if not answer.values:
        return []
    if not case.chains:
        advice = "see the findings on TLS, then run this again"
        return [error("tlsa", name, "there is no certificate to compare it with", advice)]
    chain = case.chains[0]
    usable = [value for value in answer.values if value.split()[0] in ("2", "3")]
    if not usable:
        advice = f"set: {name}. IN TLSA 3 1 1 {fingerprint(chain[0])}"
        return [warning("tlsa", name, "only records of usage 0 or 1: SMTP uses 2 and 3", advice)]
    fitting = [value for value in usable if fits(value, chain)]
    if not fitting:
        advice = f"set: {name}. IN TLSA 3 1 1 {fingerprint(chain[0])}"
        found = "no record fits the certificate: hosts that verify DANE do not send to us"
        return [error("tlsa", name, found, advice)]
    return [ok("tlsa", name, f"{len(fitting)} of {len(answer.values)} records fit the certificate")]


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the public key, as a record "3 1 1" has it."""
    return hashlib.sha256(_octets(certificate, "1")).hexdigest()


def fits(record: str, chain: list[x509.Certificate]) -> bool:
    """Whether a TLSA record of usage 3 (the host's own certificate) or 2 (one above it) is met by a chain."""
    usage, selector, matching, *data = record.split()
    wanted = "".join(data).lower()
    candidates = chain[:1] if usage == "3" else chain[1:]
    return any(_matched(_octets(each, selector), matching) == wanted for each in candidates)


def _octets(certificate: x509.Certificate, selector: str) -> bytes:
    if selector == "1":
        public = certificate.public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_bytes(Encoding.DER)


def _matched(octets: bytes, matching: str) -> str:
    match matching:
        case "0":
            return octets.hex()
        case "1":
            return hashlib.sha256(octets).hexdigest()
        case "2":
            return hashlib.sha512(octets).hexdigest()
    return "unknown"
