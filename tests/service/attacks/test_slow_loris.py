"""Clients that keep a connection open and say nothing that ends, octet by octet, on every port and in every state.

Time runs faster for the server once all of them are where they want to be.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from attacked import PLAIN, SERVICES, TLS_SERVICES, Attacked, Wire, attacked

from pillarbox.net import connection as connection_module
from pillarbox.net import patience
from pillarbox.net.connection import Connection

FASTER = 600
HALF_HANDSHAKE = b"\x16\x03\x01\x10\x00\x01\x00\x0f\xfc\x03\x03" + bytes(3000)
HALF_PROXY = b"PROXY TCP4 192.0.2.7 127.0.0.1 " + b"0" * 70

Way = Callable[[Attacked, str], Awaitable[Wire]]


def after(*lines: bytes) -> Way:
    """Past the greeting and these lines, each with its answer; each goes as it is, without a line end of ours."""

    async def go(server: Attacked, service: str) -> Wire:
        wire = await server.greeted(service)
        for line in lines:
            wire.send(line)
            answer = await wire.reply()
            assert answer[:1] in b"23+" or b" OK " in answer, (line, answer)
        return wire

    return go


async def untouched(server: Attacked, service: str) -> Wire:
    """Not even a handshake."""
    return await server.connect(service, tls=False)


SMTP_LOGIN = (b"EHLO x\r\n", b"AUTH PLAIN " + PLAIN + b"\r\n")
MAIL = (b"MAIL FROM:<alice@example.test>\r\n", b"RCPT TO:<bob@example.test>\r\n")
IMAP_LOGIN = (b'a LOGIN alice@example.test "correct horse"\r\n',)
POP3_LOGIN = (b"USER alice@example.test\r\n", b"PASS correct horse\r\n")

ANY = b"x"
STATES: dict[str, tuple[tuple[str, ...], Way, bytes | tuple[bytes, ...]]] = {
    "silence": (SERVICES, after(), b""),
    "before the handshake": (TLS_SERVICES, untouched, b""),
    "half a handshake": (TLS_SERVICES, untouched, HALF_HANDSHAKE),
    "half a command": (SERVICES, after(), ANY),
    "smtp: after EHLO": (("smtp", "submission", "submissions"), after(b"EHLO x\r\n"), ANY),
    "smtp: half a handshake": (
        ("smtp", "submission"),
        after(b"EHLO x\r\n", b"STARTTLS\r\n"),
        HALF_HANDSHAKE,
    ),
    "smtp: AUTH": (
        ("submission", "submissions"),
        after(b"EHLO x\r\n", b"AUTH PLAIN\r\n"),
        b"A",
    ),
    "smtp: AUTH LOGIN": (
        ("submission",),
        after(b"EHLO x\r\n", b"AUTH LOGIN\r\n", b"YQ==\r\n"),
        b"A",
    ),
    "smtp: logged in": (("submission", "submissions"), after(*SMTP_LOGIN), b""),
    "smtp: MAIL": (("smtp",), after(b"EHLO x\r\n", MAIL[0]), ANY),
    "smtp: RCPT": (("smtp",), after(b"EHLO x\r\n", *MAIL), ANY),
    "smtp: DATA, silence": (("smtp",), after(b"EHLO x\r\n", *MAIL, b"DATA\r\n"), b""),
    "smtp: DATA": (("smtp",), after(b"EHLO x\r\n", *MAIL, b"DATA\r\n"), b"Subject: x\r\n"),
    "smtp: DATA, logged in": (("submissions",), after(*SMTP_LOGIN, *MAIL, b"DATA\r\n"), ANY),
    "smtp: BDAT": (
        ("smtp",),
        after(b"EHLO x\r\n", *MAIL, b"BDAT 3\r\na:b", b"BDAT 4\r\n c\r\n"),
        (b"BDAT 1\r\n", b"x"),
    ),
    "smtp: half a chunk": (
        ("smtp",),
        after(b"EHLO x\r\n", *MAIL, b"NOOP\r\nBDAT 99999999\r\n"),
        ANY,
    ),
    "lmtp: DATA": (("lmtp",), after(b"LHLO x\r\n", *MAIL, b"DATA\r\n"), ANY),
    "imap: half a handshake": (("imap",), after(b"a STARTTLS\r\n"), HALF_HANDSHAKE),
    "imap: AUTHENTICATE": (("imap", "imaps"), after(b"a AUTHENTICATE PLAIN\r\n"), b"A"),
    "imap: a literal of LOGIN": (("imap",), after(b"a LOGIN {4000}\r\n"), ANY),
    "imap: a literal that did not wait": (
        ("imap",),
        after(b"a NOOP\r\nb LOGIN {4000+}\r\n"),
        ANY,
    ),
    "imap: logged in": (("imap", "imaps"), after(*IMAP_LOGIN), ANY),
    "imap: IDLE": (("imap",), after(*IMAP_LOGIN, b"b SELECT INBOX\r\n", b"c IDLE\r\n"), ANY),
    "imap: APPEND": (("imap",), after(*IMAP_LOGIN, b"b APPEND INBOX {900000}\r\n"), ANY),
    "imap: a literal of SEARCH": (
        ("imap",),
        after(*IMAP_LOGIN, b"b SELECT INBOX\r\n", b"c SEARCH TEXT {900000}\r\n"),
        ANY,
    ),
    "imap: COMPRESS": (
        ("imap",),
        after(*IMAP_LOGIN, b"b COMPRESS DEFLATE\r\n"),
        b"\x00\x00\x00\xff\xff",
    ),
    "pop3: half a handshake": (("pop3",), after(b"STLS\r\n"), HALF_HANDSHAKE),
    "pop3: USER": (("pop3", "pop3s"), after(POP3_LOGIN[0]), ANY),
    "pop3: AUTH": (("pop3",), after(b"AUTH PLAIN\r\n"), b"A"),
    "pop3: logged in": (("pop3",), after(*POP3_LOGIN), ANY),
}
"""By name: on which ports, how to get there, and what is sent then, over and over: octet by octet, or in pieces."""


async def drip(wire: Wire, octets: bytes | tuple[bytes, ...]) -> None:
    pieces = octets if isinstance(octets, tuple) else [bytes((octet,)) for octet in octets]
    for piece in itertools.cycle(pieces):
        wire.send(piece)
        await asyncio.sleep(0.02)


async def outlast(wire: Wire, octets: bytes | tuple[bytes, ...]) -> float:
    """Seconds until the server has had enough."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(drip(wire, octets))
    began = loop.time()
    try:
        await wire.rest()
    finally:
        task.cancel()
        wire.close()
    return loop.time() - began


def test_nobody_holds_a_connection_by_dripping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout = Connection._timeout
    speed = 1

    def hurried(connection: Connection) -> float | None:
        seconds = timeout(connection)
        return None if seconds is None else seconds / speed

    monkeypatch.setattr(Connection, "_timeout", hurried)
    monkeypatch.setattr(patience, "LONGEST_NAP_S", 0.05)

    async def main() -> dict[str, float]:
        nonlocal speed
        async with attacked(tmp_path) as server:
            names, ways = [], []
            for name, (services, way, octets) in STATES.items():
                for service in services:
                    names.append(f"{service}: {name}")
                    ways.append((await way(server, service), octets))
            await asyncio.sleep(0.1)
            admission = server.server._admission
            assert admission is not None
            assert len(admission.connections) == len(ways), "all are where they want to be"
            monkeypatch.setattr(patience, "LEAST_RATE", patience.LEAST_RATE * FASTER)
            speed = FASTER
            took = await asyncio.gather(*(outlast(wire, octets) for wire, octets in ways))
            await asyncio.sleep(0.1)
            assert not admission.connections
            return dict(zip(names, took, strict=True))

    for name, seconds in asyncio.run(main()).items():
        # The longest that any of them is awaited is IMAP's autologout: 1800 s.
        assert seconds < 2 * 1800 / FASTER + 2, name


def test_half_a_proxy_header_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "PROXY_HEADER_S", 0.3)

    async def main() -> None:
        async with attacked(tmp_path, security={"proxy_protocol_from": ["127.0.0.1"]}) as server:
            wires = [await server.connect(service, tls=False) for service in SERVICES]
            took = await asyncio.gather(*(outlast(wire, HALF_PROXY) for wire in wires))
            assert max(took) < 3

    asyncio.run(main())
