"""imaplib: a program that reads a mailbox."""

import imaplib
import smtplib


def unread_subjects(host, port, context, login):
    """The program under test."""
    with imaplib.IMAP4_SSL(host, port, ssl_context=context) as client:
        client.login(*login)
        client.select("INBOX")
        _, (numbers,) = client.search(None, "UNSEEN")
        found = []
        for number in numbers.split():
            _, data = client.fetch(number.decode(), "(BODY[HEADER.FIELDS (SUBJECT)])")
            found.append(data[0][1].decode().partition(":")[2].strip())
        return found


def test_a_ticket_is_read_once(mailserver):
    with smtplib.SMTP(mailserver.host, mailserver.ports["smtp"]) as client:
        client.sendmail(
            "x@shop.example", "bob@example.test", "Subject: It is broken\r\n\r\nHelp\r\n"
        )
    context = mailserver.client_context()
    bob = ("bob@example.test", mailserver.accounts["bob@example.test"])
    where = ("localhost", mailserver.ports["imaps"], context, bob)
    assert unread_subjects(*where) == ["It is broken"]
    assert unread_subjects(*where) == []
