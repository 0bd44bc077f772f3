"""Nothing that a peer does keeps the event loop from others for 50 ms (the loop's own figures, `testing.loopwatch`).

The machine may be busy with other things. What the loop's thread waits for a CPU is not counted, and of its own work
only CPU time is. But a thread that holds the interpreter's lock may wait for a CPU too, so each load has some tries.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from clients import Imap, Smtp
from serverprocess import DOMAIN, PASSWORD, ServerProcess

from pillarbox.testing.loopwatch import STALL_S, Figures

ACCOUNTS = 320
TRIES = 4
BIG = 9_000_000
MIB = 1024

Load = Callable[[], Awaitable[object]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(tmp_path, ACCOUNTS, "connections_per_address = 1000\n", watched=True)
    made.start()
    yield made
    made.kill()


async def longest_stall(server: ServerProcess, load: Load) -> Figures:
    """Of the best try."""
    record = server.record
    assert record is not None
    best = Figures(stall=60.0)
    for _ in range(TRIES):
        record.reset()
        await asyncio.sleep(0.1)  # what comes before the next beat is not counted
        await load()
        await asyncio.sleep(0.1)
        best = min(best, record.read(), key=lambda figures: max(figures.stall, figures.work))
        if max(best.stall, best.work) < STALL_S:
            break
    assert best.stall < STALL_S, best
    assert best.work < STALL_S, best
    return best


def filled(head: bytes, unit: bytes) -> bytes:
    return head + unit * ((BIG - len(head)) // len(unit)) + b"\r\n"


def hostile_messages() -> list[bytes]:
    multipart = b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n'
    nested = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level)
        for level in range(10_000)
    )
    text = b"\r\n\r\ntext\r\n"
    return [
        filled(multipart, b"--x\r\nContent-Type: text/plain\r\n\r\nhi\r\n"),
        filled(multipart, b"--y\r\n"),
        b"X-Long: y\r\n" * 80_000 + text,
        b"Subject: " + b"x" * 1_000_000 + text,
        nested + b"text\r\n" * 100_000,
        filled(b"", b"Content-Type: message/rfc822\r\n\r\n"),
        filled(b"Subject: x\r\n\r\n", b"x" * 1000),
        filled(b"Subject: x\r\n\r\n", b"\0" * 1000),
        filled(b"Subject: x\r\n\r\n", b"\r\n"),
        filled(b"Subject: x\r\n\r\n", b"..\r\n"),
        b"To: " + b"a@example.org, " * 60_000 + text,
        b"To: " + b"(" * 900_000 + text,
        b"Subject: " + b"=?utf-8?q?=41?= " * 60_000 + text,
    ]


@pytest.mark.slow
def test_senders_of_hostile_mail_stall_nobody(server: ServerProcess) -> None:
    bodies = hostile_messages()

    def send(number: int) -> None:
        """In a thread and in one call, as fast as the server takes it."""
        with socket.create_connection(("127.0.0.1", server.smtp)) as sock, sock.makefile() as lines:
            commands = ("HELO x", "MAIL FROM:<>", f"RCPT TO:<user{number}@{DOMAIN}>", "DATA")
            for command in commands:
                assert lines.readline()[0] == "2"
                sock.sendall(f"{command}\r\n".encode())
            assert lines.readline()[0] == "3"
            sock.sendall(bodies[number] + b".\r\n")
            assert lines.readline()[0] == "2"

    async def load() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(len(bodies)) as threads:
            numbers = range(len(bodies))
            await asyncio.gather(*(loop.run_in_executor(threads, send, n) for n in numbers))

    asyncio.run(longest_stall(server, load))


def test_a_message_for_hundreds_stalls_nobody(server: ServerProcess) -> None:
    recipients = [f"user{number}@{DOMAIN}" for number in range(100)]
    more = [f"user{number}@{DOMAIN}" for number in range(100, ACCOUNTS)]
    body = b"Subject: x\r\n\r\n" + b"The quick brown fox\r\n" * 1000

    async def scenario() -> None:
        smtp = await Smtp.connect(server.smtp)
        turns = iter([recipients, more, recipients, recipients + more])

        async def load() -> None:
            assert (await smtp.send(next(turns), body)).startswith("250")

        await longest_stall(server, load)  # accounts without files
        turns = iter([recipients + more] * TRIES)
        await longest_stall(server, load)

    asyncio.run(scenario())


COMMANDS = (
    "SELECT INBOX",
    "FETCH 1:* (FLAGS)",
    "FETCH 1:* (ENVELOPE BODYSTRUCTURE)",
    "SEARCH ALL",
    "SEARCH UNSEEN TEXT needle",
    "SEARCH RETURN (COUNT) TEXT text",
    "UID SEARCH RETURN (SAVE ALL) TEXT text",
    "FETCH $ (UID)",
    "SEARCH MODSEQ 1",
    "FETCH 1:* (UID) (CHANGEDSINCE 1)",
    "UID SORT RETURN (ALL) (DISPLAYFROM) UTF-8 NOT UID {try}",
    "ESEARCH IN (personal) RETURN (COUNT) FUZZY SUBJECT topic",
    "SEARCH RETURN (COUNT UPDATE) UNKEYWORD word",
    "SORT (SUBJECT) UTF-8 NOT UID {try}",
    "THREAD REFERENCES UTF-8 NOT UID {try}",
    "UID THREAD ORDEREDSUBJECT UTF-8 NOT UID {try}",
    "STORE 1:* FLAGS (\\Flagged)",
    "STORE 1:* FLAGS.SILENT (word)",
    "COPY 1:* Archive",
    "NOOP",
)
"""The order of what was found is kept, so each try finds something else."""


async def ok(client: Imap, command: str) -> None:
    answer = await client.command(command)
    assert answer[-1].startswith(b"OK"), (command, answer[-1])


@pytest.mark.slow
def test_commands_over_a_large_mailbox_stall_nobody(server: ServerProcess) -> None:
    """Nor does telling ten idle sessions of it, and one that comes late."""

    async def scenario() -> None:
        imap = await Imap.connect(server.imap, 0)
        for number in range(250):
            head = b"Subject: topic %d\r\nMessage-ID: <%d@x>\r\n" % (number % 40, number)
            head += b"References: <%d@x>\r\n" % (number // 3)
            await imap.command("APPEND INBOX", head + b"\r\ntext\r\n")
        await imap.command("SELECT INBOX")
        for _ in range(9):  # 128,000 messages
            await imap.command("COPY 1:* INBOX")
        late = await Imap.connect(server.imap, 0)
        await late.command("SELECT INBOX")
        idle = [await Imap.connect(server.imap, 0) for _ in range(10)]
        for each in idle:
            await each.command("SELECT INBOX")
            each.writer.write(b"i IDLE\r\n")
        readers = [asyncio.ensure_future(each.reader.read(-1)) for each in idle]
        tries = count(1)
        for command in COMMANDS:

            async def load(command: str = command) -> None:
                await ok(imap, command.replace("{try}", str(next(tries))))

            await longest_stall(server, load)
        await longest_stall(server, lambda: late.command("NOOP"))
        await late.command("ENABLE QRESYNC")
        for known in ("1", "1 1:*", "1 1:100000 (1,1000 1,1000)"):
            known = known.replace("*", "4294967295")
            status = await late.command("STATUS INBOX (UIDVALIDITY)")
            validity = status[0].rpartition(b" ")[2].decode().rstrip(")\r\n")
            select = f"SELECT INBOX (QRESYNC ({validity} {known}))"
            await longest_stall(server, lambda select=select: ok(late, select))
        odd = ",".join(str(number) for number in range(1, 20_000, 2))[:60_000].rpartition(",")[0]
        await imap.command(f"STORE {odd} FLAGS.SILENT (\\Deleted)")
        await longest_stall(server, lambda: late.command("NOOP"))
        await longest_stall(server, lambda: imap.command("EXPUNGE"))
        await longest_stall(server, lambda: late.command("NOOP"))
        await longest_stall(server, lambda: imap.command("MOVE 1:* Trash"))
        await longest_stall(server, lambda: late.command("NOOP"))
        for each in idle:
            each.close()
        await asyncio.gather(*readers, return_exceptions=True)

    asyncio.run(scenario())


@pytest.mark.slow
def test_news_of_thousands_of_mailboxes_stall_nobody(server: ServerProcess) -> None:
    """RFC 5465: ten sessions with NOTIFY, of an account with 4,000 mailboxes."""
    every = "NOTIFY SET STATUS (selected (MessageNew (UID BODY.PEEK[]) MessageExpunge FlagChange))"
    every += " (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange"
    every += " MailboxMetadataChange ServerMetadataChange))"
    deep = "/".join(f"mailbox{depth}" for depth in range(1, 40))

    async def scenario() -> None:
        imap = await Imap.connect(server.imap, 0)
        for number in range(100):
            await ok(imap, f"CREATE top/x{number}/{deep}")
        others = [await Imap.connect(server.imap, 0) for _ in range(10)]
        for each in others:
            await ok(each, "SELECT INBOX")
        await longest_stall(server, lambda: ok(others[0], every))
        for each in others:
            await ok(each, every)
        readers = [asyncio.ensure_future(each.reader.read(-1)) for each in others]
        names = iter(range(100))
        message = b"Subject: x\r\n\r\ntext\r\n"

        async def rename() -> None:
            number = next(names)
            await ok(imap, f"RENAME top{number or ''} top{number + 1}")
            await asyncio.sleep(2)

        async def come() -> None:
            for _ in range(200):
                await imap.command("APPEND INBOX", message)
            await ok(imap, "SELECT INBOX")
            for _ in range(4):
                await ok(imap, "COPY 1:* INBOX")
            await ok(imap, "STORE 1:* +FLAGS.SILENT (\\Deleted)")
            await ok(imap, "CLOSE")
            await asyncio.sleep(2)

        await longest_stall(server, rename)
        await longest_stall(server, come)
        for each in others:
            each.close()
        await asyncio.gather(*readers, return_exceptions=True)

    asyncio.run(scenario())


def encoded_message(encoding: bytes, body: bytes) -> bytes:
    head = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\n"
    return head + b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body + b"\r\n"


@pytest.mark.slow
def test_large_uploads_and_parts_stall_nobody(server: ServerProcess) -> None:
    """Nor do messages made of a thousand parts, a thousand messages at once, and compression of all that."""
    urls = b" ".join([b"URL /INBOX/;UID=4/;SECTION=HEADER/;PARTIAL=9000000.1"] * 300)
    uploads = {
        "many parts": b"CATENATE (TEXT {4+}\r\nA: b " + urls + b")",
        "many messages": b"{4+}\r\nA: b" + b" {4+}\r\nA: b" * 999,
        "binary": b"~{%d+}\r\n%b" % (BIG, encoded_message(b"binary", bytes(BIG))[:BIG]),
    }
    messages = (
        encoded_message(b"base64", filled(b"", b"QUJD" * 19 + b"\r\n")[: BIG - 200]),
        encoded_message(b"quoted-printable", filled(b"", b"=41=0A" * 12 + b"=\r\n")[: BIG - 200]),
        encoded_message(b"quoted-printable", b"=41" * ((BIG - 200) // 3)),
        filled(b"", b"X: y\r\n"),
    )
    fetches = (
        "FETCH 1:3 (BINARY.SIZE[1])",
        "FETCH 1:3 (BINARY.PEEK[1]<4000000.100>)",
        "FETCH 1:3 (BINARY.PEEK[1])",
        "FETCH 1:4 (BODY.PEEK[])",
        'SETMETADATA "" (/private/vendor/x/y {0+}\r\n)',
        'LIST () "" * RETURN (STATUS (MESSAGES DELETED-STORAGE))',
    )

    async def scenario() -> None:
        imap = await Imap.connect(server.imap, 0)
        for message in messages:
            await imap.command("APPEND INBOX", message)
        await imap.command("SELECT INBOX")
        for upload in uploads.values():
            text = "APPEND Drafts " + upload.decode("latin-1")
            await longest_stall(server, lambda text=text: ok(imap, text))
        for command in fetches:
            await longest_stall(server, lambda command=command: ok(imap, command))

    asyncio.run(scenario())


def test_many_fetches_and_fetches_of_many_sections_stall_nobody(server: ServerProcess) -> None:
    tiny_fields = b"a:\r\n" * 100_000 + b"\r\nb\r\n"
    usual = b"".join(b"X%d: some words in a field\r\n" % number for number in range(120))
    lists = " ".join(f"BODY.PEEK[HEADER.FIELDS (X{number})]" for number in range(100))
    parts = " ".join(f"BODY.PEEK[]<{number}.300000>" for number in range(100))

    async def scenario() -> None:
        imap = await Imap.connect(server.imap, 0)
        await imap.command("APPEND INBOX", tiny_fields)
        await imap.command("APPEND INBOX", b"Subject: x\r\n\r\n" + b"y" * 400_000 + b"\r\n")
        for _ in range(200):
            await imap.command("APPEND Archive", usual + b"\r\ntext\r\n")
        await ok(imap, "SELECT INBOX")
        await longest_stall(server, lambda: ok(imap, f"FETCH 1 ({lists})"))
        await longest_stall(server, lambda: ok(imap, f"FETCH 2 ({parts})"))

        async def pipeline(command: bytes) -> None:
            imap.writer.write(b"".join(b"p%d %b\r\n" % (number, command) for number in range(64)))
            await imap.reader.readuntil(b"p63 OK")
            await imap.reader.readline()

        await longest_stall(server, lambda: pipeline(b"FETCH 1 BODY.PEEK[HEADER.FIELDS (X1)]"))
        await ok(imap, "SELECT Archive")
        fetch = b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (X9)]"
        await longest_stall(server, lambda: pipeline(fetch))

    asyncio.run(scenario())


FALLING = (
    "\u035d\u035c\u0315\u0301\u0323\u1dfa\u0f74\u0f72\u0eb8\u0e48\u0e38\u0670\u0652\u0651\u0650\u05c2\u05bb"
    "\u05b8\u05b4\u05b0\u094d\u3099\u093c\u0334"
)
"""Marks of falling combining class: each one that is put in order goes before all others."""


def test_texts_that_are_hard_to_compare_stall_nobody(server: ServerProcess) -> None:
    """In what is looked for, in all mailboxes and in each new message, and in mail."""
    long = "".join(mark * 1250 for mark in FALLING).encode()
    words = b" ".join([b"%d" % number for number in range(150_000)])
    mail = b"From: %b <%b@x>\r\nTo: %b@x\r\nSubject: %b\r\n\r\n" % (
        *(long[:2000], long[:25_000], long[:25_000]), long[:8000],
    )  # fmt: skip

    async def scenario() -> None:
        smtp = await Smtp.connect(server.smtp)
        imap = await Imap.connect(server.imap, 0)
        await ok(imap, "SELECT INBOX")

        async def ask(command: str, text: bytes, answer: bytes = b"OK") -> None:
            assert (await imap.command(command, text))[-1].startswith(answer)

        async def come() -> None:
            for _ in range(3):
                assert (await smtp.send([f"user0@{DOMAIN}"], mail)).startswith("250")
                await ok(imap, "NOOP")

        await longest_stall(server, come)
        for command, text, answer in (
            ("SEARCH CHARSET UTF-8 BODY", long, b"OK"),
            ("ESEARCH IN (personal) RETURN (COUNT) CHARSET UTF-8 FUZZY SUBJECT", long, b"OK"),
            ("SEARCH CHARSET UTF-8 BODY", long * 14, b"NO [LIMIT]"),
            ("SEARCH BODY", b"\xc3\x9f" * 500_000, b"NO [LIMIT]"),
            ("SEARCH FUZZY BODY", words, b"NO [LIMIT]"),
            ("SEARCH FUZZY BODY", words[:60_000], b"BAD"),
            ("SEARCH FUZZY BODY", words[:23_000], b"OK"),
        ):
            await longest_stall(server, partial(ask, command, text, answer))
        await ask("SEARCH RETURN (UPDATE COUNT) CHARSET UTF-8 NOT TEXT", long)
        await longest_stall(server, come)

    asyncio.run(scenario())


def test_commands_that_are_refused_stall_nobody(server: ServerProcess) -> None:
    """As many as a connection reads ahead while a password is verified: none of them is bad, so none ends it."""
    count = 12_000
    flood = b"b SELECT {1+}\r\n\xff\r\n" * count
    accounts = iter(range(ACCOUNTS))  # each password is hashed once only

    async def load() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.imap)
        await reader.readline()
        writer.write(f"a LOGIN user{next(accounts)}@{DOMAIN} {PASSWORD}\r\n".encode() + flood)
        assert (await reader.readline()).startswith(b"a OK ")
        for _ in range(count):
            assert (await reader.readline()).startswith(b"b NO [CANNOT] ")
        writer.close()

    asyncio.run(longest_stall(server, load))


@pytest.mark.slow
def test_opening_and_closing_many_connections_stalls_nobody(server: ServerProcess) -> None:
    async def load() -> None:
        ports = (server.smtp, server.imap, server.pop3)
        made = [
            await asyncio.open_connection("127.0.0.1", ports[number % 3], limit=512)
            for number in range(800)
        ]
        for _, writer in made:
            writer.transport.abort()

    asyncio.run(longest_stall(server, load))


@pytest.mark.parametrize(
    "flood",
    [
        b"x" * 65536,
        b"NOOP\r\n" * 10000,
        b"\0" * 65536,
        b"\r\n" * 30000,
        b"a APPEND INBOX {99999999999}\r\n" * 100,
        b"EHLO x\r\n" * 8000,
    ],
)
def test_floods_end_and_stall_nobody(server: ServerProcess, flood: bytes) -> None:
    async def pour(port: int) -> None:
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with suppress(TimeoutError):  # answers to many errors come later and later
                async with asyncio.timeout(1.5):
                    while True:
                        writer.write(flood)
                        await writer.drain()
            writer.transport.abort()
        except ConnectionError:
            return

    async def load() -> None:
        ports = (server.smtp, server.imap, server.pop3, server.submission)
        await asyncio.gather(*(pour(port) for port in ports))

    asyncio.run(longest_stall(server, load))
    assert server.pss_kib() < 120 * MIB
