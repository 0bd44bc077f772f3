"""A server in lab mode and a raw POP3 client."""

import asyncio
import fcntl
import socket
from collections.abc import Callable, Iterator
from types import TracebackType

import pytest

from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.maildrop import lock_path
from pillarbox.store.store import Store
from pillarbox.testing import MailServer

ALICE = "alice@example.test"


class Client:
    """Lines in, lines out."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.file = self.socket.makefile("rb")
        assert self.line() == b"+OK Pillarbox ready.\r\n"

    def line(self) -> bytes:
        return self.file.readline()

    def ask(self, command: bytes) -> bytes:
        self.socket.sendall(command + b"\r\n")
        return self.line()

    def ask_lines(self, command: bytes) -> tuple[bytes, list[bytes]]:
        """The first line and the others as they came, without the final dot."""
        first = self.ask(command)
        lines: list[bytes] = []
        while first.startswith(b"+OK") and (line := self.line()) != b".\r\n":
            assert line
            lines.append(line)
        return first, lines

    def log_in(self, user: str = ALICE) -> bytes:
        assert self.ask(b"USER " + user.encode()) == b"+OK\r\n"
        return self.ask(b"PASS pillarbox")

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with MailServer({}, allow_cleartext_login=True) as running:
        yield running


@pytest.fixture
def account(server: MailServer) -> Iterator[int]:
    """alice, with nothing in her maildrop."""
    server.add_account(ALICE)

    async def find(store: Store) -> int:
        found = store.directory.account(ALICE)
        assert found is not None
        return found.id

    number = server.run(find)
    yield number

    async def remove(store: Store) -> None:
        store.directory.remove_account(number)

    server.run(remove)


@pytest.fixture
def put(server: MailServer, account: int) -> Callable[..., None]:
    """Puts messages into the maildrop, octet for octet."""

    def put_all(*messages: bytes) -> None:
        async def append(store: Store) -> None:
            items = [Append(INBOX, make_content(octets), 0) for octets in messages]
            await asyncio.gather(*(store.append(account, item) for item in items))

        server.run(append)

    return put_all


@pytest.fixture
def connect(server: MailServer, account: int) -> Iterator[Callable[[], Client]]:
    """Makes clients; afterwards waits until the maildrop is free."""
    made: list[Client] = []

    def new() -> Client:
        made.append(Client((server.host, server.ports["pop3"])))
        return made[-1]

    yield new
    for client in made:
        client.close()
    path = lock_path(server.folder / "accounts", account)
    if path.exists():
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
