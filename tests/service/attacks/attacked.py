"""A whole server with every port, on the loop of the test, and a plain connection to say anything to it."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import argon2

from pillarbox.app.server import Server
from pillarbox.auth.passwords import hash_password
from pillarbox.config.schema import Config, Listen, Security, Smtp
from pillarbox.core.secret import Secret
from pillarbox.store import mailboxes, messages
from pillarbox.store.store import Store

SERVICES = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")
TLS_SERVICES = ("submissions", "imaps", "pop3s")
ALICE, BOB, PASSWORD = "alice@example.test", "bob@example.test", "correct horse"
PLAIN = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode())


@cache
def _hashes(*, quick: bool) -> tuple[str, str]:
    if not quick:
        return hash_password(Secret(PASSWORD))
    return hash_password(
        Secret(PASSWORD), argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    )


class Wire:
    """One connection, octets as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def line(self) -> bytes:
        """The next line, with its end; b"" at the end of all."""
        return await asyncio.wait_for(self.reader.readline(), 20)

    async def ask(self, line: bytes) -> bytes:
        """Send a line; the last line of the reply in SMTP, the tagged one in IMAP."""
        self.writer.write(line + b"\r\n")
        return await self.reply()

    async def reply(self) -> bytes:
        while True:
            line = await self.line()
            if not line or not (line[3:4] == b"-" or line.startswith(b"* ")):
                return line.rstrip(b"\r\n")

    async def rest(self) -> bytes:
        """All until the server closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), 20)
        except ConnectionError:
            return b""

    async def start_tls(self) -> None:
        await self.writer.start_tls(trusting_all())

    def close(self) -> None:
        self.writer.close()


def trusting_all() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Attacked:
    """The server; alice and bob have accounts."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def store(self) -> Store:
        assert self.server.store is not None
        return self.server.store

    def port(self, service: str) -> int:
        return self.server.addresses[service][0][1]

    async def connect(self, service: str, source: str = "127.0.0.1", *, tls: bool = True) -> Wire:
        """Not greeted yet; `tls`: with the handshake where a port begins with it."""
        context = trusting_all() if tls and service in TLS_SERVICES else None
        return Wire(
            *await asyncio.open_connection(
                "127.0.0.1", self.port(service), ssl=context, local_addr=(source, 0), limit=1 << 22
            )
        )

    async def greeted(self, service: str, source: str = "127.0.0.1") -> Wire:
        wire = await self.connect(service, source)
        assert (await wire.line())[:3] in (b"220", b"* O", b"+OK")
        return wire

    async def smtp(self, service: str = "smtp", source: str = "127.0.0.1") -> Wire:
        """Past EHLO."""
        wire = await self.greeted(service, source)
        verb = b"LHLO" if service == "lmtp" else b"EHLO"
        assert (await wire.ask(verb + b" client.example.net")).startswith(b"250")
        return wire

    async def imap(self, user: str = ALICE, service: str = "imap") -> Wire:
        """Logged in."""
        wire = await self.greeted(service)
        answer = await wire.ask(b'l LOGIN "%b" "%b"' % (user.encode(), PASSWORD.encode()))
        assert answer.startswith(b"l OK"), answer
        return wire

    async def inbox(self, user: str = BOB) -> list[bytes]:
        """All messages, whole."""
        account = self.store.directory.account(user)
        assert account is not None

        def work(tx):  # type: ignore[no-untyped-def]
            rows = messages.select(
                tx,
                mailboxes.INBOX,
                [(1, messages.MOST_UIDS)],
                ("header", "content", "size"),
            )
            return [header + messages.body(tx, content, 0, size) for header, content, size in rows]

        return await self.store.read(account.id, work)


@asynccontextmanager
async def attacked(
    folder: Path,
    *,
    smtp: Smtp | None = None,
    security: Mapping[str, object] | None = None,
    lab: bool = True,
    quick: bool = True,
) -> AsyncIterator[Attacked]:
    """`lab`: logins without TLS. `quick`: hashes of passwords take no time."""
    server = Server(
        Config(
            "mail.example.test",
            str(folder / "data"),
            listen=Listen(**{service: ["127.0.0.1:0"] for service in SERVICES}),
            smtp=smtp or Smtp(error_delay="0s"),
            security=Security(allow_cleartext_login=lab, **(security or {})),  # type: ignore[arg-type]
        ),
        failure_delay_s=0,
        sends=False,
    )
    await server.start()
    try:
        made = Attacked(server)
        made.store.directory.add_domain("example.test")
        for address in (ALICE, BOB):
            made.store.directory.add_account(address, *_hashes(quick=quick))
        yield made
    finally:
        await server.stop(0)
