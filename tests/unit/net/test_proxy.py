"""PROXY headers: what they say, and what is none (proxy-protocol.txt §2.1, §2.2)."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.net.proxy import LARGEST_V2, LONGEST_V1, ProxyHeader, parse_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


V4 = ipaddress.ip_address("192.0.2.1").packed + ipaddress.ip_address("192.0.2.9").packed
V6 = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::9").packed
PORTS = struct.pack("!HH", 4711, 25)

HEADERS = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 25\r\n", ("192.0.2.1", 4711), ("192.0.2.9", 25)),
    (
        b"PROXY TCP6 2001:db8::1 2001:db8::9 4711 993\r\n",
        ("2001:db8::1", 4711),
        ("2001:db8::9", 993),
    ),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN what ever 1 2\r\n", None, None),
    (v2(0x21, 0x11, V4 + PORTS), ("192.0.2.1", 4711), ("192.0.2.9", 25)),
    (v2(0x21, 0x21, V6 + PORTS), ("2001:db8::1", 4711), ("2001:db8::9", 25)),
    (v2(0x21, 0x11, V4 + PORTS + b"\x04\0\x03abc"), ("192.0.2.1", 4711), ("192.0.2.9", 25)),
    (v2(0x20, 0x11, V4 + PORTS), None, None),  # LOCAL
    (v2(0x20, 0x00, b""), None, None),
    (v2(0x21, 0x00, b"??"), None, None),  # UNSPEC
    (v2(0x21, 0x31, b"s" * 216), None, None),  # a Unix socket
]


@pytest.mark.parametrize(("octets", "client", "server"), HEADERS)
def test_a_header_tells_both_ends_however_much_of_it_is_there(octets, client, server) -> None:
    for length in range(len(octets)):
        assert parse_proxy_header(octets[:length]) is None
    wanted = ProxyHeader(len(octets), client, server)
    assert parse_proxy_header(octets) == wanted
    assert parse_proxy_header(octets + b"EHLO x\r\n") == wanted


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x\r\n",
        b"PROXY\r\n",
        b"PROXY  \r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 -1\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.9 4711 25\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.9 4711 25\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.9 4711 25\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 \xb2\r\n",
        b"PROXY " + b"x" * LONGEST_V1,
        b"\x16\x03\x01",
        SIGNATURE + b"\x11\x11\0\0",
        SIGNATURE + b"\x22\x11\0\0",
        v2(0x21, 0x11, V4),
        v2(0x21, 0x21, V4 + PORTS),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, LARGEST_V2),
    ],
)
def test_what_is_no_header_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError):
        parse_proxy_header(octets)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(SIGNATURE.__add__))
def test_no_octets_do_worse_than_being_refused(octets: bytes) -> None:
    try:
        header = parse_proxy_header(octets)
    except ValueError:
        return
    assert header is None or 0 < header.length <= len(octets)
