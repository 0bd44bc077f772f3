"""A whole server that sends: submission, MX, fail-over, retries, bounces, restart."""

import asyncio
import imaplib
import smtplib
import ssl
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import dkim
import pytest
from internet import Internet

from pillarbox.app.server import Server
from pillarbox.auth.passwords import hash_password
from pillarbox.config.schema import Config, Dns, Listen, Outbound, Route, Security, Smtp, Submission
from pillarbox.core.secret import Secret
from pillarbox.outbound.signing import add_keys
from pillarbox.queue.schedule import Schedule
from pillarbox.store.directory import Directory
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import Selection

CREDENTIALS = hash_password(Secret("password"))


class Rig:
    """Server and Internet on one loop; clients block in threads."""

    def __init__(self, folder: Path, net: Internet) -> None:
        self.net = net
        self.folder = folder
        directory = Directory(folder / "directory.db", clock=time.time)
        directory.add_domain("here.example")
        directory.add_account("ann@here.example", *CREDENTIALS)
        directory.close()
        self.server: Server | None = None

    async def start(
        self, smtp: Smtp | None = None, submission: Submission | None = None, **outbound
    ) -> None:
        config = Config(
            hostname="mail.here.example",
            data_dir=str(self.folder),
            listen=Listen(submission=["127.0.0.1:0"], smtp=["127.0.0.1:0"], imap=["127.0.0.1:0"]),
            dns=Dns(servers=[f"{self.net.dns[0]}:{self.net.dns[1]}"]),
            security=Security(allow_cleartext_login=True),
            outbound=Outbound(**{"mx_port": self.net.port or 25, **outbound}),
            smtp=smtp or Smtp(),
            submission=submission or Submission(),
        )
        self.server = Server(config, failure_delay_s=0)
        await self.server.start()

    async def stop(self) -> None:
        assert self.server is not None
        await self.server.stop(1)

    def _submit(self, to: str, text: str) -> None:
        assert self.server is not None
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "ann@here.example", to, "Greetings"
        message.set_content(text)
        with smtplib.SMTP(*self.server.addresses["submission"][0]) as client:
            client.login("ann@here.example", "password")
            client.send_message(message)

    async def submit(self, to: str, text: str = "hello") -> None:
        await asyncio.to_thread(self._submit, to, text)

    def _inbox(self) -> list[bytes]:
        assert self.server is not None
        with imaplib.IMAP4(*self.server.addresses["imap"][0]) as client:
            client.login("ann@here.example", "password")
            client.select("INBOX")
            _, data = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
            return [part[1] for part in data if isinstance(part, tuple)]

    async def inbox(self, count: int) -> list[bytes]:
        for _ in range(200):
            found = await asyncio.to_thread(self._inbox)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError("no mail came")

    async def until(self, condition) -> None:
        for _ in range(200):
            if condition():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it did not happen")


@pytest.fixture
def run(tmp_path: Path) -> Iterator:
    def run(scenario) -> None:
        async def main() -> None:
            async with Internet() as net:
                rig = Rig(tmp_path, net)
                try:
                    await asyncio.wait_for(scenario(rig), 60)
                finally:
                    await rig.stop()

        asyncio.run(main())

    return run


def test_the_lessons_mx_example_with_the_first_host_down(run) -> None:
    async def scenario(rig: Rig) -> None:
        first = await rig.net.host("mail1.example.com")
        second = await rig.net.host("mail2.example.com")
        rig.net.mx("example.com", (10, "mail1.example.com"), (20, "mail2.example.com"))
        first.stop()
        await rig.start()
        await rig.submit("recipient@example.com")
        await rig.until(lambda: second.received)
        (got,) = second.received
        assert (got.sender, got.recipients) == ("ann@here.example", ["recipient@example.com"])
        assert got.octets.startswith(b"Received: from ")
        assert b"\r\nSubject: Greetings\r\n" in got.octets

    run(scenario)


def test_a_permanent_refusal_comes_back_as_a_bounce(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.net.host("mx.example.com", rcpt="550 5.1.1 nobody of that name")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()
        await rig.submit("ghost@example.com")
        (bounce,) = await rig.inbox(1)
        assert bounce.startswith(b"Return-Path: <>\r\n")
        assert b"Content-Type: multipart/report; report-type=delivery-status;" in bounce
        assert b"Final-Recipient: rfc822; ghost@example.com\r\n" in bounce.replace(
            b"rfc822;g", b"rfc822; g"
        )
        assert b"Status: 5.1.1\r\n" in bounce
        assert b"nobody of that name" in bounce
        assert b"Subject: Greetings" in bounce

    run(scenario)


def test_greylisted_mail_waits_and_survives_a_restart(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com", rcpt="450 4.2.0 greylisted, come back later")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()
        await rig.submit("friend@example.com")
        assert rig.server is not None
        await rig.until(lambda: host.connections == 1)
        await asyncio.sleep(0.2)
        await rig.stop()
        host.script.rcpt = "250 ok"
        await rig.start()
        assert host.received == []
        queue = OutgoingQueue(rig.folder / "queue.db", clock=time.time)
        (row,) = queue.selected.rows(Selection())
        assert row.attempts == 1
        assert "greylisted" in row.reply
        assert Schedule().first_s * 0.7 < row.next_try - time.time() <= Schedule().first_s
        assert (
            queue.selected.retry(Selection(queue_id=row.queue_id)) == 1
        )  # by a command of another process
        await rig.until(lambda: host.received)
        await rig.until(lambda: queue.count() == (0, 0))
        queue.close()

    run(scenario)


def test_mail_for_both_worlds_reaches_both(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()
        await rig.submit("friend@example.com, ann@here.example")
        (mine,) = await rig.inbox(1)
        assert b"Delivered-To: ann@here.example\r\n" in mine
        await rig.until(lambda: host.received)
        assert b"Delivered-To" not in host.received[0].octets

    run(scenario)


def test_a_bounce_is_never_bounced(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com", rcpt="550 5.1.1 no")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()
        assert rig.server is not None
        assert rig.server.store is not None
        rig.server.store.directory.add_alias("fwd@here.example", "gone@example.com")

        def send() -> None:
            with smtplib.SMTP(*rig.server.addresses["smtp"][0]) as client:
                client.sendmail("", ["fwd@here.example"], b"Subject: a report\r\n\r\nx\r\n")

        await asyncio.to_thread(send)
        await rig.until(lambda: host.connections == 1)
        await asyncio.sleep(0.5)
        assert await asyncio.to_thread(rig._inbox) == []

    run(scenario)


def test_a_smarthost_needs_tls_that_can_be_verified(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("relay.provider.example")
        await rig.start(smarthost=f"relay.provider.example:{rig.net.port}")
        await rig.submit("friend@example.com")
        await rig.until(lambda: host.connections == 1)
        await asyncio.sleep(0.3)
        assert host.received == []  # it offers no STARTTLS: nothing is said in the clear

    run(scenario)


def _send(rig: Rig, sender: str, *recipients: str, text: bytes = b"Subject: x\r\n\r\nx\r\n"):
    """By port 25, without a login; returns who was refused."""
    assert rig.server is not None
    with smtplib.SMTP(*rig.server.addresses["smtp"][0]) as client:
        return client.sendmail(sender, recipients, text)


def test_a_route_of_a_domain_goes_before_mx_and_smarthost_and_may_be_lmtp(run) -> None:
    async def scenario(rig: Rig) -> None:
        lists = await rig.net.host("lists.internal")
        direct = await rig.net.host("mx.direct.example")
        rig.net.mx("direct.example", (10, "mx.direct.example"))
        await rig.start(
            smarthost="nowhere.example:587",
            routes={
                "lists.example.com": Route(f"lists.internal:{rig.net.port}", "lmtp"),
                "*.other.example": Route(f"lists.internal:{rig.net.port}"),
                "direct.example": Route(),
            },
        )
        await rig.submit("a@lists.example.com, b@lists.example.com")
        await rig.until(lambda: len(lists.received) == 1)
        assert lists.received[0].recipients == ["a@lists.example.com", "b@lists.example.com"]
        await rig.submit("c@deep.below.other.example, d@direct.example")
        await rig.until(lambda: len(lists.received) == 2 and direct.received)
        assert lists.received[1].recipients == ["c@deep.below.other.example"]

    run(scenario)


def test_a_route_with_verified_tls_sends_nothing_in_the_clear(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start(routes={"example.com": Route(tls="verified")})
        await rig.submit("friend@example.com")
        await rig.until(lambda: host.connections == 1)
        await asyncio.sleep(0.3)
        assert host.received == []

    run(scenario)


def test_strangers_may_send_to_a_routed_domain_only_where_the_route_says_so(run) -> None:
    async def scenario(rig: Rig) -> None:
        gateway = await rig.net.host("inner.internal")
        endpoint = f"inner.internal:{rig.net.port}"
        await rig.start(
            routes={
                "open.example": Route(endpoint, from_strangers=True),
                "closed.example": Route(endpoint),
            }
        )
        assert await asyncio.to_thread(_send, rig, "x@far.example", "a@Open.Example") == {}
        await rig.until(lambda: gateway.received)
        assert gateway.received[0].sender == "x@far.example"
        for refused in ("a@closed.example", "a@sub.open.example", "a@example.com"):
            with pytest.raises(smtplib.SMTPRecipientsRefused) as error:
                await asyncio.to_thread(_send, rig, "x@far.example", refused)
            assert error.value.recipients[refused][0] == 550

    run(scenario)


@pytest.mark.parametrize("trusted", [["127.0.0.0/8"], ["192.0.2.0/24"]])
def test_hosts_of_trusted_networks_may_send_to_anybody_without_a_login(run, trusted) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start(Smtp(trusted_networks=trusted))
        assert rig.server is not None
        assert rig.server.store is not None
        add_keys(rig.server.store.directory, "here.example", int(time.time()))
        text = b"From: printer@here.example\nSubject: a scan\n\nbare LF\n"
        arguments = (rig, "printer@here.example", "friend@example.com")
        if trusted[0].startswith("192"):
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                await asyncio.to_thread(_send, *arguments)
            return
        await asyncio.to_thread(_send, *arguments, text=text)
        await rig.until(lambda: host.received)
        octets = host.received[0].octets
        for field in (b"DKIM-Signature: ", b"Date: ", b"Message-ID: "):
            assert b"\r\n" + field in b"\r\n" + octets

    run(scenario)


def test_mail_over_the_limit_is_held_and_the_account_and_postmaster_are_told_once(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start(submission=Submission(recipients_per_hour=2))
        assert rig.server is not None
        assert rig.server.store is not None
        await rig.submit("a@example.com, b@example.com")
        await rig.until(lambda: len(host.received) == 1)
        await rig.submit("c@example.com, d@example.com, ann@here.example")
        await rig.submit("e@example.com")
        mails = await rig.inbox(3)
        assert sum(b"Subject: Mail is held" in mail for mail in mails) == 2  # ann is postmaster
        assert sum(b"Subject: Greetings" in mail for mail in mails) == 1
        queue = OutgoingQueue(rig.folder / "queue.db", clock=time.time)
        assert {row.recipient for row in queue.selected.rows(Selection())} == {
            "c@example.com",
            "d@example.com",
            "e@example.com",
        }
        assert len(host.received) == 1
        assert queue.selected.set_held(Selection(), held=False) == 3
        await rig.until(lambda: len(host.received) == 3)
        queue.close()

    run(scenario)


def test_strangers_cannot_relay(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.start()

        def ask() -> int:
            assert rig.server is not None
            with smtplib.SMTP(*rig.server.addresses["smtp"][0]) as client:
                client.ehlo()
                client.mail("x@evil.example")
                return client.rcpt("victim@example.com")[0]

        assert await asyncio.to_thread(ask) == 550

    run(scenario)


def test_contexts_verify_by_default() -> None:
    from pillarbox.net.tls import client_context

    assert client_context(verified=True).verify_mode is ssl.CERT_REQUIRED
    assert client_context(verified=True).check_hostname
    assert client_context(verified=False).verify_mode is ssl.CERT_NONE


def test_submitted_mail_arrives_with_signatures_that_our_records_verify(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()
        assert rig.server is not None
        assert rig.server.store is not None
        keys = add_keys(rig.server.store.directory, "here.example", int(time.time()))
        await rig.submit("friend@example.com, ann@here.example", "hello  \n.\n\n\n")
        await rig.until(lambda: host.received)
        signed = host.received[0].octets
        records = {f"{key.selector}._domainkey.here.example.": key.record for key in keys}
        assert signed.count(b"DKIM-Signature:") == 2
        for index in range(2):
            assert dkim.DKIM(signed).verify(
                index, dnsfunc=lambda name, timeout: records[name.decode()].encode()
            )
        (mine,) = await rig.inbox(1)
        assert b"DKIM-Signature:" not in mine

    run(scenario)


def test_forwarded_mail_is_not_signed(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()
        assert rig.server is not None
        assert rig.server.store is not None
        directory = rig.server.store.directory
        add_keys(directory, "here.example", int(time.time()))
        directory.add_alias("fwd@here.example", "friend@example.com")

        def send() -> None:
            with smtplib.SMTP(*rig.server.addresses["smtp"][0]) as client:
                forged = b"From: ann@here.example\r\n\r\nnot by Ann\r\n"
                client.sendmail("x@evil.example", ["fwd@here.example"], forged)

        await asyncio.to_thread(send)
        await rig.until(lambda: host.received)
        assert b"DKIM-Signature:" not in host.received[0].octets

    run(scenario)


def test_our_own_bounces_are_signed_where_our_name_is_a_domain_of_ours(run) -> None:
    async def scenario(rig: Rig) -> None:
        refusing = await rig.net.host("mx.example.com", rcpt="550 5.1.1 nobody of that name")
        rig.net.mx("example.com", (10, "mx.example.com"))
        friendly = await rig.net.host("mx.sender.example")
        rig.net.mx("sender.example", (10, "mx.sender.example"))
        await rig.start()
        assert rig.server is not None
        assert rig.server.store is not None
        directory = rig.server.store.directory
        directory.add_domain("mail.here.example")
        add_keys(directory, "mail.here.example", int(time.time()))
        directory.add_alias("fwd@here.example", "gone@example.com")

        def send() -> None:
            with smtplib.SMTP(*rig.server.addresses["smtp"][0]) as client:
                client.sendmail(
                    "x@sender.example", ["fwd@here.example"], b"Subject: x\r\n\r\nx\r\n"
                )

        await asyncio.to_thread(send)
        await rig.until(lambda: refusing.connections)
        await rig.until(lambda: friendly.received)
        bounce = friendly.received[0]
        assert bounce.sender == ""
        assert bounce.octets.count(b"DKIM-Signature:") == 2
        assert b" d=mail.here.example;" in bounce.octets

    run(scenario)


def test_wishes_reach_a_host_that_offers_dsn_and_end_at_one_that_does_not(run) -> None:
    """RFC 3461 §5.2.1, §5.2.2: parameters only where DSN is offered, "relayed" where it is not."""

    async def scenario(rig: Rig) -> None:
        knows = await rig.net.host("mx.knows.example", ehlo="250-host\r\n250 DSN")
        plain = await rig.net.host("mx.plain.example")
        rig.net.mx("knows.example", (10, "mx.knows.example"))
        rig.net.mx("plain.example", (10, "mx.plain.example"))
        await rig.start()

        def submit() -> None:
            assert rig.server is not None
            with smtplib.SMTP(*rig.server.addresses["submission"][0]) as client:
                client.login("ann@here.example", "password")
                client.sendmail(
                    "ann@here.example",
                    ["a@knows.example", "b@plain.example"],
                    b"From: ann@here.example\r\n\r\nx\r\n",
                    mail_options=["ENVID=E1", "RET=HDRS"],
                    rcpt_options=["NOTIFY=SUCCESS"],
                )

        await asyncio.to_thread(submit)
        (report,) = await rig.inbox(1)
        assert b"Action: relayed" in report
        assert b"b@plain.example" in report
        assert b"a@knows.example" not in report
        await rig.until(lambda: knows.received and plain.received)
        assert knows.received[0].commands == [
            "MAIL FROM:<ann@here.example> RET=HDRS ENVID=E1",
            "RCPT TO:<a@knows.example> NOTIFY=SUCCESS",
        ]
        assert plain.received[0].commands[1] == "RCPT TO:<b@plain.example>"
        assert "ENVID" not in plain.received[0].commands[0]

    run(scenario)


UMLAUTS = (
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + "grüße\r\n".encode()
)
SEALED = (
    b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n"
    + UMLAUTS
    + b"--b\r\n\r\nsignature\r\n--b--\r\n"
)


def test_eight_bit_mail_reaches_hosts_that_take_seven_bit_only(run) -> None:
    """RFC 6152 §3: converted, or bounced where nothing may be changed; a host with 8BITMIME gets it as it came."""

    async def scenario(rig: Rig) -> None:
        old = await rig.net.host("mx.old.example", ehlo="250-host\r\n250 SIZE 100000")
        new = await rig.net.host("mx.new.example")
        rig.net.mx("old.example", (10, "mx.old.example"))
        rig.net.mx("new.example", (10, "mx.new.example"))
        await rig.start()
        assert rig.server is not None
        assert rig.server.store is not None
        for name in ("old", "new"):
            rig.server.store.directory.add_alias(f"{name}@here.example", f"x@{name}.example")

        def send(octets: bytes) -> None:
            with smtplib.SMTP(*rig.server.addresses["smtp"][0]) as client:
                to = ["old@here.example", "new@here.example"]
                client.sendmail("ann@here.example", to, octets, ["BODY=8BITMIME"])

        await asyncio.to_thread(send, b"From: s@x.example\r\nMIME-Version: 1.0\r\n" + UMLAUTS)
        await rig.until(lambda: old.received and new.received)
        assert old.received[0].octets.endswith(b"quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe\r\n")
        assert "BODY" not in old.received[0].commands[0]
        size = len(old.received[0].octets)
        assert old.received[0].commands[0].endswith(f" SIZE={size}")
        assert new.received[0].octets.endswith(UMLAUTS)
        assert "BODY=8BITMIME" in new.received[0].commands[0]

        await asyncio.to_thread(send, b"From: s@x.example\r\nMIME-Version: 1.0\r\n" + SEALED)
        await rig.until(lambda: len(new.received) == 2)
        (bounce,) = await rig.inbox(1)
        assert b"Status: 5.6.3\r\n" in bounce
        assert b"x@old.example" in bounce
        assert new.received[1].octets.endswith(SEALED)

    run(scenario)


def test_what_users_send_is_seven_bit_whatever_the_next_host_takes(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()

        def submit() -> None:
            with smtplib.SMTP(*rig.server.addresses["submission"][0]) as client:
                client.login("ann@here.example", "password")
                octets = b"From: ann@here.example\r\nMIME-Version: 1.0\r\n" + UMLAUTS + b"a\nb\rc\n"
                to = ["x@example.com", "ann@here.example"]
                client.putcmd("mail", "FROM:<ann@here.example> BODY=8BITMIME")
                client.getreply()
                for each in to:
                    client.rcpt(each)
                client.data(octets)

        await asyncio.to_thread(submit)
        await rig.until(lambda: host.received)
        assert host.received[0].octets.isascii()
        assert "BODY" not in host.received[0].commands[0]
        (mine,) = await rig.inbox(1)
        assert "grüße".encode() in mine  # here it stays as it was

    run(scenario)


def test_internationalized_mail_goes_only_to_hosts_that_take_it(run) -> None:
    """RFC 6531 §3.2, §3.4: refused towards others, and said only where it is needed."""

    async def scenario(rig: Rig) -> None:
        old = await rig.net.host("mx.old.example")
        new = await rig.net.host("mx.new.example", ehlo="250-host\r\n250-8BITMIME\r\n250 SMTPUTF8")
        rig.net.mx("old.example", (10, "mx.old.example"))
        rig.net.mx("new.example", (10, "mx.new.example"))
        rig.net.mx("xn--bcher-kva.example", (10, "mx.old.example"))
        await rig.start()

        def submit(octets: bytes, *to: str) -> None:
            with smtplib.SMTP(*rig.server.addresses["submission"][0]) as client:
                client.ehlo()
                client.login("ann@here.example", "password")
                client.putcmd("mail", "FROM:<ann@here.example> SMTPUTF8")
                client.getreply()
                for each in to:
                    client.send(f"RCPT TO:<{each}>\r\n".encode())
                    client.getreply()
                client.data(b"From: ann@here.example\r\n" + octets)

        utf8 = "Subject: grüße\r\n\r\nx\r\n".encode()
        await asyncio.to_thread(submit, utf8, "a@old.example", "a@new.example")
        (bounce,) = await rig.inbox(1)
        assert b"Status: 5.6.9\r\n" in bounce
        assert b"a@old.example" in bounce
        await rig.until(lambda: new.received)
        assert new.received[0].commands[0].endswith(" BODY=8BITMIME SMTPUTF8")
        assert old.received == []

        await asyncio.to_thread(submit, b"\r\nx\r\n", "jörg@old.example", "jörg@new.example")
        bounces = await rig.inbox(2)
        assert b"Status: 5.6.7\r\n" in bounces[1]
        assert b"message/global-delivery-status" in bounces[1]
        await rig.until(lambda: len(new.received) == 2)
        assert new.received[1].recipients == ["jörg@new.example"]

        await asyncio.to_thread(submit, b"\r\nx\r\n", "b@bücher.example", "b@new.example")
        await rig.until(lambda: old.received and len(new.received) == 3)
        assert old.received[0].recipients == ["b@xn--bcher-kva.example"]
        assert "SMTPUTF8" not in new.received[2].commands[0]

    run(scenario)
