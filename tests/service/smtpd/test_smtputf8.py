"""Internationalized mail: who gets it, what the trace says, what the queue notes (RFC 6531, 6532, 6533)."""

import email

import pytest

from pillarbox.store.outgoing_row import EIGHT_BIT, SEVEN_BIT, UTF8_HEADER, Selection

PLAIN = b"From: alice@example.test\r\nSubject: x\r\n\r\nHello\r\n"
UTF8 = "From: alice@example.test\r\nSubject: grüße\r\n\r\nHello\r\n".encode()


def transact(
    client, octets: bytes, *rcpts: str, sender: str = "s@example.net", mail: str = " SMTPUTF8"
):
    assert client.ask(f"MAIL FROM:<{sender}>{mail}").startswith("250 ")
    for rcpt in rcpts:
        assert client.ask(f"RCPT TO:{rcpt}").startswith("250 "), rcpt
    assert client.ask("DATA").startswith("354 ")
    reply = client.ask(octets + b".")
    assert reply.startswith("250 "), reply


def rows(server):
    return {row.recipient: row for row in server.queue.selected.rows(Selection())}


@pytest.fixture
def jorg(server):
    """An account whose name is not ASCII; it can be written with one character for ö, or with two."""
    number = server.store.directory.add_account("Jörg@example.test", "", "").id
    server.accounts["jörg"] = number
    return number


@pytest.mark.parametrize("local", ["jörg", "JÖRG", "jo\u0308rg", '"jörg"', "jörg+tag"])
def test_a_local_part_in_utf8_is_found_in_every_form(server, connect, jorg, local: str) -> None:
    """RFC 6532 §3.1"""
    transact(connect(server), UTF8, f"<{local}@example.test>")
    (stored,) = server.inbox("jörg")
    assert stored.startswith("Return-Path: <s@example.net>\r\nDelivered-To: jörg".encode())
    assert stored.endswith(UTF8)
    assert b"\r\n\twith UTF8SMTP id " in stored
    assert b"for <" not in stored


def test_a_domain_is_the_same_in_both_forms(server, connect) -> None:
    directory = server.store.directory
    directory.add_domain("bücher.example")
    server.accounts["b"] = directory.add_account("b@bücher.example", "", "").id
    client = connect(server)
    transact(client, PLAIN, "<b@BÜCHER.example>")
    transact(client, PLAIN, "<b@xn--bcher-kva.example>", mail="")
    first, second = server.inbox("b")
    for stored in (first, second):
        assert b"Delivered-To: b@xn--bcher-kva.example\r\n" in stored
    assert b"\twith ESMTP id " in second


def test_under_tls_and_after_login_the_trace_says_so(server, connect) -> None:
    """RFC 6531 §4.3"""
    client = connect(server, "submissions")
    client.login()
    for mail in (" SMTPUTF8", "", " SMTPUTF8"):
        transact(client, PLAIN, "<bob@example.test>", sender="alice@example.test", mail=mail)
    kinds = [stored.partition(b"\twith ")[2].split()[0] for stored in server.inbox("bob")]
    assert kinds == [b"UTF8SMTPSA", b"ESMTPSA", b"UTF8SMTPSA"]


@pytest.mark.parametrize(
    ("octets", "mail", "needs"),
    [
        (PLAIN, " SMTPUTF8", SEVEN_BIT),
        (PLAIN + "ü\r\n".encode(), " SMTPUTF8", EIGHT_BIT),
        (UTF8, " SMTPUTF8", UTF8_HEADER),
        (UTF8, "", EIGHT_BIT),
    ],
)
def test_the_queue_notes_what_a_forwarded_message_needs(
    server, connect, octets: bytes, mail: str, needs: int
) -> None:
    server.store.directory.add_alias("fwd@example.test", "x@far.test")
    transact(connect(server), octets, "<fwd@example.test>", mail=mail)
    assert rows(server)["x@far.test"].eight_bit == needs


def test_behind_an_alias_the_original_recipient_stays_known(server, connect) -> None:
    server.store.directory.add_alias("ö@example.test", "x@far.test")
    transact(connect(server), PLAIN, "<Ö@example.test>")
    row = rows(server)["x@far.test"]
    assert (row.orcpt, row.eight_bit) == ("utf-8;\\x{D6}@example.test", SEVEN_BIT)


def test_a_sender_in_utf8_gets_its_report(server, connect, jorg) -> None:
    """RFC 6533 §4.1"""
    transact(
        connect(server),
        PLAIN,
        "<jörg@example.test> NOTIFY=SUCCESS ORCPT=utf-8;jörg@example.test",
        sender="jörg@example.test",
    )
    _, report = server.inbox("jörg")
    status = email.message_from_bytes(report).get_payload(1)
    assert status.get_content_type() == "message/global-delivery-status"
    assert b"Final-Recipient: utf-8;j=C3=B6rg@example.test" in report
    transact(
        connect(server), PLAIN, "<bob@example.test> NOTIFY=SUCCESS", sender="jörg@bücher.example"
    )
    (row,) = rows(server).values()
    assert row.eight_bit == UTF8_HEADER
    assert "To: jörg@bücher.example\r\n".encode() in server.queue.octets(row.message)


def test_a_user_sends_as_an_address_of_his_in_utf8(server, connect) -> None:
    server.store.directory.add_alias("älice@example.test", "alice@example.test")
    client = connect(server, "submissions")
    client.login()
    octets = "From: Älice@example.test\r\nSubject: x\r\n\r\nx\r\n".encode()
    transact(client, octets, "<jörg@far.test>", sender="älice@example.test")
    assert rows(server)["jörg@far.test"].eight_bit == UTF8_HEADER
    assert client.ask("MAIL FROM:<böb@example.test> SMTPUTF8").startswith("550 5.7.1")
