"""A running server ends sessions of disabled accounts, of supporters who are none any more, and of banned networks; it
forgets the logins of removed accounts."""

import imaplib
import time
from collections.abc import Callable

import pytest

from pillarbox.store.logins import Logins
from pillarbox.testing import MailServer

USER = "alice@example.test"


def is_over(client: imaplib.IMAP4) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            client.noop()
        except (imaplib.IMAP4.error, OSError):
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def server():
    with MailServer(allow_cleartext_login=True) as server:
        yield server


def log_in(server: MailServer, user: str) -> imaplib.IMAP4:
    client = imaplib.IMAP4(server.host, server.ports["imap"])
    client.login(f'"{user}"', "pillarbox")  # imaplib does not quote user names
    return client


def disable(server: MailServer) -> None:
    account = server._directory.account(USER)
    assert account is not None
    server._directory.set_enabled(account.id, enabled=False)


def demote(server: MailServer) -> None:
    account = server._directory.account("bob@example.test")
    assert account is not None
    server._directory.credentials.set_supporter(account.id, allowed=False)


def ban(server: MailServer) -> None:
    server._directory.bans.add("127.0.0.1/32", None, "")


@pytest.mark.parametrize("end", [disable, demote, ban])
def test_sessions_end_within_seconds(server: MailServer, end: Callable[[MailServer], None]) -> None:
    bob = server._directory.account("bob@example.test")
    assert bob is not None
    server._directory.credentials.set_supporter(bob.id, allowed=True)
    client = log_in(server, f"{USER}*bob@example.test")
    end(server)
    assert is_over(client)
    with pytest.raises((imaplib.IMAP4.error, OSError)):
        log_in(server, f"{USER}*bob@example.test")


def test_the_logins_of_a_removed_account_do_not_come_back(server: MailServer) -> None:
    """The server writes some of them only after `account remove` made it forget them."""
    account = server._directory.account(USER)
    assert account is not None
    log_in(server, USER)
    server._directory.remove_account(account.id)
    logins = Logins(server.folder / "logins.db", clock=time.time)
    logins.forget(account.id)
    time.sleep(2.5)  # the server writes once a second; that nothing is left shows in no other way
    assert not logins.history(account.id)
    logins.close()
