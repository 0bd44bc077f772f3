"""Without any domain there can be no account: every login is put off, for the disk may not be mounted."""

import socket
from collections.abc import Iterator

import pytest

from pillarbox.testing import MailServer

PLAIN = b"AGFsaWNlQGV4YW1wbGUudGVzdABwaWxsYXJib3g="  # alice@example.test, pillarbox


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer({}, allow_cleartext_login=True) as server:
        yield server


def ask(server: MailServer, service: str, *lines: bytes) -> list[bytes]:
    """The last line that answers each."""
    with (
        socket.create_connection((server.host, server.ports[service]), timeout=10) as client,
        client.makefile("rb") as file,
    ):
        file.readline()
        replies = []
        for line in lines:
            client.sendall(line + b"\r\n")
            reply = file.readline()
            while reply.startswith(b"250-"):
                reply = file.readline()
            replies.append(reply)
        return replies


def test_without_a_domain_every_way_to_log_in_is_put_off(server: MailServer) -> None:
    for way in (b"PLAIN " + PLAIN, b"PLAIN"):
        _, reply, alive = ask(server, "smtp", b"EHLO x", b"AUTH " + way, b"NOOP")
        assert reply.startswith(b"454 4.7.0 ")
        assert alive.startswith(b"250 ")
    for way in (b"PLAIN " + PLAIN, b"PLAIN", b"SCRAM-SHA-256"):
        reply, alive = ask(server, "pop3", b"AUTH " + way, b"CAPA")
        assert reply.startswith(b"-ERR [SYS/TEMP] ")
        assert alive.startswith(b"+OK")
        reply, alive = ask(server, "imap", b"a AUTHENTICATE " + way, b"b LOGOUT")
        assert reply == b"a NO [UNAVAILABLE] No domain is set up here yet\r\n"
        assert alive.startswith(b"* BYE ")
    (reply,) = ask(server, "imap", b"a LOGIN alice@example.test pillarbox")
    assert reply.startswith(b"a NO [UNAVAILABLE] ")
    assert ask(server, "pop3", b"USER alice", b"PASS x")[1].startswith(b"-ERR [SYS/TEMP] ")


def test_with_the_first_domain_logins_are_answered(server: MailServer) -> None:
    assert ask(server, "imap", b"a LOGIN alice x")[0].startswith(b"a NO [UNAVAILABLE] ")
    server.add_account("alice@example.test")
    assert ask(server, "imap", b"a LOGIN alice pillarbox")[0].startswith(b"a OK ")
    _, reply = ask(server, "smtp", b"EHLO x", b"AUTH PLAIN " + PLAIN)
    assert reply.startswith(b"235 ")
