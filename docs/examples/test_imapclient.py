"""imapclient: IDLE hears of new mail."""

import smtplib

import pytest

imapclient = pytest.importorskip("imapclient", reason="imapclient is not installed")


def test_new_mail_is_announced(mailserver):
    with imapclient.IMAPClient(
        "localhost", mailserver.ports["imaps"], ssl_context=mailserver.client_context()
    ) as client:
        client.login("alice@example.test", mailserver.accounts["alice@example.test"])
        client.select_folder("INBOX")
        client.idle()
        with smtplib.SMTP(mailserver.host, mailserver.ports["smtp"]) as sender:
            sender.sendmail("x@shop.example", "alice@example.test", "Subject: Now\r\n\r\n...\r\n")
        assert (1, b"EXISTS") in client.idle_check(timeout=10)
        client.idle_done()
        (message,) = client.fetch([1], ["ENVELOPE"]).values()
        assert message[b"ENVELOPE"].subject == b"Now"
