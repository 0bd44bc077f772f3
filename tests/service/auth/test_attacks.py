"""Attacks on logins, against a whole server: floods, names that are code, enumeration by text, secrets in logs."""

import base64
import contextlib
import imaplib
import logging
import poplib
import smtplib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pillarbox.testing import MailServer

USER, PASSWORD = "alice@example.test", "pillarbox"
FLOODERS = 40


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer(allow_cleartext_login=True) as server:
        yield server


def imap(server: MailServer) -> imaplib.IMAP4:
    return imaplib.IMAP4(server.host, server.ports["imap"], timeout=30)


def imap_login(server: MailServer, user: str, password: str) -> str:
    """The whole answer."""
    client = imap(server)
    try:
        client.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
    except imaplib.IMAP4.error as error:
        return str(error)
    finally:
        client.shutdown()
    return "OK"


def smtp_login(server: MailServer, user: str, password: str) -> str:
    client = smtplib.SMTP(server.host, server.ports["submission"], timeout=30)
    client.ehlo()
    plain = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    answer = client.docmd(f"AUTH PLAIN {plain}")
    client.close()
    return "OK" if answer[0] == 235 else str(answer)


def pop3_login(server: MailServer, user: str, password: str) -> str:
    client = poplib.POP3(server.host, server.ports["pop3"], timeout=30)
    try:
        client.user(user)
        client.pass_(password)
    except poplib.error_proto as error:
        return str(error)
    finally:
        client.close()
    return "OK"


def test_a_flood_of_logins_keeps_nobody_waiting_and_does_not_lock_the_owner_out(
    server: MailServer,
) -> None:
    session = imap(server)
    session.login(USER, PASSWORD)  # so the network is one of hers
    end = threading.Event()
    clients: list[imaplib.IMAP4] = []

    def flood(number: int) -> None:
        tries = 0
        while not end.is_set():
            tries += 1
            words = f"\0user{number}@example.test\0wrong {number} {tries}".encode()
            with contextlib.suppress(OSError, imaplib.IMAP4.error):
                client = imap(server)
                clients.append(client)
                client.authenticate("PLAIN", lambda _, words=words: words)

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(FLOODERS)]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 3
        worst = 0.0
        while time.monotonic() < deadline:
            begin = time.monotonic()
            session.noop()
            worst = max(worst, time.monotonic() - begin)
            time.sleep(0.02)
        # The flooders share this process with the server, so this is no measurement; a hash on the loop for each
        # of them would take seconds.
        assert worst < 1
        assert imap_login(server, USER, PASSWORD) == "OK"
    finally:
        end.set()
        for client in clients:  # else the last answers are waited for, which come late
            with contextlib.suppress(OSError):
                client.sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(60)


@pytest.mark.parametrize(
    "user",
    [
        "' OR 1=1 --",
        "alice@example.test' --",
        "alice@example.test'; DROP TABLE account; --",
        "%",
        "_____",
        "a%",
        "alic_",
        "alice!",
        "%@%",
        "alice@%",
        "*",
        "*alice@example.test",
        "bob@example.test*alice@example.test",
        "alice@example.test\r\nLOGGED IN",
    ],
)
def test_names_are_never_code_or_patterns(server: MailServer, user: str) -> None:
    assert imap_login(server, user, PASSWORD) != "OK"
    assert imap_login(server, USER, PASSWORD) == "OK"


def test_texts_do_not_tell_who_exists(server: MailServer) -> None:
    account = server._directory.account("bob@example.test")
    assert account is not None
    server._directory.set_enabled(account.id, enabled=False)
    for login in (imap_login, smtp_login, pop3_login):
        answers = {
            login(server, USER, "wrong password"),
            login(server, "nobody@example.test", "wrong password"),
            login(server, "nobody@elsewhere.test", "wrong password"),
            login(server, "bob@example.test", PASSWORD),  # right, but disabled
        }
        assert len(answers) == 1, answers


def test_no_secret_is_ever_logged(server: MailServer, caplog: pytest.LogCaptureFixture) -> None:
    secret = "correct horse battery"
    encoded = base64.b64encode(f"\0{USER}\0{secret}".encode()).decode()
    with caplog.at_level(logging.DEBUG):
        for login in (imap_login, smtp_login, pop3_login):
            assert login(server, USER, secret) != "OK"
        assert imap_login(server, USER, PASSWORD) == "OK"
    assert "login failed" in caplog.text
    for each in (secret, encoded, encoded[8:-8]):
        assert each not in caplog.text
