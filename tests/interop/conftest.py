"""Real clients against a real server: over TLS from the start, STARTTLS, and in the clear (lab mode)."""

import imaplib
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pillarbox.testing import MailServer

PASSWORD = "Pass word 7"
TRANSPORTS = ("tls", "starttls", "plain")
IMPLICIT = {"smtp": "submissions", "imap": "imaps", "pop3": "pop3s"}
EXPLICIT = {"smtp": "submission", "imap": "imap", "pop3": "pop3"}

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.interop)


@dataclass
class User:
    """An account of its own for each test, on a server that the tests of a module share."""

    server: MailServer
    address: str
    password: str = PASSWORD

    def port(self, protocol: str, transport: str) -> int:
        """Of smtp (submission), imap or pop3."""
        services = IMPLICIT if transport == "tls" else EXPLICIT
        return self.server.ports[services[protocol]]

    @property
    def ca_file(self) -> Path:
        return self.server.ca_file

    def receive(self, *messages: bytes) -> None:
        """Put messages into INBOX by SMTP."""
        import smtplib

        with smtplib.SMTP(self.server.host, self.server.ports["smtp"], timeout=10) as client:
            for octets in messages:
                client.sendmail("carol@example.net", [self.address], octets)


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with MailServer({}, allow_cleartext_login=True, relay=False) as running:
        yield running


@pytest.fixture
def user(server: MailServer) -> User:
    address = f"user{next(_numbers)}@example.test"
    server.add_account(address, PASSWORD)
    return User(server, address)


@pytest.fixture
def other(user: User) -> Iterator[imaplib.IMAP4_SSL]:
    """Another client of the account."""
    with imaplib.IMAP4_SSL(
        "localhost", user.port("imap", "tls"), ssl_context=user.server.client_context()
    ) as client:
        client.login(user.address, user.password)
        yield client


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """Runs a program with a home of its own; returns what it printed. Skips where it is not installed."""

    def run(*command: str | Path, typed: str | bytes = b"", code: int = 0) -> str:
        if shutil.which(str(command[0])) is None:
            pytest.skip(f"{command[0]} is not installed")
        done = subprocess.run(
            [str(word) for word in command],
            input=typed.encode() if isinstance(typed, str) else typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            cwd=tmp_path,
            env={
                "HOME": str(tmp_path),
                "PATH": os.environ["PATH"],
                "TERM": "vt100",
                "LC_ALL": "C.UTF-8",
            },
        )
        shown = done.stdout.decode("utf-8", "replace")
        assert done.returncode == code, shown
        return shown

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes a configuration file that only its owner reads, as these programs demand."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write_file
