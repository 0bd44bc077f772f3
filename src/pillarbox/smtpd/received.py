"""The Received field that this server writes (RFC 5321 §4.4, RFC 3848)."""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from pillarbox.core.dates import format_rfc5322_date

_ODD = re.compile(r"[^A-Za-z0-9._:\[\]-]")
"""In an EHLO argument: neither of a domain nor of an address literal."""

format_date = lru_cache(maxsize=8)(format_rfc5322_date)
"""Thousands of messages share a second."""


@dataclass(slots=True)
class Origin:
    """Where a message came from."""

    hello: str
    """The argument of EHLO or HELO."""
    extended: bool
    """It was EHLO."""
    address: str
    """IP address of the client; "" to keep it out (people who submit mail do not tell where they are)."""
    tls: str
    """Version and cipher suite, "" without TLS."""
    authenticated: bool
    utf8: bool = False
    """With SMTPUTF8."""
    lmtp: bool = False
    """RFC 2033"""


def format_origin(origin: Origin, hostname: str) -> bytes:
    """The field up to "id", the same for all messages that come the same way."""
    hello = _ODD.sub("?", origin.hello)
    client = f" ({_literal(origin.address)})" if origin.address else ""
    protocol = "SMTP"
    if origin.extended:  # RFC 3848
        protocol = "LMTP" if origin.lmtp else "SMTP"
        protocol = (
            "UTF8" if origin.utf8 else "" if origin.lmtp else "E"
        ) + protocol  # RFC 6531 §4.3
        protocol += f"{'S' if origin.tls else ''}{'A' if origin.authenticated else ''}"
    tls = f" ({origin.tls})" if origin.tls else ""
    return (
        f"Received: from {hello}{client}\r\n\tby {hostname}{tls}\r\n\twith {protocol} id ".encode()
    )


def format_received(origin: bytes, queue_id: str, recipient: str, date: int) -> bytes:
    """The whole field. `recipient` is as the client wrote it, "" where there are several: none may learn of the others.
    `date` is packed."""
    # A UTF-8 address would make the header need SMTPUTF8, also for those that need it for nothing else.
    is_told = recipient and recipient.isascii()
    clause = f"{queue_id}\r\n\tfor <{recipient}>" if is_told else queue_id
    return b"%b%b; %b\r\n" % (origin, clause.encode(), format_date(date))


def _literal(address: str) -> str:
    """RFC 5321 §4.1.3"""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        return f"[{ip.ipv4_mapped}]" if ip.ipv4_mapped else f"[IPv6:{ip}]"
    return f"[{ip}]"
