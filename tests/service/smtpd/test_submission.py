"""Submission: after login, as oneself, with headers and line ends mended (RFC 6409)."""

import base64
import logging
import re
import smtplib

import pytest

from pillarbox.store.outgoing_row import Selection

OCTETS = b"From: alice@example.test\r\nSubject: x\r\n\r\nHello\r\n"
SERVICES = [("submission", True), ("submissions", False)]


@pytest.fixture
def alice(server, connect):
    client = connect(server, "submissions")
    assert client.login() == "235 2.7.0 Authentication successful"
    return client


@pytest.mark.parametrize(("service", "tls"), SERVICES)
def test_submission_wants_login_and_says_so_in_received(server, connect, service, tls) -> None:
    client = connect(server, service, tls)
    assert client.ask("MAIL FROM:<alice@example.test>").startswith("530 5.7.0")
    assert client.login().startswith("235 ")
    assert client.send(OCTETS, "alice@example.test").startswith("250 ")
    (stored,) = server.inbox("bob")
    assert b"\r\n\twith ESMTPSA id " in stored
    assert b"127.0.0.1" not in stored


def test_logins_and_what_is_refused_to_users_are_in_the_log(server, connect, caplog) -> None:
    caplog.set_level(logging.INFO, "pillarbox")
    client = connect(server, "submissions")
    client.login()
    client.ask("MAIL FROM:<bob@example.test>")
    client.ask("MAIL FROM:<alice@example.test>")
    client.ask("RCPT TO:<nobody@example.test>")
    client.ask("MAIL FROM:<alice@example.test> SIZE=99999999")
    said = [record.getMessage() for record in caplog.records]
    login = re.fullmatch(
        "login ok: user=alice@example.test client=127.0.0.1 protocol=smtp mechanism=PLAIN"
        r" tls=TLSv1\.3 connection=(\S+)",
        said[0],
    )
    assert login is not None
    assert said[1:3] == [
        f"{login[1]} 127.0.0.1: refused sender=<bob@example.test> user=alice@example.test"
        " code=550: Not your sender address",
        f"{login[1]} 127.0.0.1: refused recipient=<nobody@example.test> user=alice@example.test"
        " code=550: No such mailbox here",
    ]
    assert "> user=alice@example.test code=5" in said[3]


def test_before_tls_there_is_no_auth(server, connect) -> None:
    client = connect(server, "submission")
    assert "AUTH" not in client.ask("EHLO x")
    assert client.login().startswith("538 5.7.11")
    assert client.ask("MAIL FROM:<alice@example.test>").startswith("530 5.7.0")


def test_lab_mode_offers_auth_in_the_clear_on_all_ports(lab, connect) -> None:
    for service in ("smtp", "submission"):
        client = connect(lab, service)
        assert "PLAIN LOGIN" in client.ask("EHLO x")
        assert client.login().startswith("235 ")
        assert client.send(OCTETS, "alice@example.test").startswith("250 ")
        assert client.ask("MAIL FROM:<bob@example.test>").startswith("550 5.7.1")
    assert connect(lab).send(OCTETS).startswith("250 ")  # port 25 is still for strangers
    assert b"with ESMTPA id" in lab.inbox("bob")[0]


def test_login_is_forgotten_with_starttls(lab, connect) -> None:
    client = connect(lab)
    assert client.login().startswith("235 ")
    client.ask("STARTTLS")
    client._wrap()
    client.file = client.socket.makefile("rb")
    client.ask("EHLO x")
    assert client.ask("MAIL FROM:<bob@example.test>").startswith("250 ")
    assert client.ask("RSET").startswith("250 ")
    assert client.login().startswith("235 ")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_auth_login_and_plain_without_initial_response(server, connect) -> None:
    client = connect(server, "submissions")
    assert client.ask("AUTH LOGIN") == "334 " + encoded("Username:")
    assert client.ask(encoded("alice")) == "334 " + encoded("Password:")
    assert client.ask(encoded("correct horse")).startswith("235 ")
    assert client.login().startswith("503 5.5.1")
    client = connect(server, "submissions")
    assert client.ask("AUTH PLAIN") == "334 "
    assert client.ask("*").startswith("501 5.7.0")
    assert client.ask("AUTH PLAIN") == "334 "
    assert client.ask(encoded("no separators")).startswith("501 5.5.2")
    assert client.ask("AUTH PLAIN " + encoded("\0alice\0correct horse")).startswith("235 ")


@pytest.mark.parametrize(
    ("authzid", "reply"),
    [
        ("alice@example.test", "235 "),
        ("Alice", "235 "),
        ("bob@example.test", "535 5.7.8"),
    ],
)
def test_nobody_acts_as_somebody_else(server, connect, authzid: str, reply: str) -> None:
    client = connect(server, "submissions")
    token = encoded(f"{authzid}\0alice\0correct horse")
    assert client.ask(f"AUTH PLAIN {token}").startswith(reply)


def test_the_third_failed_login_closes_the_connection(server, connect) -> None:
    client = connect(server, "submissions")
    assert client.login(password="wrong horse").startswith("535 5.7.8")
    assert client.login("nobody").startswith("535 5.7.8")
    assert client.login(password="wrong horse").startswith("421 4.7.0")
    assert client.reply() == ""


def test_a_changed_or_disabled_account_must_log_in_again(server, connect) -> None:
    directory = server.store.directory

    async def disable() -> None:
        directory.set_enabled(server.accounts["alice"], enabled=False)

    client = connect(server, "submissions")
    client.login()
    server.call(disable)
    assert client.ask("MAIL FROM:<alice@example.test>").startswith("421 4.7.0")
    assert connect(server, "submissions").login().startswith("535 5.7.8")


SENDERS = [
    ("alice@example.test", "250 2.1.0"),
    ("Alice@EXAMPLE.test", "250 2.1.0"),
    ("alice+x@example.test", "250 2.1.0"),
    ("team@example.test", "250 2.1.0"),
    ("", "250 2.1.0"),
    ("bob@example.test", "550 5.7.1"),
    ("nobody@example.test", "550 5.7.1"),
    ("alice@elsewhere.test", "550 5.7.1"),
    ('"alice@example.test"@elsewhere.test', "550 5.7.1"),
]


def test_the_sender_must_be_ones_own(server, alice) -> None:
    async def add() -> None:
        server.store.directory.add_alias("team@example.test", "alice@example.test")
        server.store.directory.add_alias("team@example.test", "bob@example.test")

    server.call(add)
    for sender, reply in SENDERS:
        assert (sender, alice.ask(f"MAIL FROM:<{sender}>")[:9]) == (sender, reply)
        alice.ask("RSET")


HEADERS = [
    (b"From: alice@example.test\r\n", "250 "),
    (b"From: Alice <Alice+x@EXAMPLE.test>\r\n", "250 "),
    (b"From: =?utf-8?Q?bob=40example.test?= <alice@example.test>\r\n", "250 "),
    (b"From: team: alice@example.test, alice+2@example.test;\r\n", "250 "),
    (b"Subject: none\r\n", "250 "),
    (b"From: bob@example.test\r\n", "550 5.7.1"),
    (b"From: alice@example.test, bob@example.test\r\n", "550 5.7.1"),
    (b"From: alice@example.test\r\nFrom: bob@example.test\r\n", "550 5.7.1"),
    (b"FROM :\r\n\tbob@example.test\r\n", "550 5.7.1"),
    (b"From: alice@example.test\r\nSender: bob@example.test\r\n", "550 5.7.1"),
    (b"From: bob@example.test\r\nSender: alice@example.test\r\n", "550 5.7.1"),
    (b"From: bob\r\n", "550 5.7.1"),
    (
        b"From: " + b", ".join(b"alice+%d@example.test" % n for n in range(200)) + b"\r\n",
        "550 5.7.1",
    ),
]


def test_the_authors_must_be_oneself(server, alice) -> None:
    for header, reply in HEADERS:
        sent = alice.send(header + b"\r\nHello\r\n", "alice@example.test")
        assert (header, sent.startswith(reply)) == (header, True)
    assert len(server.inbox("bob")) == sum(reply == "250 " for _, reply in HEADERS)


def test_date_and_message_id_are_added_where_missing(server, alice) -> None:
    queue_id = alice.send(OCTETS, "alice@example.test").rpartition(" ")[2].encode()
    octets = b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMESSAGE-ID: <x@y>\r\n" + OCTETS
    assert alice.send(octets, "").startswith("250 ")
    added, kept = server.inbox("bob")
    assert b"\r\nMessage-ID: <" + queue_id + b"@mail.example.test>\r\n" in added
    assert added.lower().count(b"\r\ndate: ") == 1
    assert kept.lower().count(b"\r\ndate: ") == kept.lower().count(b"\r\nmessage-id: ") == 1


def test_bcc_goes_from_the_top_header_only(server, alice) -> None:
    inner = b"Content-Type: message/rfc822\r\n\r\nBcc: inner@example.net\r\n\r\nbcc: text\r\n"
    alice.send(
        b"From: alice@example.test\r\nBcc: a@b,\r\n\tc@d\r\nSubject: Bcc: no\r\nBCC:\r\n"
        b"Resent-Bcc: e@f\r\n" + inner,
        "alice@example.test",
    )
    (stored,) = server.inbox("bob")
    assert stored.endswith(b"\r\nFrom: alice@example.test\r\nSubject: Bcc: no\r\n" + inner)
    assert b"a@b" not in stored
    assert b"e@f" not in stored


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"a\nb\rc\r\n", b"a\r\nb\r\nc\r\n"),
        (b"a\n.\nb\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\r\r\n", b"a\r\n\r\n"),
    ],
)
def test_bare_line_ends_are_normalised(server, alice, sent: bytes, stored: bytes) -> None:
    assert alice.send(OCTETS + sent, "alice@example.test").startswith("250 ")
    assert server.inbox("bob")[0].endswith(b"\r\n\r\nHello\r\n" + stored)


def test_line_ends_that_grow_over_the_limit_are_too_big(server, alice) -> None:
    assert alice.send(b"\n" * 25_000_000 + b"\r\n", "").startswith("552 5.3.4")


def test_a_large_submission_is_mended_too(server, alice) -> None:
    body = b"0123456789\r\n" * 200_000
    assert alice.send(b"Bcc: x@y\r\n" + OCTETS + body, "alice@example.test").startswith("250 ")
    (stored,) = server.inbox("bob")
    assert stored.endswith(body)
    assert b"x@y" not in stored


def test_mail_to_other_hosts_is_in_the_queue_before_its_250(server, alice) -> None:
    alice.ask("MAIL FROM:<alice@example.test>")
    assert alice.ask("RCPT TO:<Xaver@Elsewhere.TEST>") == "250 2.1.5 Ok"
    assert alice.ask("RCPT TO:<bob@example.test>") == "250 2.1.5 Ok"
    assert alice.ask("RCPT TO:<nobody@example.test>").startswith("550 5.1.1")
    alice.ask("DATA")
    reply = alice.ask(OCTETS.decode() + ".")
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    (row,) = server.queue.selected.rows(Selection())
    assert (row.recipient, row.next_hop) == ("Xaver@elsewhere.test", "elsewhere.test")
    assert (row.reverse_path, row.held) == ("alice@example.test", 0)
    assert row.queue_id == reply.rpartition(" ")[2]
    octets = server.queue.octets(row.message)
    assert octets.startswith(b"Received: from ")
    assert b"Return-Path" not in octets
    assert len(server.inbox("bob")) == 1


def test_an_alias_forwards_a_strangers_mail(server, connect) -> None:
    async def add_alias() -> None:
        server.store.directory.add_alias("fwd@example.test", "friend@elsewhere.test")

    server.call(add_alias)
    client = connect(server)
    assert client.send(OCTETS, "s@example.net", "fwd@example.test").startswith("250 ")
    (row,) = server.queue.selected.rows(Selection())
    assert row.recipient == "friend@elsewhere.test"
    assert row.account is None


def test_smtplib_submits(server) -> None:
    with smtplib.SMTP("localhost", server.ports["submission"], timeout=10) as client:
        client.starttls(context=server.client_tls)
        client.login("alice@example.test", "correct horse")
        refused = client.sendmail(
            "alice@example.test", ["bob@example.test", "nobody@example.test"], OCTETS
        )
        assert refused == {"nobody@example.test": (550, b"5.1.1 No such mailbox here")}
    with smtplib.SMTP_SSL(
        "localhost", server.ports["submissions"], context=server.client_tls
    ) as client:
        client.login("alice", "correct horse")
        client.sendmail("alice@example.test", ["bob@example.test"], OCTETS)
    assert len(server.inbox("bob")) == 2


ALICE, BOB = b"alice@example.test", b"Bob <bob@example.test>"


@pytest.mark.parametrize(
    "authors",
    [
        b",\r\n ".join([ALICE] * 1000) + b",\r\n " + BOB,
        ALICE + b"," + b"a:;," * 500 + BOB,
        b"(x)" * 15000 + BOB,
        b"," * 20000 + BOB,
        b"a " * 12000 + BOB,
        b"",
    ],
)
def test_an_author_behind_what_is_looked_at_is_not_overlooked(
    server, connect, authors: bytes
) -> None:
    client = connect(server, "submissions")
    client.login()
    octets = b"From: " + authors + b"\r\nSubject: x\r\n\r\ntext\r\n"
    assert client.send(octets, "alice@example.test").startswith("550 5.7.1 ")
