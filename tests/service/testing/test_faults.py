"""What tests of applications can make go wrong, and the time of the queue."""

import asyncio
import imaplib
import smtplib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.testing import AsyncMailServer, MailServer

ALICE, BOB, ELSEWHERE = "alice@example.test", "bob@example.test", "customer@shop.example"


def send(server: MailServer, to: list[str], subject: str = "x", sender: str = ALICE) -> None:
    with smtplib.SMTP(server.host, server.ports["smtp"], timeout=10) as client:
        client.sendmail(sender, to, f"Subject: {subject}\r\n\r\nHello\r\n")


def test_a_recipient_is_refused_with_the_given_reply(mailserver: MailServer) -> None:
    with mailserver.faults.refuse("Bob@*", "550 5.1.1 No such user") as fault:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            send(mailserver, [BOB])
        assert caught.value.recipients == {BOB: (550, b"5.1.1 No such user")}
        send(mailserver, [ALICE])
        assert fault.hits == 1
    send(mailserver, [BOB])
    assert [mail["Delivered-To"] for mail in mailserver.outbox] == [ALICE, BOB]


def test_only_the_next_messages_are_refused(mailserver: MailServer) -> None:
    mailserver.faults.refuse(reply="451", at="dot", times=2)
    for _ in range(2):
        with pytest.raises(smtplib.SMTPDataError) as caught:
            send(mailserver, [BOB])
        assert caught.value.smtp_code == 451
    send(mailserver, [BOB], "third")
    assert [mail["Subject"] for mail in mailserver.outbox] == ["third"]


def test_after_a_refused_dot_the_session_goes_on(mailserver: MailServer) -> None:
    mailserver.faults.refuse(BOB, at="dot")
    with smtplib.SMTP(mailserver.host, mailserver.ports["smtp"], timeout=10) as client:
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail(ALICE, BOB, "Subject: a\r\n\r\n")
        client.sendmail(ALICE, ALICE, "Subject: b\r\n\r\n")
    assert [mail["Subject"] for mail in mailserver.outbox] == ["b"]


def test_a_sender_is_refused_at_mail(mailserver: MailServer) -> None:
    mailserver.faults.refuse(sender=ALICE, at="mail")
    with pytest.raises(smtplib.SMTPSenderRefused):
        send(mailserver, [BOB])
    send(mailserver, [BOB], sender=BOB)


@pytest.mark.parametrize("reply", ["250 2.0.0 Ok", "550 4.1.1 Mixed", "no", ""])
def test_what_is_no_refusal_is_an_error_of_the_test(mailserver: MailServer, reply: str) -> None:
    with pytest.raises(ValueError, match="no refusal"):
        mailserver.faults.refuse(reply=reply)


def test_greylisting_lets_the_second_attempt_pass(mailserver: MailServer) -> None:
    mailserver.faults.greylist()
    for recipient in (ALICE, BOB):
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(mailserver, [recipient])
        send(mailserver, [recipient])
    assert len(mailserver.outbox) == 2


@pytest.mark.parametrize("at", ["greeting", "ehlo", "mail", "rcpt", "dot"])
def test_answers_are_slow(mailserver: MailServer, at: str) -> None:
    mailserver.faults.slow(0.3, at=at, times=1)  # type: ignore[arg-type]
    began = time.monotonic()
    send(mailserver, [BOB])
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("stored", [False, True])
def test_the_connection_ends_at_the_dot(mailserver: MailServer, stored: bool) -> None:
    mailserver.faults.drop(stored=stored)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(mailserver, [BOB], "lost?")
    send(mailserver, [BOB], "again")
    subjects = [mail["Subject"] for mail in mailserver.outbox]
    assert subjects == (["lost?"] if stored else []) + ["again"]


def test_the_connection_ends_instead_of_a_greeting(mailserver: MailServer) -> None:
    mailserver.faults.drop(at="greeting")
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        send(mailserver, [BOB])
    send(mailserver, [BOB])


def test_a_full_disk_stores_nothing(mailserver: MailServer) -> None:
    context = mailserver.client_context()
    with imaplib.IMAP4_SSL("localhost", mailserver.ports["imaps"], ssl_context=context) as imap:
        imap.login(BOB, "pillarbox")
        with mailserver.disk_full():
            with pytest.raises(smtplib.SMTPDataError) as caught:
                send(mailserver, [ALICE, BOB])
            assert caught.value.smtp_code == 452
            assert imap.append("INBOX", "", "", b"Subject: a\r\n\r\nb\r\n")[0] == "NO"
            assert imap.select()[1] == [b"0"]
        send(mailserver, [BOB])
        assert imap.append("INBOX", "", "", b"Subject: a\r\n\r\nb\r\n")[0] == "OK"
        assert imap.select()[1] == [b"2"]


def test_mail_for_other_hosts_is_in_the_outbox(mailserver: MailServer) -> None:
    send(mailserver, [ELSEWHERE, BOB, "x@second.example"], "order")
    got = {mail["Delivered-To"]: mail for mail in mailserver.outbox}
    assert set(got) == {ELSEWHERE, BOB, "x@second.example"}
    assert got[ELSEWHERE]["Return-Path"] == f"<{ALICE}>"
    assert mailserver.wait_for(to=ELSEWHERE).get_content() == "Hello\n"
    mailserver.clear()
    assert mailserver.outbox == []


def test_without_relay_strangers_reach_accounts_only() -> None:
    with MailServer(relay=False) as server, pytest.raises(smtplib.SMTPRecipientsRefused):
        send(server, [ELSEWHERE])


def test_what_another_host_refuses_comes_back_as_a_bounce(mailserver: MailServer) -> None:
    mailserver.elsewhere.refuse(ELSEWHERE, "550 5.1.1 Who is that")
    send(mailserver, [ELSEWHERE, "fine@shop.example"], "order")
    (fine, bounce) = sorted(mailserver.outbox, key=lambda mail: mail["Return-Path"] == "<>")
    assert fine["Delivered-To"] == "fine@shop.example"
    assert bounce["Delivered-To"] == ALICE
    assert bounce.get_content_type() == "multipart/report"
    assert "Who is that" in bounce.as_string()


def test_time_passes_for_the_queue_when_the_test_says_so(mailserver: MailServer) -> None:
    mailserver.elsewhere.greylist()
    send(mailserver, [ELSEWHERE])
    assert mailserver.outbox == []
    mailserver.advance(seconds=30)
    assert mailserver.outbox == []
    mailserver.advance(minutes=30)
    assert [mail["Delivered-To"] for mail in mailserver.outbox] == [ELSEWHERE]


def test_days_of_attempts_pass_one_after_the_other(mailserver: MailServer) -> None:
    fault = mailserver.elsewhere.refuse(reply="451 4.3.0 Not today")
    send(mailserver, [ELSEWHERE])
    began = time.monotonic()
    mailserver.advance(days=6)
    assert time.monotonic() - began < 30
    assert fault.hits > 30
    delay, bounce = mailserver.outbox
    assert "Action: delayed" in delay.as_string()
    assert "Action: failed" in bounce.as_string()


def test_waits_of_the_async_server_do_not_hold_up_the_loop() -> None:
    async def scenario() -> None:
        async with AsyncMailServer(hostname="mx.example.test") as server:
            waiting = asyncio.create_task(server.wait_for(subject="later"))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await asyncio.to_thread(send, server.sync, [ELSEWHERE], "later")
            assert (await waiting)["Delivered-To"] == ELSEWHERE
            assert len(await server.outbox()) == 1
            await server.clear()
            await server.advance(hours=1)
            assert await server.outbox() == []
        assert not server.sync.folder.exists()

    asyncio.run(scenario())
    with pytest.raises(RuntimeError, match="async with"):
        AsyncMailServer().host  # noqa: B018


def test_the_async_fixture_is_the_same_server(
    mailserver: MailServer, async_mailserver: AsyncMailServer
) -> None:
    assert async_mailserver.sync is mailserver
    assert async_mailserver.ports == mailserver.ports


def test_a_host_that_takes_no_session_is_given_a_rest_that_passes_too(
    mailserver: MailServer,
) -> None:
    fault = mailserver.elsewhere.refuse(reply="421 4.3.2 Not now", at="mail", times=3)
    send(mailserver, [ELSEWHERE, "other@shop.example"])
    mailserver.advance(hours=12)
    assert fault.hits == 3
    assert len(mailserver.wait_for(to=ELSEWHERE)["Subject"]) == 1


def test_a_connection_to_another_host_that_ends_at_the_dot_is_tried_again(
    mailserver: MailServer,
) -> None:
    mailserver.elsewhere.drop(stored=True)
    send(mailserver, [ELSEWHERE])
    assert len(mailserver.outbox) == 1
    mailserver.advance(hours=1)
    assert len(mailserver.outbox) == 2, "nobody can know that it was there already"


def test_slow_hosts_do_not_hold_up_the_end() -> None:
    with MailServer() as server:
        server.elsewhere.slow(60)
        send(server, [ELSEWHERE])
        with pytest.raises(TimeoutError, match="on its way"):
            server.settle(timeout=0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 5


def test_users_send_with_a_login_and_meet_the_same_faults(mailserver: MailServer) -> None:
    context = mailserver.client_context()
    mailserver.faults.refuse("*@shop.example", "450 4.2.0 Later", times=1)
    with smtplib.SMTP_SSL(
        "localhost", mailserver.ports["submissions"], context=context, timeout=10
    ) as client:
        client.login(ALICE, "pillarbox")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail(ALICE, ELSEWHERE, "Subject: a\r\n\r\n")
        client.sendmail(ALICE, ELSEWHERE, "Subject: b\r\n\r\n")
    assert mailserver.wait_for(to=ELSEWHERE)["Subject"] == "b"


def test_a_disk_is_not_full_twice(mailserver: MailServer) -> None:
    with mailserver.disk_full(), pytest.raises(RuntimeError), mailserver.disk_full():
        pass
    send(mailserver, [BOB])
    assert len(mailserver.outbox) == 1


def test_mail_for_a_host_that_is_given_a_rest_counts_as_deferred(mailserver: MailServer) -> None:
    mailserver.elsewhere.refuse(reply="421 4.3.2 Not now", at="mail", times=1)
    send(mailserver, [ELSEWHERE], "first")
    assert mailserver.outbox == []
    send(mailserver, [ELSEWHERE], "second")
    assert mailserver.outbox == []
    mailserver.advance(hours=1)
    assert {mail["Subject"] for mail in mailserver.outbox} == {"first", "second"}


def test_the_folder_is_where_tmpdir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with MailServer() as server:
        assert server.folder.parent == tmp_path


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda server: server.faults.slow(1, at="nowhere"), "can be one of greeting, ehlo, mail,"),
        (lambda server: server.faults.slow(-1), "seconds=-1: it must be 0 or more"),
        (lambda server: server.faults.slow(float("nan")), "seconds=nan"),
        (lambda server: server.faults.drop(times=0), "times=0: it must be 1 or more"),
        (lambda server: server.faults.greylist(first=0), "first=0: it must be 1 or more"),
        (lambda server: server.faults.refuse("bob"), "to='bob': no address is like that"),
        (lambda server: server.faults.refuse(""), "to='': no address is like that"),
        (lambda server: server.faults.refuse("a@b.test", at="mail"), "nobody is named yet at"),
        (lambda server: server.faults.slow(1, "a@b.test", at="greeting"), "nobody is named yet at"),
        (lambda server: server.faults.drop(sender="a@b.test", at="ehlo"), "nobody is named yet at"),
        (lambda server: server.advance(), "say how much time passes"),
        (lambda server: server.advance(hours=-1), "say how much time passes"),
        (lambda server: server.add_account("x"), "address: .* is not a mail address"),
        (lambda server: server.add_alias("x", "bob@example.test"), "alias: .* is not a mail addr"),
        (lambda server: server.add_alias("a@b.test", "bob"), "target: .* is not a mail address"),
        (lambda server: server.wait_for(to="bob"), "to: .* is not a mail address"),
        (lambda server: server.wait_for(timeout=-1), "timeout=-1: it must be 0 or more"),
        (lambda _: MailServer({"x": "secret"}), "accounts: .* is not a mail address"),
        (lambda _: MailServer(hostname="my host"), "hostname='my host': give a host name"),
        (lambda _: MailServer(hierarchy_separator="#"), "it can be"),
    ],
)
def test_what_cannot_be_is_an_error_of_the_test(
    mailserver: MailServer, wrong: Callable[[MailServer], object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        wrong(mailserver)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda server: server.faults.slow("1"), "seconds='1': give a number"),
        (lambda server: server.faults.drop(times=True), "times=True: give a whole number"),
        (lambda server: server.faults.refuse(["bob@example.test"]), "give a text"),
        (lambda server: server.faults.refuse(reply=550), "reply=550: give a text"),
        (lambda server: server.faults.greylist(reply=450), "reply=450: give a text"),
        (lambda server: server.wait_for("Welcome"), "predicate='Welcome': give a function"),
        (lambda server: server.wait_for(subject=b"x"), "subject=b'x': give a text"),
        (lambda server: server.settle(timeout="1"), "timeout='1': give a number"),
        (lambda server: server.add_account("x@y.test", None), "password=None: give a text"),
        (lambda _: MailServer(accounts=["x@y.test"]), "give passwords by address, like"),
        (lambda _: MailServer({"x@y.test": 5}), "the password of x@y.test=5: give a text"),
        (lambda _: MailServer(hostname=None), "hostname=None: give a text"),
        (lambda _: AsyncMailServer(host="x"), "unexpected keyword argument 'host'"),
        (lambda _: AsyncMailServer({"x@y.test": "x"}), "give a MailServer that runs, or none"),
        (lambda server: AsyncMailServer(server, relay=False), "relay: the server runs already"),
    ],
)
def test_what_is_of_another_kind_is_an_error_of_the_test(
    mailserver: MailServer, wrong: Callable[[MailServer], object], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        wrong(mailserver)


def test_what_is_unusual_but_can_be_is_taken(mailserver: MailServer) -> None:
    mailserver.faults.refuse("postmaster")
    mailserver.faults.refuse("?ob@example.test", sender="", at="dot")
    mailserver.faults.slow(0, at="greeting")


def test_port_smtp_may_offer_no_starttls() -> None:
    with MailServer(starttls=False) as server:
        for service, offers in (("smtp", False), ("submission", True)):
            with smtplib.SMTP(server.host, server.ports[service], timeout=10) as client:
                client.ehlo()
                assert client.has_extn("starttls") == offers
                assert (client.docmd("STARTTLS")[0] == 220) == offers
                if offers:
                    client.close()


def test_the_async_server_has_what_clients_and_faults_need() -> None:
    async def scenario() -> None:
        async with AsyncMailServer() as server:
            assert server.accounts == server.sync.accounts
            assert server.ca_file.exists()
            assert server.faults is server.sync.faults
            assert server.elsewhere is server.sync.elsewhere
            _, writer = await asyncio.open_connection(
                server.host, server.ports["imaps"], ssl=server.client_context()
            )
            writer.close()

    asyncio.run(scenario())
