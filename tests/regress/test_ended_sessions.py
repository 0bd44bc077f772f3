"""A session that ended is freed at once: none waits until Python looks for cycles, which it does after some hundreds of
them. Those of minutes were kept, each with its buffers and its TLS."""

import gc
import imaplib
import poplib
import smtplib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from pillarbox.core.errors import Refused
from pillarbox.imapd.client import Client
from pillarbox.imapd.push import Push
from pillarbox.imapd.session import ImapSession
from pillarbox.imapd.watch import Watch
from pillarbox.net import connection
from pillarbox.net.channel import Channel
from pillarbox.net.tls import TlsLayer
from pillarbox.pop3d.session import Pop3Session
from pillarbox.smtpd.session import SmtpSession
from pillarbox.store.outgoing_row import Row
from pillarbox.testing import MailServer

USER, PASSWORD = "alice@example.test", "pillarbox"
COUNT = 3
OF_A_SESSION = frozenset(
    (
        connection.Connection,
        Channel,
        TlsLayer,
        SmtpSession,
        ImapSession,
        Pop3Session,
        Client,
        Push,
        Watch,
        Row,
        Refused,
    )
)


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with MailServer(allow_cleartext_login=True) as made:
        yield made


def smtp_with_a_message(server: MailServer) -> None:
    with smtplib.SMTP(server.host, server.ports["smtp"], timeout=20) as client:
        client.login(USER, PASSWORD)
        client.sendmail(USER, [USER], "Subject: x\r\n\r\ntext\r\n")


def smtp_by_tls(server: MailServer) -> None:
    with smtplib.SMTP(server.host, server.ports["submission"], timeout=20) as client:
        client.starttls(context=server.client_context())
        client.login(USER, PASSWORD)


def smtp_cut_off(server: MailServer) -> None:
    client = smtplib.SMTP(server.host, server.ports["smtp"], timeout=20)
    client.ehlo()
    client.mail("sender@example.org")
    client.rcpt(USER)
    client.close()


def smtp_with_mail_for_another_host(server: MailServer) -> None:
    with smtplib.SMTP(server.host, server.ports["submission"], timeout=20) as client:
        client.starttls(context=server.client_context())
        client.login(USER, PASSWORD)
        client.sendmail(USER, ["somebody@elsewhere.example"], "Subject: x\r\n\r\ntext\r\n")
    server.settle()


def selected(server: MailServer) -> imaplib.IMAP4:
    client = imaplib.IMAP4(server.host, server.ports["imap"], timeout=20)
    client.login(USER, PASSWORD)
    client.append("INBOX", "", "", b"Subject: x\r\n\r\ntext\r\n")
    client.select()
    return client


def imap_with_much(server: MailServer) -> None:
    client = selected(server)
    client.search(None, "TEXT", "nowhere")
    client.fetch("1:*", "(FLAGS BODY[])")
    client.store("1", "+FLAGS", "\\Seen")
    client.copy("1", "INBOX")
    client.logout()


def imap_whose_commands_failed(server: MailServer) -> None:
    client = selected(server)
    client.create("Archive")  # which is there from the second time on
    client.rename("nowhere", "new")
    client.delete("nowhere")
    client.append("nowhere", "", "", b"Subject: x\r\n\r\ntext\r\n")
    client.append("nowhere", "", "", b"Subject: x\r\n\r\n" + b"text\r\n" * 40_000)
    with suppress(imaplib.IMAP4.error):
        client.store("99999", "+FLAGS", "\\Seen")
    client.copy("1", "nowhere")
    client.logout()


def imap_that_failed_to_log_in(server: MailServer) -> None:
    client = imaplib.IMAP4(server.host, server.ports["imap"], timeout=20)
    with suppress(imaplib.IMAP4.error):
        client.login(USER, "wrong")
    client.logout()


def say(client: imaplib.IMAP4, line: bytes, answer: bytes) -> None:
    client.send(line + b"\r\n")
    while not client.readline().startswith(answer):
        pass


def imap_that_idled(server: MailServer) -> None:
    client = selected(server)
    say(client, b"x IDLE", b"+")
    say(client, b"DONE", b"x OK")
    client.logout()


def imap_cut_off_while_idle(server: MailServer) -> None:
    client = selected(server)
    say(client, b"x IDLE", b"+")
    client.shutdown()


def imap_with_notify_and_compression(server: MailServer) -> None:
    client = selected(server)
    say(client, b"x NOTIFY SET (personal (MessageNew MessageExpunge))", b"x OK")
    say(client, b"y COMPRESS DEFLATE", b"y OK")
    client.shutdown()


def imap_by_tls(server: MailServer) -> None:
    context = server.client_context()
    client = imaplib.IMAP4_SSL(server.host, server.ports["imaps"], ssl_context=context, timeout=20)
    client.login(USER, PASSWORD)
    client.logout()


def maildrop(server: MailServer) -> poplib.POP3:
    """Logged in, once whoever had the maildrop before is gone: it has one session at a time."""
    deadline = time.monotonic() + 20
    while True:
        client = poplib.POP3(server.host, server.ports["pop3"], timeout=20)
        client.user(USER)
        try:
            client.pass_(PASSWORD)
        except poplib.error_proto:
            assert time.monotonic() < deadline
            client.quit()
        else:
            return client


def pop3(server: MailServer) -> None:
    client = maildrop(server)
    client.retr(1)
    client.quit()


def pop3_beside_another(server: MailServer) -> None:
    first = maildrop(server)
    second = poplib.POP3(server.host, server.ports["pop3"], timeout=20)
    second.user(USER)
    with pytest.raises(poplib.error_proto):
        second.pass_(PASSWORD)
    second.quit()
    first.quit()


def pop3_cut_off(server: MailServer) -> None:
    maildrop(server).close()


def left() -> Counter[type]:
    """What there is of sessions, reachable or not."""
    return Counter(type(one) for one in gc.get_objects() if type(one) in OF_A_SESSION)


@pytest.mark.parametrize(
    "session",
    [
        smtp_with_a_message,
        smtp_by_tls,
        smtp_with_mail_for_another_host,
        smtp_cut_off,
        imap_with_much,
        imap_whose_commands_failed,
        imap_that_failed_to_log_in,
        imap_that_idled,
        imap_cut_off_while_idle,
        imap_with_notify_and_compression,
        imap_by_tls,
        pop3,
        pop3_beside_another,
        pop3_cut_off,
    ],
)
def test_nothing_of_it_waits_for_the_collector(
    server: MailServer, session: Callable[[MailServer], None]
) -> None:
    smtp_with_a_message(server)  # for POP3 to have one
    session(server)
    time.sleep(0.2)
    gc.collect()
    before = left()
    gc.disable()
    try:
        for _ in range(COUNT):
            session(server)
        end = time.monotonic() + connection.CLOSE_WAIT_S / 2
        while left() - before and time.monotonic() < end:
            time.sleep(0.02)
        assert not left() - before
    finally:
        gc.enable()
