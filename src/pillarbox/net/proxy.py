"""The PROXY protocol, versions 1 and 2, as a receiver (HAProxy's proxy-protocol.txt, §2).

A proxy that we trust says first of all, before any TLS, whom it speaks for. Where such a header is expected it must be
there: nothing is guessed, else anybody who got through the proxy could claim to be somebody else. Pure.
"""

import ipaddress
import struct
from dataclasses import dataclass

LONGEST_V1 = 107
"""Octets of the line with its CRLF (§2.1)."""
LARGEST_V2 = 16 + 4096
"""Octets of a header with its extensions, which are skipped; real ones have some hundred."""

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_LOCAL, _VERSION_PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


@dataclass(slots=True)
class ProxyHeader:
    """What the header said, and how many octets it took."""

    length: int
    client: tuple[str, int] | None
    """Address and port of who connected to the proxy; None: the proxy speaks for itself (LOCAL, UNKNOWN)."""
    server: tuple[str, int] | None
    """What the client connected to."""


def parse_proxy_header(octets: bytes) -> ProxyHeader | None:
    """The header with which `octets` begin; None: there is more to come. Raises ValueError: there is none.

    Example: `b"PROXY TCP4 192.0.2.1 192.0.2.9 9 25\\r\\n"` -> `ProxyHeader(37, ("192.0.2.1", 9), ("192.0.2.9", 25))`.
    """
    if octets[:12] == _SIGNATURE[: len(octets[:12])]:
        return _parse_v2(octets) if len(octets) >= 16 else None
    end = octets.find(b"\r\n", 0, LONGEST_V1)
    if end < 0:
        if len(octets) < LONGEST_V1 and octets[:6] == b"PROXY "[: len(octets[:6])]:
            return None
        raise ValueError("no PROXY header")
    return _parse_v1(octets[:end])


def _parse_v1(line: bytes) -> ProxyHeader:
    words = line.decode("ascii").split(" ")  # UnicodeDecodeError is a ValueError
    length = len(line) + 2
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return ProxyHeader(length, None, None)
    if len(words) != 6 or words[0] != "PROXY":
        raise ValueError("a malformed PROXY line")
    _, family, source, target, source_port, target_port = words
    parse = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}.get(family)
    if parse is None:
        raise ValueError("a PROXY line for an unknown family")
    return ProxyHeader(
        length,
        (str(parse(source)), _parse_port(source_port)),
        (str(parse(target)), _parse_port(target_port)),
    )


def _parse_port(text: str) -> int:
    if not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise ValueError("a PROXY line with a bad port")
    return int(text)


def _parse_v2(octets: bytes) -> ProxyHeader | None:
    command, family, size = struct.unpack_from("!BBH", octets, 12)
    length = 16 + size
    if command not in (_VERSION_LOCAL, _VERSION_PROXY):
        raise ValueError("a PROXY header of an unknown version or command")
    if length > LARGEST_V2:
        raise ValueError("a PROXY header that is too long")
    if len(octets) < length:
        return None
    if command == _VERSION_LOCAL or family not in (_TCP4, _TCP6):
        return ProxyHeader(length, None, None)  # §2.2: then the connection's own addresses count
    layout = "!4s4sHH" if family == _TCP4 else "!16s16sHH"
    if size < struct.calcsize(layout):
        raise ValueError("a PROXY header that is too short")
    source, target, source_port, target_port = struct.unpack_from(layout, octets, 16)
    return ProxyHeader(
        length,
        (str(ipaddress.ip_address(source)), source_port),
        (str(ipaddress.ip_address(target)), target_port),
    )
