"""A real SMTP server on loopback, in a thread of its own, and a plain client for it."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pillarbox.auth.login import Authenticator
from pillarbox.auth.passwords import hash_password
from pillarbox.core.secret import Secret
from pillarbox.net.admission import Admission
from pillarbox.net.connection import Connection
from pillarbox.net.listener import Listeners, bind
from pillarbox.net.service import Service
from pillarbox.net.session import Session
from pillarbox.net.tap import Said, Tap
from pillarbox.net.tls import server_context
from pillarbox.outbound.signing import MailSigner
from pillarbox.queue.enqueue import Enqueuer
from pillarbox.queue.notice import Notices
from pillarbox.queue.schedule import Schedule
from pillarbox.smtpd.context import SmtpContext
from pillarbox.smtpd.session import TURNED_AWAY, SmtpSession
from pillarbox.store import messages
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.run import LoginFailures
from pillarbox.store.spool import SpoolRoom
from pillarbox.store.store import Store

PASSWORD = "correct horse"
HOSTNAME = "mail.example.test"
LIMIT = 40_000_000


class Server:
    """Domain example.test with alice, bob and carol."""

    def __init__(self, folder: Path, keys: Path, credentials: tuple[str, str], lab: bool) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}
        self.client_tls = ssl.create_default_context(cafile=str(keys / "ca.pem"))
        self._tls = server_context(keys / "cert.pem", keys / "key.pem")
        self._credentials = credentials
        self._lab = lab
        self.said: list[Said] | None = None
        """What somebody sees who looks on at sessions that begin."""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._main()])
        self._thread.start()
        assert self._ready.wait(10)

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self.store = Store(self.folder)
        directory = self.store.directory
        directory.add_domain("example.test")
        self.accounts = {
            name: directory.add_account(f"{name}@example.test", *self._credentials).id
            for name in ("alice", "bob", "carol")
        }
        failures = LoginFailures(self.folder / "run.db", clock=lambda: 1)
        authenticator = Authenticator(directory, failures, failure_delay_s=0)
        self.room = SpoolRoom(self.folder)
        self.queue = OutgoingQueue(self.folder / "queue.db", clock=time.time)
        enqueuer = Enqueuer(
            self.queue,
            lambda address: address.partition("@")[2],
            Schedule(),
            lambda: None,
            MailSigner(self.store),
        )
        self.notices = Notices(self.store, enqueuer, HOSTNAME, time.time, lambda: 7)
        self.context = SmtpContext(
            self.store, authenticator, HOSTNAME, LIMIT, self._lab, self.room, self.notices
        )
        listeners = Listeners(Admission(100, 100))
        for name in ("smtp", "submission", "submissions", "lmtp"):
            sock = bind("127.0.0.1:0")
            self.ports[name] = sock.getsockname()[1]
            service = Service(
                name,
                self._new_session,
                TURNED_AWAY,
                name == "submissions",
                lambda: self._tls,
            )
            await listeners.listen(sock, service)
        self._ready.set()
        await self._stop.wait()
        await listeners.close(5)
        self.queue.close()
        await self.store.close()
        authenticator.close()
        failures.close()

    def _new_session(self, connection: Connection) -> Session:
        session = SmtpSession(connection, self.context)
        if self.said is None:
            return session
        said = self.said
        return Tap(connection, session, lambda _tap, line: said.append(line), lambda _tap: None)

    def call(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(20)

    def inbox(self, name: str) -> list[bytes]:
        """All messages of an account, whole."""

        def work(tx):
            rows = messages.select(tx, 1, [(1, messages.MOST_UIDS)], ("header", "content", "size"))
            return [header + messages.body(tx, content, 0, size) for header, content, size in rows]

        return self.call(lambda: self.store.read(self.accounts[name], work))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._loop.close()
        assert self.room.used == 0


class Client:
    """Sends lines, reads replies."""

    def __init__(self, server: Server, service: str = "smtp", tls: bool = False) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.ports[service]), timeout=10)
        self._server = server
        if service == "submissions":
            self._wrap()
        self.file = self.socket.makefile("rb")
        is_lmtp = service == "lmtp"
        assert self.reply() == f"220 {HOSTNAME} {'LMTP' if is_lmtp else 'ESMTP'} Pillarbox"
        self.ask("LHLO client.example.net" if is_lmtp else "EHLO client.example.net")
        if tls:
            assert self.ask("STARTTLS").startswith("220 ")
            self._wrap()
            self.file = self.socket.makefile("rb")
            self.ask("EHLO client.example.net")

    def _wrap(self) -> None:
        self.socket = self._server.client_tls.wrap_socket(self.socket, server_hostname="localhost")

    def reply(self) -> str:
        """The next reply, its lines joined; '' at the end."""
        lines = []
        while line := self.file.readline().decode():
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                break
        return "\n".join(lines)

    def ask(self, line: str | bytes) -> str:
        self.socket.sendall((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.reply()

    def send(self, octets: bytes, sender: str = "s@example.net", *recipients: str) -> str:
        """A whole transaction; `octets` are sent as they are, then CRLF.CRLF's dot. The last reply."""
        self.ask(f"MAIL FROM:<{sender}>")
        for recipient in recipients or ("bob@example.test",):
            reply = self.ask(f"RCPT TO:<{recipient}>")
            assert reply.startswith("250 "), reply
        assert self.ask("DATA").startswith("354 ")
        return self.ask(octets + b".")

    def login(self, name: str = "alice", password: str = PASSWORD) -> str:
        import base64

        token = base64.b64encode(f"\0{name}@example.test\0{password}".encode()).decode()
        return self.ask(f"AUTH PLAIN {token}")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(folder / "cert.pem"), append=True)
    return folder


@pytest.fixture(scope="session")
def credentials() -> tuple[str, str]:
    return hash_password(Secret(PASSWORD))


@pytest.fixture
def server(tmp_path: Path, keys: Path, credentials: tuple[str, str]) -> Iterator[Server]:
    server = Server(tmp_path, keys, credentials, lab=False)
    yield server
    server.close()


@pytest.fixture
def lab(tmp_path: Path, keys: Path, credentials: tuple[str, str]) -> Iterator[Server]:
    """With allow_cleartext_login."""
    server = Server(tmp_path, keys, credentials, lab=True)
    yield server
    server.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """`connect(server, service, tls)`: a client past EHLO."""
    clients: list[Client] = []

    def connect(server: Server, service: str = "smtp", tls: bool = False) -> Client:
        clients.append(Client(server, service, tls))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()
