"""POP3 sessions over a real connection."""

import asyncio
import base64
import contextlib
import fcntl
import os
import poplib
import re
import threading
import time
from pathlib import Path

import pytest

from pillarbox.app.server import Server
from pillarbox.auth.passwords import hash_password
from pillarbox.config.schema import Config, Listen, Pop3, Security
from pillarbox.core.errors import Unavailable
from pillarbox.core.secret import Secret
from pillarbox.pop3d.maildrop import READ_AHEAD_OCTETS, Pieces
from pillarbox.store import messages
from pillarbox.store.directory import Directory
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.maildrop import lock_path, note_login
from pillarbox.store.store import Store, remove_account_files
from pillarbox.testing import MailServer

PLAIN = b"Subject: plain\r\n\r\none\r\ntwo\r\nthree\r\n"
DOTS = b"Subject: dots\r\n\r\n.\r\n..two\r\nthree.\r\n.last\r\n"
BARE = b"Subject: bare\n\n.dot\nlast line without an end"
EMPTY_BODY = b"Subject: nothing\r\n\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"".join(b".%06d %b\r\n" % (n, b"x" * 60) for n in range(9000))
LARGE_BARE = LARGE.replace(b"\r\n", b"\n") + b"end"


def as_sent(octets: bytes) -> bytes:
    """What a client must have after removing the byte-stuffing."""
    octets = re.sub(rb"(?<!\r)\n", b"\r\n", octets)
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


def unstuffed(lines: list[bytes]) -> bytes:
    return b"".join(line[1:] if line.startswith(b".") else line for line in lines)


@pytest.mark.parametrize("octets", [PLAIN, DOTS, BARE, EMPTY_BODY, LARGE, LARGE_BARE])
def test_octet_counts_are_exactly_what_the_client_gets(put, connect, octets: bytes) -> None:
    put(PLAIN, octets)
    client = connect()
    assert client.log_in() == b"+OK Logged in.\r\n"
    expected = as_sent(octets)
    size = len(expected)
    assert client.ask(b"STAT") == b"+OK 2 %d\r\n" % (len(PLAIN) + size)
    first, lines = client.ask_lines(b"LIST")
    assert first == b"+OK 2 messages:\r\n"
    assert lines == [b"1 %d\r\n" % len(PLAIN), b"2 %d\r\n" % size]
    first, lines = client.ask_lines(b"RETR 2")
    assert first == b"+OK %d octets\r\n" % size
    assert unstuffed(lines) == expected


def test_large_messages_are_larger_than_what_is_read_ahead() -> None:
    assert len(LARGE) > READ_AHEAD_OCTETS


def test_pipelined_retrievals_come_in_order(put, connect) -> None:
    wanted = [b"Subject: %d\r\n\r\n%b\r\n" % (n, b"y" * (n * 37 % 4000)) for n in range(300)]
    put(*wanted)
    client = connect()
    client.log_in()
    threading.Thread(
        target=lambda: client.socket.sendall(b"".join(b"RETR %d\r\n" % n for n in range(1, 301)))
    ).start()
    for octets in wanted:
        assert client.line() == b"+OK %d octets\r\n" % len(octets)
        got = b""
        while (line := client.line()) != b".\r\n":
            got += line
        assert got == octets


def test_messages_in_any_order_are_the_right_ones(put, connect) -> None:
    wanted = [b"Subject: %d\r\n\r\n" % n for n in range(1, 21)]
    put(*wanted)
    client = connect()
    client.log_in()
    assert client.ask(b"DELE 3").startswith(b"+OK")
    for number in (20, 1, 2, 4, 4, 19, 5, 1):
        assert unstuffed(client.ask_lines(b"RETR %d" % number)[1]) == wanted[number - 1]


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (b"TOP 1 0", b""),
        (b"TOP 1 1", b".\r\n"),
        (b"TOP 1 2", b".\r\n..two\r\n"),
        (b"TOP 1 4", b".\r\n..two\r\nthree.\r\n.last\r\n"),
        (b"TOP 1 9999999999", b".\r\n..two\r\nthree.\r\n.last\r\n"),
    ],
)
def test_top_gives_the_header_and_so_many_lines(put, connect, command: bytes, body: bytes) -> None:
    put(DOTS)
    client = connect()
    client.log_in()
    first, lines = client.ask_lines(command)
    assert first.startswith(b"+OK")
    assert unstuffed(lines) == b"Subject: dots\r\n\r\n" + body


def test_top_of_a_large_message_crosses_pieces(put, connect) -> None:
    put(LARGE)
    client = connect()
    client.log_in()
    _, lines = client.ask_lines(b"TOP 1 5000")
    assert unstuffed(lines) == b"".join(LARGE.splitlines(keepends=True)[:5002])


def test_long_listings_come_whole(put, connect) -> None:
    put(*[b"Subject: %d\r\n\r\n%b" % (n, b"z\r\n" * (n % 7)) for n in range(2500)])
    client = connect()
    client.log_in()
    client.ask(b"DELE 1500")
    _, sizes = client.ask_lines(b"LIST")
    _, ids = client.ask_lines(b"UIDL")
    numbers = [number for number in range(1, 2501) if number != 1500]
    assert [int(line.split()[0]) for line in sizes] == numbers
    assert [int(line.split()[0]) for line in ids] == numbers
    assert len({line.split()[1] for line in ids}) == 2499
    total = sum(int(line.split()[1]) for line in sizes)
    assert client.ask(b"STAT") == b"+OK 2499 %d\r\n" % total


def test_half_a_message_never_looks_whole(put, connect, monkeypatch: pytest.MonkeyPatch) -> None:
    put(LARGE)
    client = connect()
    client.log_in()
    read = Pieces.read
    calls = []

    async def fail_later(pieces: Pieces) -> bytes:
        calls.append(pieces)
        if len(calls) == 3:
            raise Unavailable("the disk is gone")
        return await read(pieces)

    monkeypatch.setattr(Pieces, "read", fail_later)
    client.socket.sendall(b"RETR 1\r\n")
    got = b""
    with contextlib.suppress(ConnectionError):
        while chunk := client.socket.recv(65536):
            got += chunk
    assert got.startswith(b"+OK")
    assert not got.endswith(b"\r\n.\r\n")


def test_unique_ids_stay_for_ever(put, connect) -> None:
    put(PLAIN, DOTS, BARE)
    client = connect()
    client.log_in()
    _, before = client.ask_lines(b"UIDL")
    assert len({line.split()[1] for line in before}) == 3
    assert all(re.fullmatch(rb"[0-9]+ [!-~]{1,70}\r\n", line) for line in before)
    assert client.ask(b"UIDL 2") == b"+OK " + before[1]
    client.ask(b"DELE 1")
    assert client.ask_lines(b"UIDL")[1] == before[1:]
    client.ask(b"QUIT")
    client = connect()
    client.log_in()
    _, after = client.ask_lines(b"UIDL")
    assert [line.split()[1] for line in after] == [line.split()[1] for line in before[1:]]


def test_stored_unique_ids_are_used(server: MailServer, account: int, put, connect) -> None:
    put(PLAIN, PLAIN)

    async def name(store: Store) -> None:
        await store.write(
            account, lambda tx: tx.execute("UPDATE message SET uidl = 'old-id' WHERE uid = 2")
        )

    server.run(name)
    client = connect()
    client.log_in()
    assert client.ask(b"UIDL 2") == b"+OK 2 old-id\r\n"


def test_deletions_are_made_at_quit(put, connect) -> None:
    put(PLAIN, DOTS, BARE)
    client = connect()
    client.log_in()
    assert client.ask(b"DELE 2").startswith(b"+OK")
    assert client.ask(b"DELE 2").startswith(b"-ERR")
    assert client.ask(b"RETR 2").startswith(b"-ERR")
    assert client.ask(b"LIST 2").startswith(b"-ERR")
    assert client.ask(b"STAT") == b"+OK 2 %d\r\n" % (len(PLAIN) + len(as_sent(BARE)))
    assert client.ask(b"QUIT") == b"+OK Logging out.\r\n"
    assert client.line() == b""
    client = connect()
    client.log_in()
    assert client.ask(b"STAT") == b"+OK 2 %d\r\n" % (len(PLAIN) + len(as_sent(BARE)))


def test_rset_unmarks(put, connect) -> None:
    put(PLAIN, PLAIN)
    client = connect()
    client.log_in()
    client.ask(b"DELE 1")
    client.ask(b"DELE 2")
    assert client.ask(b"STAT") == b"+OK 0 0\r\n"
    assert client.ask(b"RSET").startswith(b"+OK")
    assert client.ask(b"STAT") == b"+OK 2 %d\r\n" % (2 * len(PLAIN))


def test_without_quit_nothing_is_deleted(put, connect, server: MailServer, account: int) -> None:
    put(PLAIN, PLAIN)
    client = connect()
    client.log_in()
    client.ask(b"DELE 1")
    client.close()
    with lock_path(server.folder / "accounts", account).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the session is gone
    client = connect()
    client.log_in()
    assert client.ask(b"STAT").startswith(b"+OK 2 ")


def test_failed_deletions_delete_nothing(
    put, connect, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(PLAIN, PLAIN)

    async def fail(*_: object) -> None:
        raise Unavailable("the disk is full")

    client = connect()
    client.log_in()
    client.ask(b"DELE 1")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", fail)
        answer = client.ask(b"QUIT")
    assert answer.startswith(b"-ERR [SYS/TEMP] Some deleted messages not removed")
    client = connect()
    client.log_in()
    assert client.ask(b"STAT").startswith(b"+OK 2 ")


def test_a_maildrop_has_one_session(connect) -> None:
    first, second = connect(), connect()
    assert first.log_in().startswith(b"+OK")
    assert second.log_in().startswith(b"-ERR [IN-USE] ")
    assert first.ask(b"QUIT").startswith(b"+OK")
    assert second.log_in().startswith(b"+OK")


def test_another_process_may_hold_the_maildrop(connect, server: MailServer, account: int) -> None:
    client = connect()
    client.log_in()
    client.ask(b"QUIT")
    with lock_path(server.folder / "accounts", account).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another open file: as another process
        client = connect()
        assert client.log_in().startswith(b"-ERR [IN-USE] ")
    assert client.log_in().startswith(b"+OK")


def test_messages_that_imap_expunged_are_refused(
    put, connect, server: MailServer, account: int
) -> None:
    put(PLAIN, LARGE, DOTS)
    client = connect()
    client.log_in()

    async def expunge(store: Store) -> None:
        await store.write(
            account, lambda tx: messages.expunge(tx, INBOX, [(1, 2)], only_deleted=False)
        )

    server.run(expunge)
    assert client.ask(b"RETR 1").startswith(b"-ERR")
    assert client.ask(b"RETR 2").startswith(b"-ERR")
    assert client.ask(b"TOP 2 1").startswith(b"-ERR")
    assert unstuffed(client.ask_lines(b"RETR 3")[1]) == DOTS
    client.ask(b"DELE 1")
    assert client.ask(b"QUIT") == b"+OK Logging out.\r\n"


def test_wrong_passwords_say_auth(connect) -> None:
    client = connect()
    client.ask(b"USER alice@example.test")
    assert client.ask(b"PASS wrong").startswith(b"-ERR [AUTH] ")
    client.ask(b"USER nobody@example.test")
    assert client.ask(b"PASS wrong").startswith(b"-ERR [AUTH] ")
    assert client.log_in().startswith(b"+OK")


@pytest.mark.parametrize("authzid", [b"", b"alice@example.test"])
def test_auth_plain(connect, authzid: bytes) -> None:
    response = base64.b64encode(authzid + b"\0alice@example.test\0pillarbox")
    client = connect()
    assert client.ask(b"AUTH PLAIN " + response) == b"+OK Logged in.\r\n"
    client.ask(b"QUIT")
    client = connect()
    assert client.ask(b"AUTH PLAIN") == b"+ \r\n"
    assert client.ask(response) == b"+OK Logged in.\r\n"


def test_nobody_acts_for_others(connect) -> None:
    response = base64.b64encode(b"bob@example.test\0alice@example.test\0pillarbox")
    assert connect().ask(b"AUTH PLAIN " + response).startswith(b"-ERR [AUTH] ")
    assert connect().ask(b"AUTH PLAIN " + base64.b64encode(b"x")).startswith(b"-ERR")


def test_stls_then_login(server: MailServer, account: int) -> None:
    client = poplib.POP3(server.host, server.ports["pop3"], timeout=10)
    assert "STLS" in client.capa()
    client.stls(server.client_context())
    assert "STLS" not in client.capa()
    client.user("alice@example.test")
    assert client.pass_("pillarbox") == b"+OK Logged in."
    client.quit()


def test_without_lab_mode_nobody_logs_in_before_tls(mailserver: MailServer) -> None:
    client = poplib.POP3(mailserver.host, mailserver.ports["pop3"], timeout=10)
    capabilities = client.capa()
    assert "USER" not in capabilities
    assert "SASL" not in capabilities
    with pytest.raises(poplib.error_proto):
        client.user("alice@example.test")
    client.stls(mailserver.client_context())
    capabilities = client.capa()
    assert "USER" in capabilities
    assert capabilities["SASL"][0] == "SCRAM-SHA-256-PLUS"
    client.user("alice@example.test")
    client.pass_("pillarbox")
    client.quit()


def test_a_stop_parts_politely(put) -> None:
    with MailServer(allow_cleartext_login=True) as server:
        client = poplib.POP3(server.host, server.ports["pop3"], timeout=10)
        client.user("alice@example.test")
        client.pass_("pillarbox")
        threading.Thread(target=server.close).start()
        assert client.file.readline().startswith(b"-ERR [SYS/TEMP]")
        assert client.file.readline() == b""
        client.close()


INTERNATIONALIZED = "Subject: Grüße\r\nFrom: Jürgen <jürgen@example.org>\r\n\r\n".encode()


@pytest.mark.parametrize("body", [b"\xc3\xbc\r\n", b"\xc3\xbc and more\r\n" * 40_000])
def test_headers_are_ascii_without_utf8_and_as_they_came_with_it(put, connect, body: bytes) -> None:
    """RFC 6856 §2.1: character strings outside the ASCII repertoire MUST NOT be sent; 8-bit bodies may be."""
    put(INTERNATIONALIZED + body)
    with connect() as client:
        client.log_in()
        for command in (b"RETR 1", b"TOP 1 1"):
            _, lines = client.ask_lines(command)
            end = lines.index(b"\r\n")
            assert b"".join(lines[:end]).isascii()
            assert b"Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n" in lines
            assert lines[end + 1] == body.splitlines(keepends=True)[0]
        client.ask(b"QUIT")
    with connect() as client:
        assert client.ask(b"UTF8").startswith(b"+OK")
        client.log_in()
        first, lines = client.ask_lines(b"RETR 1")
        assert b"".join(lines) == INTERNATIONALIZED + body
        assert first == b"+OK %d octets\r\n" % len(INTERNATIONALIZED + body)
        client.ask(b"QUIT")


def test_a_second_login_within_the_delay_is_refused(tmp_path: Path) -> None:
    """RFC 2449 §6.5, §8.1.1: seconds from one +OK to the next."""
    path = tmp_path / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        assert note_login(descriptor, 60, 1000.0)
        assert not note_login(descriptor, 60, 1059.0)
        assert note_login(descriptor, 60, 1060.0)
        assert note_login(descriptor, 60, 500.0)  # the clock was set back
    finally:
        os.close(descriptor)


def test_the_delay_is_told_and_kept(tmp_path: Path) -> None:
    config = Config(
        "mail.example.test",
        str(tmp_path),
        listen=Listen(pop3=["127.0.0.1:0"]),
        security=Security(allow_cleartext_login=True),
        pop3=Pop3(login_delay="1h"),
    )
    directory = Directory(tmp_path / "directory.db", clock=time.time)
    directory.add_domain("example.test")
    directory.add_account("alice@example.test", *hash_password(Secret("pillarbox")))
    directory.close()

    def talk(address: tuple[str, int]) -> list[bytes]:
        said = []
        for _ in range(2):
            client = poplib.POP3(*address, timeout=10)
            assert client.capa()["LOGIN-DELAY"] == ["3600"]
            client.user("alice@example.test")
            try:
                said.append(client.pass_("pillarbox"))
            except poplib.error_proto as refusal:
                said.append(refusal.args[0])
            client.quit()
        return said

    async def scenario() -> list[bytes]:
        server = Server(config)
        await server.start()
        try:
            return await asyncio.to_thread(talk, server.addresses["pop3"][0])
        finally:
            await server.stop(0)

    first, second = asyncio.run(scenario())
    assert first == b"+OK Logged in."
    assert second.startswith(b"-ERR [LOGIN-DELAY] ")


def test_utf8_that_is_switched_off_is_not_told(tmp_path: Path) -> None:
    config = Config(
        "mail.example.test",
        str(tmp_path),
        listen=Listen(pop3=["127.0.0.1:0"]),
        pop3=Pop3(utf8=False),
    )

    def ask(address: tuple[str, int]) -> dict[str, list[str]]:
        client = poplib.POP3(*address, timeout=10)
        told = client.capa()
        client.quit()
        return told

    async def scenario() -> dict[str, list[str]]:
        server = Server(config)
        await server.start()
        try:
            return await asyncio.to_thread(ask, server.addresses["pop3"][0])
        finally:
            await server.stop(0)

    told = asyncio.run(scenario())
    assert "LANG" in told
    assert "UTF8" not in told


def test_deletions_in_a_removed_account_are_no_damage(
    server: MailServer, put, connect, account: int, caplog: pytest.LogCaptureFixture
) -> None:
    """In the second until the server ends the session."""
    put(PLAIN)
    client = connect()
    client.log_in()
    assert client.ask(b"DELE 1").startswith(b"+OK")

    async def remove(store: Store) -> None:
        store.directory.remove_account(account)
        remove_account_files(store.data_dir, account)
        # Before the maintenance of the server has its turn.
        client.socket.sendall(b"QUIT\r\n")

    server.run(remove)
    assert b"-ERR " in client.file.read()
    assert "deletions were not made" not in caplog.text
