"""What a client says never becomes a header field, a line of another's protocol, or a line of the log."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from attacked import ALICE, PLAIN, Attacked, attacked

from pillarbox.app.log import JsonLines, LineHandler
from pillarbox.config.schema import Smtp

OUR_FIELDS = {b"return-path", b"delivered-to", b"received", b"subject", b"date", b"message-id"}
ENDS = (b"\r", b"\n", b"\r\n ", b"\0", b"\x0b", b"\x0c", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8")
"""What some program or other takes for the end of a line."""


def run(folder: Path, work: Callable[[Attacked], Awaitable[None]], **options: object) -> None:
    async def main() -> None:
        async with attacked(folder, **options) as server:  # type: ignore[arg-type]
            await work(server)

    asyncio.run(main())


def fields(message: bytes) -> list[bytes]:
    """Names of the fields, lower case; any octet that may end a line ends one here."""
    header = message.partition(b"\r\n\r\n")[0]
    lines = re.split(rb"\r\n|[\r\n\0\x0b\x0c\x85]|\xe2\x80[\xa8\xa9]", header)
    return [line.partition(b":")[0].lower() for line in lines if line[:1] not in (b" ", b"\t")]


async def send(server: Attacked, service: str, *lines: bytes) -> bytes:
    """A session of these lines, refused or not, then the message; its last reply."""
    wire = await server.greeted(service)
    for line in lines:
        await wire.ask(line)
    answer = await wire.ask(b"DATA")
    if answer.startswith(b"354"):
        answer = await wire.ask(b"Subject: x\r\n\r\ntext\r\n.")
    wire.close()
    return answer


HELLO = b"EHLO client.example"
FROM, TO = b"MAIL FROM:<s@example.net>", b"RCPT TO:<bob@example.test>"
NOTIFY = b" NOTIFY=SUCCESS ORCPT=rfc822;"

SESSIONS: dict[str, tuple[str, tuple[bytes, ...]]] = {
    "EHLO": ("smtp", (b"EHLO a%bX-Evil: 1", FROM, TO)),
    "EHLO behind a literal": ("smtp", (b"EHLO [192.0.2.1] %bX-Evil: 1", FROM, TO)),
    "HELO": ("smtp", (b"HELO a%bX-Evil:1", FROM, TO)),
    "LHLO": ("lmtp", (b"LHLO a%bX-Evil:1", FROM, TO)),
    "sender": ("smtp", (HELLO, b'MAIL FROM:<"a%bX-Evil: 1"@example.net>', TO)),
    "sender, unquoted": ("smtp", (HELLO, b"MAIL FROM:<a%bX-Evil:1@example.net>", TO)),
    "sender in UTF-8": (
        "smtp",
        (HELLO, b'MAIL FROM:<"\xc3\xa4%bX-Evil: 1"@example.net> SMTPUTF8', TO),
    ),
    "quoted pair": ("smtp", (HELLO, b'MAIL FROM:<"a\\%bX-Evil: 1"@example.net>', TO)),
    "sender's domain": ("smtp", (HELLO, b"MAIL FROM:<a@example.net%bX-Evil:1>", TO)),
    "source route": ("smtp", (HELLO, b"MAIL FROM:<@a%bX-Evil:1,@b:a@example.net>", TO)),
    "tag": ("smtp", (HELLO, FROM, b'RCPT TO:<"bob+%bX-Evil: 1"@example.test>')),
    "recipient": ("smtp", (HELLO, FROM, b"RCPT TO:<bob%bX-Evil:1@example.test>")),
    "ENVID": ("smtp", (HELLO, FROM + b" ENVID=a%bX-Evil:1", TO + NOTIFY + b"a")),
    "AUTH": (
        "submission",
        (HELLO, b"AUTH PLAIN " + PLAIN, b"MAIL FROM:<alice@example.test> AUTH=a%bX-Evil:1", TO),
    ),
}
"""By what is hostile: the port, and a session with "%b" for what may end a line."""


@pytest.mark.parametrize("where", SESSIONS)
def test_no_argument_of_smtp_makes_a_field(tmp_path: Path, where: str) -> None:
    service, lines = SESSIONS[where]

    async def work(server: Attacked) -> None:
        for end in ENDS:
            await send(server, service, *(line.replace(b"%b", end) for line in lines))
        await send(server, service, *(line.replace(b"%b", b"") for line in lines))
        for message in await server.inbox():
            assert set(fields(message)) <= OUR_FIELDS, message
            assert b"\0" not in message

    run(tmp_path, work)


def test_what_xclient_and_a_proxy_say_makes_no_field(tmp_path: Path) -> None:
    async def work(server: Attacked) -> None:
        for end in (*ENDS, b"+0D+0A", b"+0A", b"+00", b"+C2+85"):
            for attribute in (b"HELO=a%bX-Evil:1", b"NAME=a%bX-Evil:1", b"LOGIN=a%bX-Evil:1"):
                wire = await server.smtp()
                await wire.ask(b"XCLIENT " + attribute.replace(b"%b", end))
                for line in (HELLO, FROM, TO, b"DATA"):
                    answer = await wire.ask(line)
                if answer.startswith(b"354"):
                    await wire.ask(b"Subject: x\r\n\r\ntext\r\n.")
                wire.close()
        for message in await server.inbox():
            assert set(fields(message)) <= OUR_FIELDS, message

    run(tmp_path, work, smtp=Smtp(error_delay="0s", xclient_from=["127.0.0.1"]))


def test_wishes_make_no_field_of_a_notice(tmp_path: Path) -> None:
    """ENVID and ORCPT are xtext, in which CR and LF could be meant (RFC 3461 §4)."""
    login = (HELLO, b"AUTH PLAIN " + PLAIN)
    sender = b"MAIL FROM:<alice@example.test>"

    async def work(server: Attacked) -> None:
        wire = await server.greeted("submission")
        for line in login:
            await wire.ask(line)
        for evil in (b"a+0D+0AX-Evil:+201", b"a+0AX", b"a+0DX", b"+00"):
            assert (await wire.ask(sender + b" ENVID=" + evil)).startswith(b"501")
            await wire.ask(sender)
            assert (await wire.ask(TO + NOTIFY + evil)).startswith(b"501")
            await wire.ask(b"RSET")
        wire.close()
        evil = b"X-Evil:+201+20--+20X-Evil:" * 3
        wishes = (sender + b" ENVID=" + evil, TO + NOTIFY + evil)
        assert (await send(server, "submission", *login, *wishes)).startswith(b"250")
        (notice,) = await server.inbox(ALICE)
        assert b"Original-Envelope-Id: X-Evil: 1" in notice
        assert not re.search(rb"[\r\n]X-Evil", notice)

    run(tmp_path, work)


def test_smuggled_ends_of_data_end_nothing(tmp_path: Path) -> None:
    """Only CRLF.CRLF ends a message; what others may take for it is refused or stays within (RFC 5321 §4.1.1.4)."""
    hidden = b"MAIL FROM:<s@example.net>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nsmuggled\r\n.\r\n"

    async def work(server: Attacked) -> None:
        for end in (
            b"\n.\n",
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r.\r\n",
            b"\r\n.\r",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
        ):
            wire = await server.smtp()
            for line in (FROM, TO, b"DATA"):
                await wire.ask(line)
            wire.send(b"Subject: x\r\n\r\ntext" + end + hidden)
            await wire.reply()
            wire.close()
        await asyncio.sleep(0.1)
        for message in await server.inbox():
            assert not message.partition(b"\r\n\r\n")[2].startswith(b"smuggled")

    run(tmp_path, work)


HOSTILE_NAMES = (
    b"a\r\nz9 OK evil",
    b"a\nz9 OK evil",
    b"a\rz9 OK evil",
    b'a" z9 OK evil',
    b"a\\",
    b"{9}",
    b"NIL",
)


def test_nothing_stored_makes_a_line_of_imap(tmp_path: Path) -> None:
    """What is in names, annotations, keywords and messages comes back quoted, or as a literal, or was refused."""
    header = (
        b'From: a\rz9 OK evil <b\\"@c>\r\nSubject: "}\\ {3}\r\n z9 OK evil\r\nMessage-ID: <a"\\>\r\n'
        b'Content-Type: text/plain; name="a\\"\rz9 OK evil"; charset={9}\r\n\r\nz9 OK evil\r\n'
    )

    async def work(server: Attacked) -> None:
        imap = await server.imap()
        commands = [
            *(b"CREATE {%d+}\r\n%b" % (len(name), name) for name in HOSTILE_NAMES),
            *(b"SUBSCRIBE {%d+}\r\n%b" % (len(name), name) for name in HOSTILE_NAMES),
            *(
                b"SETMETADATA INBOX (/private/comment {%d+}\r\n%b)" % (len(name), name)
                for name in HOSTILE_NAMES
            ),
            *(b'ID ("name" {%d+}\r\n%b)' % (len(name), name) for name in HOSTILE_NAMES),
            b"APPEND INBOX ({4}) {%d+}\r\n%b" % (len(header), header),
            b"APPEND INBOX {%d+}\r\n%b" % (len(header), header),
            b'LIST "" *',
            b'LSUB "" *',
            b"GETMETADATA INBOX /private/comment",
            b"SELECT INBOX",
            b'STORE 1 +FLAGS (a\\"b)',
            b"STORE 1 +FLAGS (]evil[)",
            b"FETCH 1 (FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)])",
            b"SEARCH CHARSET {12+}\r\na\r\nz9 OK evi TEXT x",
            b"THREAD REFERENCES UTF-8 ALL",
            b"GETACL INBOX",
        ]
        for number, command in enumerate(commands):
            tag = b"t%d" % number
            imap.send(tag + b" " + command + b"\r\n")
            while True:
                line = await imap.line()
                assert line, command
                assert not line.startswith(b"z9 "), (command, line)
                while literal := re.search(rb"\{(\d+)\}\r\n$", line):
                    await imap.reader.readexactly(int(literal[1]))
                    line = await imap.line()
                if line.startswith(tag + b" "):
                    break

    run(tmp_path, work)


def test_strangers_write_no_line_of_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("pillarbox")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers[:] = [LineHandler(), LineHandler(JsonLines().format)]
    forged = b"a\r\n2026-11-27T00:00:00.000Z INFO pillarbox.auth: forged"

    async def work(server: Attacked) -> None:
        imap = await server.greeted("imap")
        for line in (
            b"a LOGIN {%d+}\r\n%b x" % (len(forged), forged),
            b'b ID ("name" {%d+}\r\n%b)' % (len(forged), forged),
            b"c AUTHENTICATE PLAIN AGENYg==",
        ):
            imap.send(line + b"\r\n")
            await imap.reply()
        pop3 = await server.greeted("pop3")
        await pop3.ask(b"USER a\x1b[2J\rforged")
        await pop3.ask(b"PASS x")
        smtp = await server.smtp()
        for line in (
            b"EHLO a\x1b[2J\rforged",
            b'MAIL FROM:<"\\\x7f"@b>',
            FROM,
            b"RCPT TO:<\nforged@x>",
        ):
            await smtp.ask(line)
        await asyncio.sleep(0.05)

    run(tmp_path, work)
    shown = capsys.readouterr().err
    assert "forged" in shown
    assert "\x1b" not in shown
    for line in shown.splitlines():
        assert re.match(r'\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ pillarbox|\{"time":', line), line
        assert not line.endswith(": forged"), line
