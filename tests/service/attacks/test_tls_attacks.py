"""Somebody in the middle: commands put in front of the handshake, TLS kept away, a login that leaves without it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from attacked import ALICE, PASSWORD, PLAIN, Attacked, Wire, attacked

START = {"smtp": b"STARTTLS", "submission": b"STARTTLS", "imap": b"a STARTTLS", "pop3": b"STLS"}
HELLO = {"smtp": b"EHLO x", "submission": b"EHLO x", "imap": b"h NOOP", "pop3": b"CAPA"}
INJECTED = {
    "smtp": b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<bob@example.test>\r\n",
    "submission": b"EHLO evil\r\nAUTH PLAIN " + PLAIN + b"\r\n",
    "imap": b'e LOGIN %b "%b"\r\n' % (ALICE.encode(), PASSWORD.encode()),
    "pop3": b"USER %b\r\nPASS %b\r\n" % (ALICE.encode(), PASSWORD.encode()),
}
LOGIN = {
    "smtp": b"AUTH PLAIN " + PLAIN,
    "submission": b"AUTH PLAIN " + PLAIN,
    "imap": b'l LOGIN %b "%b"' % (ALICE.encode(), PASSWORD.encode()),
    "pop3": b"AUTH PLAIN " + PLAIN,
}


def run(folder: Path, work: Callable[[Attacked], Awaitable[None]]) -> None:
    async def main() -> None:
        async with attacked(folder, lab=False) as server:
            await work(server)

    asyncio.run(main())


async def greeted(server: Attacked, service: str) -> Wire:
    wire = await server.greeted(service)
    await wire.ask(HELLO[service])
    if service == "pop3":
        while await wire.line() != b".\r\n":
            pass
    return wire


@pytest.mark.parametrize("service", START)
def test_what_was_put_in_front_of_the_handshake_is_never_carried_out(
    tmp_path: Path, service: str
) -> None:
    """RFC 3207 §4.2, RFC 9051 §6.2.1, RFC 2595 §4: not after it either. The connection ends, or forgets it."""

    async def work(server: Attacked) -> None:
        together = await greeted(server, service)
        together.send(START[service] + b"\r\n" + INJECTED[service])
        said = await together.rest()
        assert said[:1] in (b"5", b"a", b"-"), said
        assert b"OK" not in said.replace(b"BYE", b"")
        for pause_s in (0.0, 0.05):
            behind = await greeted(server, service)
            behind.send(START[service] + b"\r\n")
            assert (await behind.line())[:3] in (b"220", b"a O", b"+OK")
            behind.send(INJECTED[service])
            await asyncio.sleep(pause_s)
            with pytest.raises((OSError, EOFError)):  # what is no handshake ends the connection
                await asyncio.wait_for(behind.start_tls(), 10)
        assert not [row for row in server.server._admission.connections if row.account]  # type: ignore[union-attr]

    run(tmp_path, work)


@pytest.mark.parametrize("service", START)
def test_what_was_said_before_tls_does_not_count_behind_it(tmp_path: Path, service: str) -> None:
    async def work(server: Attacked) -> None:
        wire = await greeted(server, service)
        before = {
            "smtp": b"MAIL FROM:<evil@example.net>",
            "submission": b"RSET",
            "imap": b'i ID ("name" "evil")',
            "pop3": b"NOOP",
        }[service]
        await wire.ask(before)
        assert (await wire.ask(START[service]))[:3] in (b"220", b"a O", b"+OK")
        await wire.start_tls()
        if service in ("smtp", "submission"):
            assert (await wire.ask(b"RCPT TO:<bob@example.test>")).startswith(b"503")
            assert (await wire.ask(b"MAIL FROM:<>")).startswith(b"503"), "EHLO comes first, again"

    run(tmp_path, work)


@pytest.mark.parametrize("service", START)
def test_nobody_logs_in_without_tls_however_the_offer_was_changed(
    tmp_path: Path, service: str
) -> None:
    """The right password is refused, nothing offers a login, and no client is asked for a password."""

    async def work(server: Attacked) -> None:
        wire = await greeted(server, service)
        offers = {
            "smtp": b"EHLO x\r\n",
            "submission": b"EHLO x\r\n",
            "imap": b"c CAPABILITY\r\n",
            "pop3": b"CAPA\r\n",
        }[service]
        wire.send(offers + (b"QUIT\r\n" if service != "imap" else b"d LOGOUT\r\n"))
        said = await wire.rest()
        assert not re.search(rb"AUTH[ =]|\n(SASL|USER|APOP)\b", said), said
        assert (b"LOGINDISABLED" in said) == (service == "imap")
        for login in (LOGIN[service], LOGIN[service].partition(PLAIN)[0].strip(), b"USER alice"):
            wire = await greeted(server, service)
            answer = await wire.ask(login)
            assert answer[:1] not in (b"2", b"3", b"+"), answer
            assert b" OK" not in answer

    run(tmp_path, work)
