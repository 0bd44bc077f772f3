"""Port 25: mail from strangers for local recipients, and nothing else."""

import asyncio
import errno
import fcntl
import logging
import os
import re
import socket

import pytest

from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.core.networks import parse_networks
from pillarbox.core.rate import Rate
from pillarbox.delivery.pending import PendingWorker
from pillarbox.store.accounts import account_path
from pillarbox.store.outgoing_row import Selection

OCTETS = b"From: s@example.net\r\nSubject: x\r\n\r\nHello\r\n"


def body_of(stored: bytes) -> bytes:
    return stored.partition(b"\r\n\r\n")[2]


def test_a_message_is_stored_before_its_250_with_trace_fields_in_front(server, connect) -> None:
    reply = connect(server).send(OCTETS)
    match = re.fullmatch(r"250 2\.0\.0 Ok: queued as ([0-9A-Z]+)", reply)
    assert match
    (stored,) = server.inbox("bob")
    assert re.fullmatch(
        rb"Return-Path: <s@example.net>\r\nDelivered-To: bob@example.test\r\n"
        rb"Received: from client\.example\.net \(\[127\.0\.0\.1\]\)\r\n\tby mail\.example\.test\r\n"
        rb"\twith ESMTP id %b\r\n\tfor <bob@example\.test>; \w{3}, \d\d? \w{3} \d{4} [\d:]{8} \+0000\r\n%b"
        % (match[1].encode(), re.escape(OCTETS)),
        stored,
    )


def test_helo_and_tls_show_in_received(server, connect) -> None:
    client = connect(server)
    client.ask("HELO (odd)name")
    client.send(OCTETS)
    connect(server, "smtp", True).send(OCTETS)
    plain, encrypted = server.inbox("bob")
    assert b"from ?odd?name ([127.0.0.1])\r\n\tby mail.example.test\r\n\twith SMTP id" in plain
    assert b"by mail.example.test (TLSv1.3 TLS_AES_" in encrypted
    assert b"\r\n\twith ESMTPS id" in encrypted


def test_several_recipients_get_one_copy_each_and_do_not_learn_of_each_other(
    server, connect
) -> None:
    server.call(lambda: add_alias(server, "team@example.test", "bob@example.test"))
    server.call(lambda: add_alias(server, "team@example.test", "carol@example.test"))
    recipients = ("Alice+News@example.test", "team@example.test", "bob@example.test")
    assert connect(server).send(OCTETS, "", *recipients).startswith("250 ")
    for name, address in (("alice", "alice+news"), ("bob", "bob"), ("carol", "carol")):
        (stored,) = server.inbox(name)
        fields = f"Return-Path: <>\r\nDelivered-To: {address}@example.test\r\nReceived: "
        assert stored.startswith(fields.encode())
        assert b"for <" not in stored
    assert server.store.pending.count() == 0


async def add_alias(server, alias: str, target: str) -> None:
    server.store.directory.add_alias(alias, target)


RECIPIENTS = [
    ("nobody@example.test", "550 5.1.1"),
    ("bob@elsewhere.test", "550 5.7.1"),
    ("bob@sub.example.test", "550 5.7.1"),
    ("bob%elsewhere.test@example.test", "550 5.1.1"),
    ('"bob@elsewhere.test"@example.test', "550 5.1.1"),
    ('"bob@elsewhere.test"@elsewhere.test', "550 5.7.1"),
    ("elsewhere.test!bob@example.test", "550 5.1.1"),
    ("@example.test:bob@elsewhere.test", "550 5.7.1"),
    ("bob@[127.0.0.1]", "550 5.7.1"),
    ("bob@[IPv6:::1]", "550 5.7.1"),
    ("bob@elsewhere.test@example.test", "501 5.1.3"),
    ("a@" + "b" * 62 + ".b" * 60, "550 5.7.1"),
    ("bob@example.test", "250 2.1.5"),
    ("BOB@EXAMPLE.TEST", "250 2.1.5"),
    ("@elsewhere.test:bob@example.test", "250 2.1.5"),
    ('"bob"@example.test', "250 2.1.5"),
    ("bob+tag@example.test", "250 2.1.5"),
    ("postmaster", "250 2.1.5"),
    ("PostMaster", "250 2.1.5"),
    ("POSTMASTER@example.test", "250 2.1.5"),
    ("mixed@example.test", "250 2.1.5"),
    ("loop@example.test", "451 4.3.5"),
]


@pytest.mark.parametrize("sender", ["s@example.net", "", "alice@example.test"])
def test_there_is_no_open_relay(server, connect, sender: str) -> None:
    for alias, target in (
        ("mixed@example.test", "bob@example.test"),
        ("mixed@example.test", "bob@elsewhere.test"),
        ("loop@example.test", "pool@example.test"),
        ("pool@example.test", "loop@example.test"),
    ):
        server.call(lambda alias=alias, target=target: add_alias(server, alias, target))
    client = connect(server)
    for recipient, reply in RECIPIENTS:
        assert client.ask(f"MAIL FROM:<{sender}>") == "250 2.1.0 Ok"
        assert (recipient, client.ask(f"RCPT TO:<{recipient}>")[:9]) == (recipient, reply)
        client.ask("RSET")


def test_port_25_offers_no_auth_without_lab_mode(server, connect) -> None:
    for tls in (False, True):
        client = connect(server, "smtp", tls)
        assert "AUTH" not in client.ask("EHLO x")
        assert client.login().startswith("502 5.5.1")


def test_a_change_of_the_directory_counts_at_once(server, connect) -> None:
    client = connect(server)
    client.ask("MAIL FROM:<>")
    assert client.ask("RCPT TO:<new@example.test>").startswith("550 ")
    server.call(lambda: add_alias(server, "new@example.test", "bob@example.test"))
    assert client.ask("RCPT TO:<new@example.test>").startswith("250 ")


@pytest.mark.parametrize("bare", [b"a\nb\r\n", b"a\rb\r\n", b"a\n.\nb\r\n", b"a\r.\r\n"])
def test_bare_cr_or_lf_in_data_is_refused(server, connect, bare: bytes) -> None:
    client = connect(server)
    assert client.send(b"Subject: x\r\n\r\n" + bare).startswith("550 5.6.11")
    assert client.send(OCTETS).startswith("250 ")
    assert len(server.inbox("bob")) == 1


def test_octets_come_out_as_they_went_in(server, connect) -> None:
    body = b"..dot\r\n.\tdot\r\n\x80\xff\x00 8-bit\r\n" + b"x" * 100_000 + b"\r\n"
    stuffed = body.replace(b"\r\n.", b"\r\n..")
    assert connect(server).send(b"Subject: x\r\n\r\n." + stuffed).startswith("250 ")
    (stored,) = server.inbox("bob")
    assert body_of(stored) == body


def test_a_message_of_30_mb_arrives_whole(server, connect) -> None:
    body = b"".join(b"%075d\r\n" % number for number in range(400_000))
    assert connect(server).send(b"Subject: x\r\n\r\n" + body).startswith("250 ")
    (stored,) = server.inbox("bob")
    assert body_of(stored) == body


def test_a_message_over_the_limit_is_refused(server, connect) -> None:
    client = connect(server)
    assert client.ask("MAIL FROM:<> SIZE=40000001").startswith("552 5.3.4")
    assert client.send(b"x" * 40_000_000 + b"\r\n").startswith("552 5.3.4")
    assert client.send(OCTETS).startswith("250 ")


@pytest.mark.parametrize("octets", [b"", b"\r\n", b"no header here\r\n", b"\r\nbody\r\n"])
def test_messages_without_header_keep_their_body(server, connect, octets: bytes) -> None:
    assert connect(server).send(octets).startswith("250 ")
    (stored,) = server.inbox("bob")
    assert body_of(stored) == octets.removeprefix(b"\r\n")


def test_forged_return_path_goes_and_other_fields_stay(server, connect) -> None:
    client = connect(server)
    client.send(b"Return-Path: <forged@example.net>\r\nBcc: x@y\r\n" + OCTETS)
    (stored,) = server.inbox("bob")
    assert stored.count(b"Return-Path") == 1
    assert b"Bcc: x@y\r\n" in stored


@pytest.mark.parametrize(
    "loop", [b"Received: x\r\n" * 101, b"Delivered-To: bob@example.test\r\n"], ids=["hops", "own"]
)
def test_loops_are_refused(server, connect, loop: bytes) -> None:
    assert connect(server).send(loop + OCTETS).startswith("554 5.4.6")
    assert server.inbox("bob") == []


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (DiskFull(), "452 4.3.1"),
        (Unavailable("damaged"), "451 4.3.0"),
        (ZeroDivisionError(), "451 4.3.0"),
    ],
)
def test_what_cannot_be_stored_is_refused_for_now(
    server, connect, monkeypatch, error: Exception, reply: str
) -> None:
    async def deliver(account: int, item: object) -> None:
        raise error

    monkeypatch.setattr(server.store, "deliver", deliver)
    client = connect(server)
    assert client.send(OCTETS).startswith(reply)
    monkeypatch.undo()
    assert client.send(OCTETS).startswith("250 ")


def test_a_bug_while_the_message_comes_is_a_451_at_its_end(server, connect, monkeypatch) -> None:
    def broken(spool: object, chunk: bytes) -> None:
        raise ZeroDivisionError

    client = connect(server)
    monkeypatch.setattr("pillarbox.store.spool.Spool.write", broken)
    assert client.send(b"x" * 1_000_000 + b"\r\n").startswith("451 4.3.0")
    monkeypatch.undo()
    assert client.send(OCTETS).startswith("250 ")


def test_of_several_recipients_a_locked_one_is_pending_before_the_250(
    server, connect, monkeypatch
) -> None:
    client = connect(server)
    both = ("bob@example.test", "carol@example.test")
    client.send(OCTETS, "s@example.net", *both)  # makes the mail files
    monkeypatch.setattr("pillarbox.delivery.deliver.LONGEST_WAIT_S", 0.5)
    path = account_path(server.folder / "accounts", server.accounts["carol"])
    with path.with_suffix(".lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        large = OCTETS + b"0123456789abcdef\r\n" * 40_000  # too large for the journal
        assert client.send(large, "s@example.net", *both).startswith("250 ")
        assert server.store.pending.count() == 1
        assert len(server.inbox("bob")) == 2

    async def work() -> None:
        worker = PendingWorker(server.store, server.notices.tell_later_success, look_every_s=0.01)
        worker.start()
        async with asyncio.timeout(5):
            while server.store.pending.count():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await worker.stop()

    server.call(work)
    assert [body_of(message) for message in server.inbox("carol")] == [
        body_of(b"\r\n" + OCTETS),
        body_of(b"\r\n" + large),
    ]


def logged(caplog) -> list[str]:
    """What the log says of refusals, behind the session and the client."""
    lines = [record.getMessage() for record in caplog.records]
    assert all(line.split(": ")[0].endswith(" 127.0.0.1") for line in lines)
    return [line.partition(": ")[2] for line in lines]


def test_commands_that_the_engine_refuses_are_in_the_log_without_secrets(
    server, connect, caplog
) -> None:
    caplog.set_level(logging.INFO, "pillarbox.smtpd")
    client = connect(server, "submission")
    assert client.ask("MAIL FROM:<alice@example.test>").startswith("530 5.7.0 ")
    assert client.login().startswith("538 5.7.11 ")
    assert client.ask("AUTH LOGIN c2VjcmV0").startswith("538 5.7.11 ")
    assert len(logged(caplog)) == 3, "at once, not with what is asked next"
    client.ask("QUIT")
    client = connect(server, "submission", tls=True)
    assert client.ask("MAIL FROM:<a@b.test>").startswith("530 5.7.0 ")
    client.ask("QUIT")
    assert logged(caplog) == [
        "refused command=<MAIL FROM:<alice@example.test>> code=530: Must issue a STARTTLS command first",
        "refused command=<AUTH> code=538: Encryption required for requested"
        " authentication mechanism",
        "refused command=<AUTH> code=538: Encryption required for requested"
        " authentication mechanism",
        "refused command=<MAIL FROM:<a@b.test>> code=530: Authentication required",
    ]


def test_a_declared_size_over_the_limit_is_in_the_log(server, connect, caplog) -> None:
    caplog.set_level(logging.INFO, "pillarbox.smtpd")
    client = connect(server)
    assert client.ask("MAIL FROM:<a@b.test> SIZE=99999999").startswith("552 5.3.4 ")  # RFC 1870 §6
    client.ask("QUIT")
    (line,) = logged(caplog)
    assert line.startswith("refused command=<MAIL FROM:<a@b.test> SIZE=99999999> code=552: ")


def test_one_line_in_the_log_tells_of_each_message(server, connect, caplog) -> None:
    caplog.set_level(logging.INFO, "pillarbox.smtpd")
    client = connect(server)
    queue_id = client.send(OCTETS).rpartition(" ")[2]
    client.ask("MAIL FROM:<>")
    client.ask("RCPT TO:<nobody@example.test>")
    accepted, refused = (record.getMessage() for record in caplog.records)
    assert accepted.startswith(
        f"id={queue_id} from=<s@example.net> to=<bob@example.test> recipients=1 copies=1 pending=0 queued=0"
        f" size={len(OCTETS)} client=127.0.0.1 connection="
    )
    assert refused.endswith(
        "127.0.0.1: refused recipient=<nobody@example.test> code=550: No such mailbox here"
    )


@pytest.mark.parametrize(
    ("error", "reply"),
    [(errno.ENOSPC, "452 4.3.1"), (errno.EDQUOT, "452 4.3.1"), (errno.EACCES, "451 4.3.0")],
)
def test_a_full_spool_disk_is_a_452(server, connect, monkeypatch, error: int, reply: str) -> None:
    """And other trouble with it a 451."""

    def broken(**_options: object) -> None:
        raise OSError(error, os.strerror(error))

    client = connect(server)
    monkeypatch.setattr("tempfile.TemporaryFile", broken)
    assert client.send(b"x" * 3_000_000 + b"\r\n").startswith(reply)
    monkeypatch.undo()
    assert client.send(b"x" * 3_000_000 + b"\r\n").startswith("250 ")


def test_a_directory_that_cannot_be_read_is_a_451(server, connect, monkeypatch) -> None:
    def broken(address: str) -> None:
        raise Unavailable("no")

    client = connect(server)
    client.ask("MAIL FROM:<>")
    monkeypatch.setattr(server.store.directory, "recipient", broken)
    assert client.ask("RCPT TO:<bob@example.test>").startswith("451 4.3.0")
    monkeypatch.undo()
    assert client.ask("RCPT TO:<bob@example.test>").startswith("250 ")


def test_a_client_that_leaves_before_the_250_does_not_undo_the_delivery(server, connect) -> None:
    client = connect(server)
    client.socket.sendall(
        b"MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n" + OCTETS + b".\r\n"
    )
    client.close()
    for _ in range(500):
        if server.inbox("bob"):
            break
    assert len(server.inbox("bob")) == 1


def test_a_client_that_leaves_within_data_delivers_nothing(server, connect) -> None:
    client = connect(server)
    client.socket.sendall(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n" + OCTETS)
    client.close()
    connect(server).send(OCTETS, "later@example.net")
    assert len(server.inbox("bob")) == 1


def test_pipelined_commands_and_messages_are_answered_in_order(server, connect) -> None:
    client = connect(server)
    transaction = (
        b"MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\n"
    )
    client.socket.sendall((transaction + OCTETS + b".\r\n") * 3 + b"QUIT\r\n")
    codes = [client.reply()[:3] for _ in range(16)]
    assert codes == ["250", "250", "550", "354", "250"] * 3 + ["221"]
    assert client.reply() == ""
    assert len(server.inbox("bob")) == 3


def test_reset_and_ehlo_end_the_transaction(server, connect) -> None:
    client = connect(server)
    for ending in ("RSET", "EHLO x", "HELO x"):
        client.ask("MAIL FROM:<s@example.net>")
        client.ask("RCPT TO:<bob@example.test>")
        assert client.ask(ending).startswith("250")
        assert client.ask("DATA").startswith("503 5.5.1")


def test_too_many_copies_are_asked_for_later(server, connect, monkeypatch) -> None:
    monkeypatch.setattr("pillarbox.smtpd.session.MOST_TARGETS", 1)
    client = connect(server)
    client.ask("MAIL FROM:<>")
    assert client.ask("RCPT TO:<bob@example.test>").startswith("250 ")
    assert client.ask("RCPT TO:<carol@example.test>").startswith("452 4.5.3")


def test_a_server_that_stops_says_421(server, connect) -> None:
    client = connect(server)
    server._loop.call_soon_threadsafe(server._stop.set)
    assert client.reply().startswith("421 4.3.2")


def test_strangers_send_only_so_many_messages_in_a_minute(server, connect) -> None:
    server.context.rates.messages = Rate(2)
    client = connect(server)
    assert [client.send(OCTETS)[:3] for _ in range(2)] == ["250", "250"]
    assert client.ask("MAIL FROM:<s@example.net>").startswith("450 4.7.1 ")
    assert connect(server).ask("MAIL FROM:<s@example.net>").startswith("450 4.7.1 ")
    server.context.trusted = parse_networks(["127.0.0.1"])
    assert connect(server).ask("MAIL FROM:<s@example.net>").startswith("250 ")


def test_strangers_connect_only_so_often_in_a_minute(server, connect) -> None:
    server.context.rates.connections = Rate(1)
    connect(server)
    with socket.create_connection(("127.0.0.1", server.ports["smtp"]), timeout=10) as sock:
        assert sock.makefile("rb").read().startswith(b"421 4.7.0 ")
    connect(server, "submission")


def test_an_account_sends_only_so_many_messages_in_a_minute(server, connect) -> None:
    server.context.rates.account_messages = Rate(1)
    client = connect(server, "submissions")
    client.login()
    octets = b"From: alice@example.test\r\n\r\n"
    assert client.send(octets, "alice@example.test").startswith("250 ")
    assert client.ask("MAIL FROM:<alice@example.test>").startswith("450 4.7.1 ")
    other = connect(server, "submissions")
    other.login("bob")
    assert other.ask("MAIL FROM:<bob@example.test>").startswith("250 ")


def test_what_comes_back_to_a_forwarding_alias_is_a_loop(server, connect) -> None:
    directory = server.store.directory
    directory.add_alias("fan@example.test", "a@far.example")
    directory.add_alias("fan@example.test", "b@far.example")
    client = connect(server)
    assert client.send(OCTETS, "s@example.net", "fan@example.test").startswith("250 ")
    rows = server.queue.selected.rows(Selection())
    assert [row.recipient for row in rows] == ["a@far.example", "b@far.example"]
    forwarded = server.queue.octets(rows[0].message)
    assert forwarded.startswith(b"Delivered-To: fan@example.test\r\nReceived: ")
    assert client.send(forwarded, "s@example.net", "Fan@Example.test").startswith("554 5.4.6 ")
    assert client.send(forwarded, "s@example.net", "bob@example.test").startswith("250 ")


def test_an_alias_of_the_same_name_elsewhere_is_an_alias(server, connect) -> None:
    server.store.directory.add_alias("fan@example.test", "fan@far.example")
    client = connect(server)
    client.send(OCTETS, "s@example.net", "fan@example.test")
    (row,) = server.queue.selected.rows(Selection())
    assert b"Delivered-To: fan@example.test" in server.queue.octets(row.message)
    assert row.orcpt == "rfc822;fan@example.test"
