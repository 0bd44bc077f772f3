"""Mail for other hosts from whoever may not send it: every port, every way to write or to claim it."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest
from attacked import PLAIN, Attacked, attacked

from pillarbox.config.schema import Smtp

FAR = b"victim@far.example"
SENDERS = (
    b"s@example.net",
    b"",
    b"alice@example.test",
    b"mailer-daemon@example.test",
    b"x@[127.0.0.1]",
)
FORMS = (
    b"victim@far.example",
    b"VICTIM@FAR.EXAMPLE.",
    b"victim%far.example@example.test",
    b"victim%far.example@[127.0.0.1]",
    b"victim%far.example@mail.example.test",
    b"victim%far.example",
    b"victim@far.example@example.test",
    b"far.example!victim@example.test",
    b"example.test!far.example!victim",
    b"example.test!victim@far.example",
    b"@example.test:victim@far.example",
    b"@example.test,@mail.example.test:victim@far.example",
    b"@[127.0.0.1]:victim@far.example",
    b'"victim@far.example"@example.test',
    b'"victim@far.example"@mail.example.test',
    b'"victim@far.example"@[127.0.0.1]',
    b'"victim@far.example"',
    b'"victim%far.example"@example.test',
    b'"alice@example.test"@far.example',
    b'"alice@example.test\\ "@far.example',
    b'"bob"%far.example@example.test',
    b"alice@example.test,victim@far.example",
    b"alice@example.test> <victim@far.example",
    b"alice@example.test>,<victim@far.example",
    b"alice@example.test\0@far.example",
    b"alice@example.test\r@far.example",
    b"victim@far.example\nRCPT TO:<alice@example.test",
    b"victim@far.example(alice@example.test)",
    b"(alice@example.test)victim@far.example",
    b"victim+alice@example.test@far.example",
    b"alice+victim@far.example",
    b"alice+@far.example@example.test",
    b"victim@[127.0.0.1]",
    b"alice@[127.0.0.1]",
    b"alice@[IPv6:::1]",
    b"alice@2130706433",
    b"alice@localhost",
    b"alice@sub.example.test",
    b"alice@xexample.test",
    b"alice@example.test.far.example",
    b"alice@.example.test",
    b"alice@example..test",
    b"postmaster@far.example",
    b"postmaster%far.example",
    b"*@example.test",
    b"@example.test",
    b"@far.example",
    b"|victim@example.test",
    b"/victim@example.test",
    b":include:victim@example.test",
    b"mailto:victim@far.example",
)
"""Each of these means somebody elsewhere, or nobody."""


def run(folder: Path, work: Callable[[Attacked], Awaitable[None]], **options: object) -> None:
    async def main() -> None:
        async with attacked(folder, **options) as server:  # type: ignore[arg-type]
            await work(server)
            assert not await asyncio.to_thread(queued, folder)

    asyncio.run(main())


def queued(folder: Path) -> int:
    """Rows of mail to other hosts."""
    connection = apsw.Connection(str(folder / "data" / "queue.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.execute("SELECT count(*) FROM outgoing").fetchall()[0][0])
    finally:
        connection.close()


async def whole(server: Attacked, service: str, *lines: bytes, source: str = "127.0.0.1") -> bytes:
    """All that is said to these lines, sent at once."""
    wire = await server.connect(service, source)
    wire.send(b"\r\n".join((*lines, b"QUIT", b"")))
    return await wire.rest()


def takes(said: bytes) -> bool:
    """Whether a recipient was accepted."""
    return b"250 2.1.5" in said or b"\n354" in said


@pytest.mark.parametrize("service", ["smtp", "lmtp", "submission", "submissions"])
def test_no_way_to_write_an_address_relays(tmp_path: Path, service: str) -> None:
    """Percent hack, bang paths, source routes, quotes, literals: the answer is no, or is about our own users."""

    async def work(server: Attacked) -> None:
        hello = b"LHLO x" if service == "lmtp" else b"EHLO x"
        for form in FORMS:
            said = await whole(
                server,
                service,
                hello,
                b"MAIL FROM:<s@example.net>",
                b"RCPT TO:<%b>" % form,
                b"DATA",
            )
            assert b"\r\n5" in said, form
            assert not takes(said), (form, said)
        said = await whole(server, service, hello, b"MAIL FROM:<>", b"RCPT TO:<alice@example.test>")
        assert takes(said) == (service in ("smtp", "lmtp")), "else this shows nothing"

    run(tmp_path, work)


def test_no_sender_and_no_claim_relays(tmp_path: Path) -> None:
    """Neither a sender of ours or none at all, nor what somebody says about himself."""
    claims: tuple[tuple[bytes, ...], ...] = (
        (b"EHLO localhost",),
        (b"EHLO [127.0.0.1]",),
        (b"EHLO mail.example.test",),
        (b"HELO example.test",),
        (b"LHLO example.test",),
        (b"XCLIENT ADDR=127.0.0.1 NAME=localhost",),
        (b"XCLIENT LOGIN=alice@example.test",),
        (b"XFORWARD ADDR=127.0.0.1",),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 25 25",),
        (
            b"\r\n\r\n\0\r\nQUIT\n"
            + struct.pack("!BBH4s4sHH", 0x21, 0x11, 12, b"\x7f\0\0\1", b"\x7f\0\0\1", 1, 25),
        ),
        (b"AUTH PLAIN", b"*"),
        (b"AUTH EXTERNAL =",),
        (b"AUTH ANONYMOUS dHJhY2U=",),
        (b"AUTH PLAIN " + PLAIN[:-4],),
        (b"ETRN far.example",),
        (b"TURN",),
        (b"SEND FROM:<alice@example.test>",),
        (b"SOML FROM:<alice@example.test>",),
    )

    async def work(server: Attacked) -> None:
        for claim in claims:
            for sender in SENDERS:
                for parameter in (b"", b" AUTH=alice@example.test"):
                    mail = b"MAIL FROM:<%b>%b" % (sender, parameter)
                    said = await whole(
                        server, "smtp", *claim, b"EHLO x", mail, b"RCPT TO:<%b>" % FAR, b"DATA"
                    )
                    assert b"\r\n5" in said, (claim, sender)
                    assert not takes(said), (claim, sender, said)

    run(tmp_path, work, lab=False, smtp=Smtp(error_delay="0s", trusted_networks=["192.0.2.0/24"]))


@pytest.mark.parametrize("version", [1, 2])
def test_a_client_behind_a_proxy_is_not_the_proxy(tmp_path: Path, version: int) -> None:
    """The proxy's address is trusted, its clients are not; a second header of theirs is a command like any other."""

    def header(client: str) -> bytes:
        if version == 1:
            return f"PROXY TCP4 {client} 127.0.0.1 4711 25\r\n".encode()
        addresses = bytes(map(int, f"{client}.127.0.0.1".split(".")))
        return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(
            "!BBH8sHH", 0x21, 0x11, 12, addresses, 4711, 25
        )

    async def work(server: Attacked) -> None:
        mail = (b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<%b>" % FAR, b"DATA")
        for claim in (b"", header("127.0.0.1")):
            first = header("198.51.100.1") + claim + mail[0]
            assert not takes(await whole(server, "smtp", first, *mail[1:]))
        ours = header("127.0.0.1") + mail[0]
        assert takes(await whole(server, "smtp", ours, *mail[1:3])), "else this shows nothing"
        assert await whole(server, "smtp", *mail) == b"", "a header is never guessed to be missing"
        said = await whole(server, "smtp", ours, *mail[1:], source="127.0.0.2")
        assert b"\r\n5" in said, "nobody else is a proxy"
        assert not takes(said)

    run(
        tmp_path,
        work,
        security={"proxy_protocol_from": ["127.0.0.1"]},
        smtp=Smtp(error_delay="0s", trusted_networks=["127.0.0.1"]),
    )


def test_a_client_behind_a_proxy_may_not_speak_for_others_because_the_proxy_may(
    tmp_path: Path,
) -> None:
    async def work(server: Attacked) -> None:
        said = await whole(
            server,
            "smtp",
            b"PROXY TCP4 198.51.100.1 127.0.0.1 4711 25\r\nEHLO x",
            b"XCLIENT ADDR=127.0.0.1 LOGIN=alice@example.test",
            b"EHLO x",
            b"MAIL FROM:<>",
            b"RCPT TO:<%b>" % FAR,
            b"DATA",
        )
        assert b"XCLIENT" not in said
        assert not takes(said)

    run(
        tmp_path,
        work,
        security={"proxy_protocol_from": ["127.0.0.1"]},
        smtp=Smtp(error_delay="0s", xclient_from=["127.0.0.1"]),
    )


def test_who_logged_in_sends_as_oneself_only(tmp_path: Path) -> None:
    """Else an account would be a relay for any name."""

    async def work(server: Attacked) -> None:
        wire = await server.smtp("submission")
        assert (await wire.ask(b"AUTH PLAIN " + PLAIN)).startswith(b"235")
        for sender in (
            b"bob@example.test",
            b"x@far.example",
            b"bob%example.test@example.test",
            b"@example.test:bob@example.test",
            b'"alice@example.test"@far.example',
            b"alice@sub.example.test",
            b"postmaster@example.test",
        ):
            answer = await wire.ask(b"MAIL FROM:<%b>" % sender)
            assert answer[:1] == b"5", (sender, answer)
        await wire.ask(b"MAIL FROM:<alice@example.test>")
        assert (await wire.ask(b"RCPT TO:<bob@example.test>")).startswith(b"250")
        assert (await wire.ask(b"DATA")).startswith(b"354")
        forged = (
            b"From: bob@example.test\r\nFrom: alice@example.test\r\nSubject: x\r\n\r\ntext\r\n."
        )
        assert (await wire.ask(forged)).startswith(b"5")

    run(tmp_path, work)
