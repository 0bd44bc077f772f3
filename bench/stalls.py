"""`python -m bench.stalls [NAME...]`: how long the event loop keeps others waiting under work that is made to be heavy.

Each row is one load on a server that runs under `pillarbox.testing.loopwatch`; see there for what the figures mean.
With `--real-time` (root), the server and the load run before all other programs of the machine.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.load import DOMAIN
from bench.pillarbox_server import PillarboxServer
from bench.process import wait_for_port
from pillarbox.auth.passwords import hash_password
from pillarbox.core.dates import pack_date
from pillarbox.core.secret import Secret
from pillarbox.store import appending, mailboxes, messages
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.directory import Directory
from pillarbox.store.store import Store
from pillarbox.store.tx import Tx
from pillarbox.testing.loopwatch import Record

ACCOUNTS = 1100
MANY = 48_000
MORE = 100_000
MAILBOXES = 9_900
BIG = 9_000_000
PORTS = {"smtp": 14525, "imap": 14143, "pop3": 14110, "submission": 14587}
FOLDER = Path(__file__).with_name(".peer")
PREPARED = FOLDER / "stalls"

console = Console(width=200)


# Hostile messages


def _filled(head: bytes, unit: bytes, tail: bytes = b"\r\n") -> bytes:
    return head + unit * ((BIG - len(head)) // len(unit)) + tail


def _nested(levels: int) -> bytes:
    pieces = [b"Subject: nested\r\n"]
    for level in range(levels):
        pieces.append(
            b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level)
        )
    return b"".join(pieces) + b"\r\ntext\r\n" * 1000


def hostile_messages() -> dict[str, bytes]:
    """Messages of up to 9 MB, each made to be hard in another way."""
    multipart = b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n'
    return {
        "parts": _filled(multipart, b"--x\r\nContent-Type: text/plain\r\n\r\nhi\r\n"),
        "empty parts": _filled(multipart, b"--x\r\n"),
        "almost delimiters": _filled(multipart, b"--y\r\n"),
        "header lines": b"X-Long: y\r\n" * 95_000 + b"\r\ntext\r\n",
        "header of 9 MB": _filled(b"", b"X-Long: yyyyyyyyyyyyyyyyyyyyyy\r\n"),
        "one field of 9 MB": _filled(b"X-Long: y\r\n", b" yyyyyy\r\n"),
        "a line of 1 MB": b"Subject: " + b"x" * 1_000_000 + b"\r\n\r\ntext\r\n",
        "nested": _nested(10_000),
        "rfc822": _filled(b"", b"Content-Type: message/rfc822\r\n\r\n"),
        "no line ends": _filled(b"Subject: x\r\n\r\n", b"x" * 1000),
        "NUL": _filled(b"Subject: x\r\n\r\n", b"\0" * 1000),
        "empty lines": _filled(b"Subject: x\r\n\r\n", b"\r\n"),
        "addresses": b"To: " + b"a@example.org, " * 65_000 + b"b@example.org\r\n\r\ntext\r\n",
        "comments": b"To: " + b"(" * 900_000 + b"\r\n\r\ntext\r\n",
        "encoded words": b"Subject: " + b"=?utf-8?q?=41?= " * 60_000 + b"\r\n\r\ntext\r\n",
        "references": b"References: " + b"<a@b> " * 160_000 + b"\r\n\r\ntext\r\n",
        "base64": _filled(
            b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n",
            b"PGI+" * 19 + b"\r\n",
        ),
        "html": _filled(b"Content-Type: text/html\r\n\r\n", b"<script <style <!-- &amp; "),
        "parts with headers": _filled(
            multipart,
            b"--x\r\n" + b"Content-Type: text/plain; a=b\r\nTo: a@b, c@d\r\n" * 60 + b"\r\nhi\r\n",
        ),
        "dots": _filled(b"Subject: x\r\n\r\n", b"..\r\n"),
        "plain": _filled(b"Subject: x\r\n\r\n", b"The quick brown fox jumps over it\r\n"),
    }


# What is there before


def _message(number: int) -> bytes:
    before = number - 1 if number % 10 else 0
    references = b"References: <%d@example.org>\r\n" % before if before else b""
    return (
        b"From: Sender %d <sender%d@example.org>\r\nTo: user@example.test\r\nSubject: Re: report %d\r\n"
        b"Date: Mon, 23 Nov 2026 10:00:%02d +0000\r\nMessage-ID: <%d@example.org>\r\n%b\r\n"
        b"Text of a usual message, with the word needle%d in it.\r\n"
        % (number % 97, number % 97, number // 10, number % 60, number, references, number)
    )


def _append_all(items: list[Append], tx: Tx) -> None:
    for item in items:
        appending.append(tx, item)


async def _fill(store: Store, account: int, count: int) -> None:
    date = pack_date(int(time.time()))
    for start in range(1, count + 1, 1000):
        items = [
            Append(mailboxes.INBOX, make_content(_message(number)), date)
            for number in range(start, min(start + 1000, count + 1))
        ]
        await store.write(account, partial(_append_all, items))


def _copy_up_to(tx: Tx, mailbox: int, target: int, count: int) -> None:
    left = count
    while left > 0:
        sources, _ = messages.copy(tx, mailbox, [(1, min(left, 1000))], target)
        left -= len(sources)


async def _prepare_store(data: Path) -> None:
    store = Store(data)
    await _fill(store, 1, MANY)

    def more(tx: Tx) -> None:
        target = mailboxes.create(tx, ("More",)).id
        _copy_up_to(tx, mailboxes.INBOX, target, MORE)

    await store.write(1, more)
    names = [(f"folder {n // 100}", f"sub {n}") for n in range(MAILBOXES - 100)]

    def folders(tx: Tx) -> None:
        for name in names:
            mailboxes.create(tx, name)
            mailboxes.subscribe(tx, name)

    await store.write(2, folders)
    await _fill(store, 3, 1000)

    def pop(tx: Tx) -> None:
        _copy_up_to(tx, mailboxes.INBOX, mailboxes.INBOX, MORE - 1000)

    await store.write(3, pop)
    await store.close()


def prepare() -> None:
    """Accounts and mail, made once."""
    if (PREPARED / "done").exists():
        return
    shutil.rmtree(PREPARED, ignore_errors=True)
    data = PREPARED / "data"
    data.mkdir(parents=True)
    directory = Directory(data / "directory.db", clock=time.time)
    directory.add_domain(DOMAIN)
    hashed = hash_password(Secret("password"))
    for number in range(ACCOUNTS):
        directory.add_account(f"user{number}@{DOMAIN}", *hashed)
    directory.close()
    asyncio.run(_prepare_store(data))
    (PREPARED / "done").touch()


# Clients


class Client:
    """Lines over a socket, for any of the protocols."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> "Client":
        made = cls(*await asyncio.open_connection(*address, limit=1 << 27))
        await made.reader.readline()
        return made

    async def imap(self, command: bytes, literal: bytes = b"") -> bytes:
        """All of the answer."""
        self.writer.write(b"a " + command)
        if literal:
            self.writer.write(b" {%d+}\r\n" % len(literal) + literal)
        self.writer.write(b"\r\n")
        answer = bytearray()
        while True:
            answer += await self.reader.read(1 << 20)
            last = answer.rfind(b"\na ") + 1
            if (last or answer.startswith(b"a ")) and answer.endswith(b"\r\n"):
                assert answer[last + 2 : last + 4] == b"OK", bytes(answer[-200:])
                return bytes(answer)

    async def smtp(self, line: bytes) -> bytes:
        self.writer.write(line + b"\r\n")
        while True:
            answer = await self.reader.readline()
            if answer[3:4] == b" ":
                return answer

    async def pop3(self, line: bytes, multi: bool = False) -> bytes:
        self.writer.write(line + b"\r\n")
        answer = await self.reader.readline()
        assert answer.startswith(b"+OK"), answer
        if multi:
            answer = await self.reader.readuntil(b"\r\n.\r\n")
        return answer

    async def send(self, recipients: list[int], message: bytes) -> bytes:
        lines = [b"RCPT TO:<user%d@%b>" % (each, DOMAIN.encode()) for each in recipients]
        self.writer.write(b"\r\n".join([b"MAIL FROM:<s@example.net>", *lines, b"DATA"]) + b"\r\n")
        for _ in range(len(lines) + 2):
            answer = await self.reader.readline()
            assert answer[:1] in b"23", answer
        self.writer.write(message if message.endswith(b"\r\n") else message + b"\r\n")
        await self.writer.drain()
        return await self.smtp(b".")

    def close(self) -> None:
        self.writer.close()


class Rig:
    """A server under watch, and how to reach it."""

    def __init__(self, server: PillarboxServer, record: Record) -> None:
        self.server = server
        self.record = record

    async def login(self, user: int, mailbox: bytes = b"") -> Client:
        client = await Client.connect(self.server.imap)
        await client.imap(b"LOGIN user%d@%b password" % (user, DOMAIN.encode()))
        if mailbox:
            await client.imap(b"SELECT " + mailbox)
        return client

    async def measure(self, name: str, work: Awaitable[object]) -> None:
        await asyncio.sleep(0.2)
        self.record.reset()
        await asyncio.sleep(0.02)
        begin = time.perf_counter()
        slowest = asyncio.ensure_future(self._slowest_noop())
        try:
            await work
            await asyncio.sleep(0.05)
        finally:
            took = time.perf_counter() - begin
            slowest.cancel()
        figures = self.record.read()
        console.print(
            f"{name:44} stall {figures.stall * 1e3:7.1f}  work {figures.work * 1e3:7.1f}"
            f"  blocked {figures.blocked * 1e3:7.1f}  late {figures.late * 1e3:7.1f}"
            f"  queued {figures.queued * 1e3:6.1f}  stalls {figures.stalls:4}  CAPA {self.noop * 1e3:6.1f}"
            f"  in {took:.2f} s"
        )

    async def _slowest_noop(self) -> None:
        self.noop = 0.0
        client = await Client.connect(self.server.pop3)
        while True:
            begin = time.perf_counter()
            await client.pop3(b"CAPA", multi=True)
            self.noop = max(self.noop, time.perf_counter() - begin)
            await asyncio.sleep(0.003)


async def _all(*works: Coroutine[Any, Any, object]) -> None:
    await asyncio.gather(*works)


# Loads


async def _senders(rig: Rig, count: int) -> None:
    bodies = list(hostile_messages().values())

    async def one(number: int) -> None:
        client = await Client.connect(rig.server.smtp)
        await client.smtp(b"EHLO x")
        for turn in range(max(1, 20 // count)):
            await client.send([10 + number], bodies[(number + turn * count) % len(bodies)])
        client.close()

    await rig.measure(f"{count} senders of hostile mail", _all(*map(one, range(count))))


async def senders10(rig: Rig) -> None:
    await _senders(rig, 10)


async def senders50(rig: Rig) -> None:
    await _senders(rig, 50)


async def hostile(rig: Rig) -> None:
    """One after another."""
    for name, body in hostile_messages().items():
        client = await Client.connect(rig.server.smtp)
        await client.smtp(b"EHLO x")
        await rig.measure(f"hostile: {name}", client.send([5], body))
        client.close()


async def submit(rig: Rig) -> None:
    """The same, submitted."""
    from base64 import b64encode

    for name, body in hostile_messages().items():
        client = await Client.connect(rig.server.submission)
        await client.smtp(b"EHLO x")
        await client.smtp(b"AUTH PLAIN " + b64encode(b"\0user5@%b\0password" % DOMAIN.encode()))

        async def send(client: Client = client, body: bytes = body) -> None:
            await client.smtp(b"MAIL FROM:<user5@example.test>")
            await client.smtp(b"RCPT TO:<user5@example.test>")
            await client.smtp(b"DATA")
            client.writer.write(body if body.endswith(b"\r\n") else body + b"\r\n")
            await client.smtp(b".")

        await rig.measure(f"submitted: {name}", send())
        client.close()


async def recipients(rig: Rig) -> None:
    client = await Client.connect(rig.server.smtp)
    await client.smtp(b"EHLO x")
    everybody = list(range(100, 1100))
    small = _message(1)
    await rig.measure("1,000 recipients, new accounts", client.send(everybody, small))
    await rig.measure("1,000 recipients", client.send(everybody, small))
    middle = b"Subject: x\r\n\r\n" + b"The quick brown fox\r\n" * 2500
    await rig.measure("1,000 recipients of 50 KB", client.send(everybody, middle))
    large = b"Subject: x\r\n\r\n" + b"The quick brown fox\r\n" * 30_000
    await rig.measure("100 recipients of 600 KB", client.send(everybody[:100], large))

    async def ten() -> None:
        clients = [await Client.connect(rig.server.smtp) for _ in range(10)]
        for each in clients:
            await each.smtp(b"EHLO x")
        await asyncio.gather(*(each.send(everybody, small) for each in clients))

    await rig.measure("10 x 1,000 recipients", ten())


async def select(rig: Rig) -> None:
    client = await rig.login(0)
    await rig.measure(f"SELECT of {MANY}", client.imap(b"SELECT INBOX"))
    await rig.measure(f"SELECT of {MORE}", client.imap(b"SELECT More"))
    await rig.measure("STATUS", client.imap(b"STATUS More (MESSAGES RECENT UNSEEN)"))


async def fetch(rig: Rig) -> None:
    client = await rig.login(0, b"More")
    for items in (
        b"FLAGS",
        b"(UID FLAGS)",
        b"ALL",
        b"BODY.PEEK[]",
        b"BODY.PEEK[HEADER.FIELDS (SUBJECT X-NOT)]",
        b"BODY",
    ):
        await rig.measure(f"FETCH 1:* {items.decode()}", client.imap(b"FETCH 1:* " + items))
    odd = b",".join(b"%d" % n for n in range(1, 20_000, 2))[:65_000].rpartition(b",")[0]
    await rig.measure("FETCH of 10,000 ranges", client.imap(b"FETCH " + odd + b" FLAGS"))


async def search(rig: Rig) -> None:
    client = await rig.login(0, b"INBOX")
    for key in (
        b"ALL",
        b"SEEN",
        b"KEYWORD x",
        b"SINCE 1-Jan-2020",
        b"SENTSINCE 1-Jan-2020",
        b"LARGER 10",
        b"NOT DELETED",
        b"SUBJECT report",
        b"FROM sender",
        b"HEADER X-Not x",
        b"HEADER Message-ID x",
        b"BODY needle77",
        b"TEXT needle77",
        b"OR SUBJECT x TEXT needle5",
        b"NEW",
        b"1:*",
        b"UID 1:*",
    ):
        command = b"SEARCH CHARSET UTF-8 " + key
        await rig.measure(f"SEARCH {key.decode()}", client.imap(command))
    ranges = b",".join(b"%d" % n for n in range(1, 20_000, 2))[:65_000].rpartition(b",")[0]
    await rig.measure("SEARCH of 10,000 ranges", client.imap(b"SEARCH " + ranges))
    await rig.measure("SEARCH NOT of 10,000 ranges", client.imap(b"SEARCH NOT UID " + ranges))


async def sort(rig: Rig) -> None:
    client = await rig.login(0, b"INBOX")
    for key in (b"SUBJECT", b"DATE", b"FROM REVERSE DATE", b"SIZE ARRIVAL TO CC"):
        await rig.measure(
            f"SORT {key.decode()}",
            client.imap(b"SORT (%b) UTF-8 ALL" % key),
        )
    await client.imap(b"SELECT More")
    await rig.measure(f"SORT SUBJECT of {MORE}", client.imap(b"SORT (SUBJECT) UTF-8 ALL"))


async def thread(rig: Rig) -> None:
    client = await rig.login(0, b"INBOX")
    for algorithm in (b"REFERENCES", b"ORDEREDSUBJECT"):
        await rig.measure(
            f"THREAD {algorithm.decode()}",
            client.imap(b"THREAD %b UTF-8 ALL" % algorithm),
        )
        await rig.measure(
            f"UID THREAD {algorithm.decode()}",
            client.imap(b"UID THREAD %b UTF-8 ALL" % algorithm),
        )
    await client.imap(b"SELECT More")
    await rig.measure(f"THREAD of {MORE}", client.imap(b"THREAD REFERENCES UTF-8 ALL"))


async def change(rig: Rig) -> None:
    client = await rig.login(0, b"More")
    behind = await rig.login(0, b"More")
    idle = [await rig.login(0, b"More") for _ in range(20)]
    for each in idle:
        each.writer.write(b"i IDLE\r\n")
        await each.reader.readline()
    await rig.measure("STORE 1:* +FLAGS", client.imap(b"STORE 1:* +FLAGS (\\Seen)"))
    await rig.measure("  behind: NOOP", behind.imap(b"NOOP"))
    await rig.measure(
        "STORE 1:* +FLAGS.SILENT keyword", client.imap(b"STORE 1:* +FLAGS.SILENT (x)")
    )
    odd = b",".join(b"%d" % n for n in range(1, 20_000, 2))[:65_000].rpartition(b",")[0]
    await rig.measure(
        "STORE 10,000 ranges", client.imap(b"STORE " + odd + b" +FLAGS.SILENT (\\Flagged)")
    )
    await rig.measure("  behind: NOOP", behind.imap(b"NOOP"))
    await rig.measure("COPY 1:*", client.imap(b"COPY 1:* Archive"))
    await rig.measure("COPY 10,000 ranges", client.imap(b"COPY " + odd + b" Archive"))
    await rig.measure("MOVE 10,000 ranges", client.imap(b"MOVE " + odd + b" Trash"))
    await rig.measure("  behind: NOOP", behind.imap(b"NOOP"))
    await rig.measure("MOVE 1:*", client.imap(b"MOVE 1:* Trash"))
    await rig.measure("  behind: NOOP", behind.imap(b"NOOP"))
    await client.imap(b"SELECT Trash")
    await client.imap(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
    await rig.measure("EXPUNGE", client.imap(b"EXPUNGE"))
    await client.imap(b"SELECT Archive")
    await client.imap(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
    await rig.measure("CLOSE", client.imap(b"CLOSE"))
    await rig.measure("RENAME INBOX", client.imap(b"RENAME INBOX Old"))
    await rig.measure("DELETE", client.imap(b"DELETE Old"))
    for each in (client, behind, *idle):
        each.close()


async def far_behind(rig: Rig) -> None:
    """A session that is told of nothing while another makes many changes."""
    behind = await rig.login(0, b"INBOX")
    client = await rig.login(0, b"INBOX")
    odd = b",".join(b"%d" % n for n in range(1, 20_000, 2))[:65_000].rpartition(b",")[0]
    even = b",".join(b"%d" % n for n in range(2, 20_000, 2))[:65_000].rpartition(b",")[0]
    for flag in (b"\\Seen", b"\\Flagged", b"\\Answered", b"x", b"y"):
        await client.imap(b"STORE " + odd + b" +FLAGS.SILENT (%b)" % flag)
        await client.imap(b"STORE " + even + b" +FLAGS.SILENT (%b)" % flag)
    await rig.measure("far behind: flags, NOOP", behind.imap(b"NOOP"))
    few = b",".join(b"%d" % n for n in range(1, 10_000, 2))
    for _ in range(4):
        await client.imap(b"STORE " + few + b" +FLAGS.SILENT (\\Deleted)")
        await client.imap(b"EXPUNGE")
    await rig.measure("far behind: expunges, NOOP", behind.imap(b"NOOP"))
    await client.imap(b"SELECT More")
    for _ in range(2):
        await client.imap(b"COPY 1:* INBOX")
    await rig.measure("far behind: new, NOOP", behind.imap(b"NOOP"))


async def mailboxes_(rig: Rig) -> None:
    client = await rig.login(1)
    for command in (
        b'LIST "" *',
        b'LIST "" %',
        b'LSUB "" *',
        b'LSUB "" %',
        b'LIST "" *9*',
        b'RENAME "folder 1" "other 1"',
    ):
        await rig.measure(command.decode(), client.imap(command))


async def append(rig: Rig) -> None:
    client = await rig.login(6, b"INBOX")
    for name, body in hostile_messages().items():
        await rig.measure(f"APPEND {name}", client.imap(b"APPEND INBOX", body))
    for items in (
        b"BODY.PEEK[]",
        b"BODY.PEEK[]<4000000.4000000>",
        b"BODY.PEEK[TEXT]",
        b"BODYSTRUCTURE",
        b"BODY",
        b"ENVELOPE",
        b"BODY.PEEK[HEADER.FIELDS.NOT (X)]",
        b"BODY.PEEK[1.MIME]",
        b"BODY.PEEK[1999]",
    ):
        await rig.measure(
            f"FETCH of hostile: {items.decode()}",
            client.imap(b"FETCH 1:* " + items),
        )
    for key in (b"BODY needle", b"TEXT needle", b"SUBJECT x", b"HEADER X-LONG z"):
        await rig.measure(f"SEARCH of hostile: {key.decode()}", client.imap(b"SEARCH " + key))


async def pop3(rig: Rig) -> None:
    client = await Client.connect(rig.server.pop3)
    await client.pop3(b"USER user2@" + DOMAIN.encode())
    await rig.measure(f"POP3 login to {MORE}", client.pop3(b"PASS password"))
    await rig.measure("LIST", client.pop3(b"LIST", multi=True))
    await rig.measure("UIDL", client.pop3(b"UIDL", multi=True))

    async def delete() -> None:
        client.writer.write(b"".join(b"DELE %d\r\n" % n for n in range(1, MORE + 1)))
        for _ in range(MORE):
            await client.reader.readline()

    await rig.measure("DELE of all", delete())
    await rig.measure("RSET", client.pop3(b"RSET"))
    await delete()
    await rig.measure("QUIT", client.pop3(b"QUIT"))


async def connections(rig: Rig) -> None:
    made: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    addresses = (rig.server.smtp, rig.server.imap, rig.server.pop3)

    async def open_all() -> None:
        for number in range(5000):
            source = f"127.{1 + number // 60000}.{number // 250 % 250}.{1 + number % 250}"
            made.append(
                await asyncio.open_connection(
                    *addresses[number % 3], local_addr=(source, 0), limit=512
                )
            )

    async def close_all() -> None:
        for _, writer in made:
            writer.transport.abort()
        await asyncio.sleep(1)

    await rig.measure("5,000 connections open", open_all())
    await rig.measure("5,000 connections close", close_all())


async def logins(rig: Rig) -> None:
    async def wrong(number: int) -> None:
        client = await Client.connect(rig.server.imap)
        client.writer.write(b"a LOGIN user%d@example.test wrong\r\n" % number)
        await client.reader.readline()
        client.close()

    async def flood() -> None:
        await asyncio.gather(*(wrong(number) for number in range(190)))

    await rig.measure("190 wrong logins at once", flood())


async def floods(rig: Rig) -> None:
    for name, data in {
        "xxx": b"x" * 65536,
        "NOOP": b"NOOP\r\n" * 10000,
        "NUL": b"\0" * 65536,
        "CRLF": b"\r\n" * 30000,
        "APPEND": b"a APPEND INBOX {99999999999}\r\n" * 100,
        "EHLO": b"EHLO x\r\n" * 8000,
    }.items():

        async def pour(address: tuple[str, int], data: bytes = data) -> None:
            try:
                _, writer = await asyncio.open_connection(*address)
                end = time.monotonic() + 1.5
                while time.monotonic() < end:
                    writer.write(data)
                    await writer.drain()
                writer.close()
            except ConnectionError:
                return

        server = rig.server
        ports = (server.smtp, server.imap, server.pop3, server.submission)
        await rig.measure(f"flood: {name}", _all(*map(pour, ports)))


async def mixed(rig: Rig) -> None:
    """Usual deliveries and reading beside heavy work."""

    async def deliver(number: int) -> None:
        client = await Client.connect(rig.server.smtp)
        await client.smtp(b"EHLO x")
        for turn in range(100):
            await client.send([20 + number], _message(turn + 1))
        client.close()

    async def heavy() -> None:
        client = await rig.login(0, b"INBOX")
        await client.imap(b"SEARCH TEXT needle77")

    async def both() -> None:
        await asyncio.gather(heavy(), *(deliver(number) for number in range(10)))

    await rig.measure("1,000 deliveries", _all(*(deliver(number) for number in range(10))))
    await rig.measure("1,000 deliveries beside SEARCH TEXT", both())

    async def hostile_beside() -> None:
        client = await Client.connect(rig.server.smtp)
        await client.smtp(b"EHLO x")
        for body in list(hostile_messages().values())[:6]:
            await client.send([7], body)

    async def beside() -> None:
        await asyncio.gather(hostile_beside(), *(deliver(number) for number in range(10)))

    await rig.measure("1,000 deliveries beside hostile mail", beside())


LOADS: dict[str, Callable[[Rig], Awaitable[None]]] = {
    each.__name__.rstrip("_"): each
    for each in (
        senders10, senders50, hostile, submit, recipients, select, fetch, search, sort, thread, far_behind, change,
        mailboxes_, append, pop3, connections, logins, floods, mixed,
    )
}  # fmt: skip


def _run(name: str, real_time: bool, stacks: str) -> None:
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    server = PillarboxServer(folder / "server", 0)
    process = None
    try:
        server.folder.mkdir()
        for service, port in PORTS.items():
            setattr(server, service, ("127.0.0.1", port))
        server.configure()
        subprocess.run(
            ["cp", "-a", "--reflink=auto", str(PREPARED / "data"), str(server.folder)], check=True
        )
        record = Record(folder / "record")
        first = ["chrt", "-f", "10"] if real_time else []
        process = subprocess.Popen(
            [*first, sys.executable, "-m", "pillarbox.testing.loopwatch", str(server.folder / "pillarbox.toml"),
             str(folder / "record"), *([stacks] if stacks else [])],
            stdout=(FOLDER / "stalls.out").open("wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        wait_for_port(server.imap[1])
        wait_for_port(server.pop3[1])
        asyncio.run(LOADS[name](Rig(server, record)))  # type: ignore[arg-type]
    finally:
        if process is not None:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(LOADS)))
@click.option("--real-time", is_flag=True, help="before all other programs (root)")
@click.option("--stacks", default="", metavar="FILE", help="where the stacks of late turns go")
def main(names: tuple[str, ...], real_time: bool, stacks: str) -> None:
    """Milliseconds: `stall` is what sessions waited, but for a busy machine; `work` the most of our own in a turn."""
    FOLDER.mkdir(exist_ok=True)
    prepare()
    if real_time:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(11))
    for name in names or LOADS:
        _run(name, real_time, stacks)


if __name__ == "__main__":
    main()
