"""Mail that comes in chunks, binary mail too, and what is stored of it (RFC 3030)."""

import email
import re

import pytest

from pillarbox.mime.lines import has_bare_cr_or_lf
from pillarbox.store.outgoing_row import Selection

TEXT = b"From: alice@example.test\r\nSubject: x\r\n\r\nHello\r\n"
BINARY = bytes(range(256)) * 300 + b"\r\n.\r\n\n"


def send(client, octets: bytes, body: str = "", size: int = 10_000, to: str = "bob@example.test"):
    client.ask(f"MAIL FROM:<alice@example.test>{body}")
    assert client.ask(f"RCPT TO:<{to}>").startswith("250 ")
    for start in range(0, len(octets), size):
        chunk = octets[start : start + size]
        client.socket.sendall(b"BDAT %d\r\n" % len(chunk) + chunk)
        if not (reply := client.reply()).startswith("250 "):
            return reply
    return client.ask("BDAT 0 LAST")


def with_picture(octets: bytes = BINARY) -> bytes:
    return (
        b"From: alice@example.test\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + "grüße".encode()
        + b"\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        + octets
        + b"\r\n--b--\r\n"
    )


@pytest.mark.parametrize("size", [1, 7, 60_000])
def test_chunks_of_any_size_make_the_message(server, connect, size: int) -> None:
    assert send(connect(server), TEXT, size=size).startswith("250 2.0.0 Ok: queued as ")
    (stored,) = server.inbox("bob")
    assert stored.endswith(TEXT)


def test_large_chunks_are_not_held_in_memory(server, connect) -> None:
    octets = TEXT + b"0123456789abcdef\r\n" * 200_000
    client = connect(server)
    client.ask("MAIL FROM:<s@example.net>")
    client.ask("RCPT TO:<bob@example.test>")
    client.socket.sendall(b"BDAT %d\r\n" % len(octets))
    client.socket.sendall(octets[:-10])
    assert client._server.room.used <= 2 << 20
    client.socket.sendall(octets[-10:])
    assert client.reply().startswith("250 ")
    assert client.ask("BDAT 0 LAST").startswith("250 ")
    assert server.inbox("bob")[0].endswith(octets)


def test_bare_line_ends_are_refused_to_strangers_and_mended_for_users(server, connect) -> None:
    octets = b"Subject: x\r\n\r\na\n.\nb\rc\r\n"
    assert send(connect(server), octets).startswith("550 5.6.11 ")
    client = connect(server, "submissions")
    client.login()
    assert send(client, octets).startswith("250 ")
    (stored,) = server.inbox("bob")
    assert stored.endswith(b"\r\n\r\na\r\n.\r\nb\r\nc\r\n")


@pytest.mark.parametrize("logged_in", [False, True])
def test_binary_parts_are_stored_as_base64(server, connect, logged_in: bool) -> None:
    """RFC 3030 §3: every bit is kept, and IMAP and POP3 have lines to show."""
    client = connect(server, "submissions" if logged_in else "smtp")
    if logged_in:
        client.login()
    assert send(client, with_picture(), " BODY=BINARYMIME").startswith("250 ")
    (stored,) = server.inbox("bob")
    assert b"\0" not in stored
    assert not has_bare_cr_or_lf(stored)
    text, picture = email.message_from_bytes(stored).get_payload()
    assert picture.get_payload(decode=True) == BINARY
    assert text.get_payload(decode=True) == "grüße".encode()
    assert email.message_from_bytes(stored)["Content-Transfer-Encoding"] == "8bit"


def test_nothing_binary_is_queued_for_other_hosts(server, connect) -> None:
    client = connect(server, "submissions")
    client.login()
    assert send(client, with_picture(), " BODY=BINARYMIME", to="x@far.test").startswith("250 ")
    (row,) = server.queue.selected.rows(Selection())
    octets = server.queue.octets(row.message)
    assert b"\0" not in octets
    assert not has_bare_cr_or_lf(octets)


def test_binary_where_it_cannot_be_encoded_is_refused(server, connect) -> None:
    """Signed parts are never touched; a header has no encoding."""
    signed = re.sub(rb"multipart/mixed", b"multipart/signed", with_picture())
    for octets in (signed, b"Subject: a\rb\r\n\r\nx\r\n", b"Subject: a\n\r\nx", b"Subject: \0\r\n"):
        assert send(connect(server), octets, " BODY=BINARYMIME").startswith("554 5.6.3 ")
    assert server.inbox("bob") == []


def test_a_message_that_only_says_binary_stays_as_it_is(server, connect) -> None:
    assert send(connect(server), TEXT, " BODY=BINARYMIME").startswith("250 ")
    assert server.inbox("bob")[0].endswith(TEXT)


def test_a_client_that_stops_between_chunks_leaves_nothing(server, connect) -> None:
    client = connect(server)
    client.ask("MAIL FROM:<s@example.net>")
    client.ask("RCPT TO:<bob@example.test>")
    client.socket.sendall(b"BDAT 5\r\nabcde")
    assert client.reply().startswith("250 ")
    assert client.ask("RSET").startswith("250 ")
    assert server.room.used == 0
    assert server.inbox("bob") == []
