"""What other projects get: `MailServer` and its fixture."""

import imaplib
import poplib
import smtplib
import time

import pytest

from pillarbox.testing import MailServer


def send(server: MailServer, to: list[str], subject: str) -> None:
    with smtplib.SMTP(server.host, server.ports["smtp"], timeout=10) as client:
        client.sendmail("carol@example.net", to, f"Subject: {subject}\r\n\r\nHello\r\n")


def test_mail_is_in_the_outbox_at_once(mailserver: MailServer) -> None:
    for number in range(5):
        send(mailserver, ["alice@example.test", "bob@example.test"], f"number {number}")
    outbox = mailserver.outbox
    assert [mail["Subject"] for mail in outbox] == [f"number {n}" for n in range(5) for _ in "ab"]
    assert {mail["Delivered-To"] for mail in outbox} == {"alice@example.test", "bob@example.test"}
    assert outbox[0]["Return-Path"] == "<carol@example.net>"
    assert outbox[0].get_content() == "Hello\n"
    mailserver.clear()
    assert mailserver.outbox == []


def test_wait_for_finds_what_fits(mailserver: MailServer) -> None:
    send(mailserver, ["alice@example.test"], "one")
    send(mailserver, ["bob@example.test"], "two")
    assert mailserver.wait_for(to="Bob@Example.test")["Subject"] == "two"
    assert mailserver.wait_for(subject="one")["Delivered-To"] == "alice@example.test"
    assert mailserver.wait_for(lambda mail: "w" in mail["Subject"])["Subject"] == "two"
    with pytest.raises(TimeoutError, match=r"'one' for alice@example\.test"):
        mailserver.wait_for(to="alice@example.test", subject="two", timeout=0.1)


def test_accounts_and_aliases_count_at_once(mailserver: MailServer) -> None:
    mailserver.add_account("dora@other.test", "her password")
    mailserver.add_alias("@catch.test", "dora@other.test")
    send(mailserver, ["anybody@catch.test"], "caught")
    assert mailserver.wait_for(to="dora@other.test")["Subject"] == "caught"
    client = imaplib.IMAP4_SSL(
        mailserver.host, mailserver.ports["imaps"], ssl_context=mailserver.client_context()
    )
    client.login("dora@other.test", "her password")
    assert client.select()[1] == [b"1"]
    client.logout()


def test_all_services_answer_with_a_certificate_that_its_ca_signed(mailserver: MailServer) -> None:
    context = mailserver.client_context()
    for service in ("smtp", "submission"):
        with smtplib.SMTP("localhost", mailserver.ports[service], timeout=10) as smtp:
            smtp.starttls(context=context)
    with smtplib.SMTP_SSL(
        "localhost", mailserver.ports["submissions"], context=context, timeout=10
    ) as smtp:
        smtp.login("alice@example.test", mailserver.accounts["alice@example.test"])
        smtp.sendmail("alice@example.test", "bob@example.test", "Subject: x\n\nfrom alice\n")
    assert mailserver.wait_for(to="bob@example.test").get_content() == "from alice\n"
    imap = imaplib.IMAP4("localhost", mailserver.ports["imap"], timeout=10)
    imap.starttls(context)
    imap.logout()
    pop3 = poplib.POP3_SSL("localhost", mailserver.ports["pop3s"], context=context, timeout=10)
    pop3.user("bob@example.test")
    pop3.pass_("pillarbox")
    assert pop3.stat()[0] == 1
    pop3.quit()


def test_close_frees_everything() -> None:
    server = MailServer()
    folder = server.folder
    server.close()
    server.close()
    assert not folder.exists()
    with pytest.raises(OSError):
        smtplib.SMTP(server.host, server.ports["smtp"], timeout=10)


def test_a_fresh_server_is_up_in_a_fifth_of_a_second() -> None:
    """The quickest of several: the machine may be busy with other tests."""
    quickest = 1.0
    for _ in range(10):
        began = time.perf_counter()
        with MailServer():
            quickest = min(quickest, time.perf_counter() - began)
        if quickest < 0.2:
            break
    assert quickest < 0.2
