"""What senders are told, on a clock that runs as fast as the tests want."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pillarbox.core.errors import Unavailable
from pillarbox.outbound.signing import MailSigner
from pillarbox.queue import notice as notice_module
from pillarbox.queue.enqueue import Enqueuer
from pillarbox.queue.notice import Notices
from pillarbox.queue.report import QueueReporter
from pillarbox.queue.schedule import DAY, HOUR, Schedule
from pillarbox.smtp.client_events import Kind, Outcome, Stage
from pillarbox.smtp.reply import Reply
from pillarbox.store import messages
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import OutgoingMessage, OutgoingRecipient, Row, Selection
from pillarbox.store.store import Store

START = 1_800_000_000
ANN = "ann@here.example"

LATER = Outcome(Kind.TEMPORARY, Stage.RCPT, Reply(450, "4.2.0", "Greylisted, come back later"))
NOBODY = Outcome(Kind.PERMANENT, Stage.RCPT, Reply(550, "5.1.1", "No such user here"))
TAKEN = Outcome(Kind.DELIVERED, Stage.DOT, Reply(250, "2.0.0", "Ok"))


class Rig:
    """A store with one account, a queue and its reporter; `now` is the clock."""

    def __init__(self, folder: Path) -> None:
        self.now = float(START)
        self.store = Store(folder)
        self.store.directory.add_domain("here.example")
        self.store.directory.add_account(ANN, "", "")
        self.queue = OutgoingQueue(folder / "queue.db", clock=lambda: self.now)
        self.hints = 0
        self.numbers = 0
        enqueuer = Enqueuer(
            self.queue,
            lambda address: address.partition("@")[2],
            Schedule(),
            self._hint,
            MailSigner(self.store),
        )
        notices = Notices(
            self.store, enqueuer, "mail.here.example", lambda: self.now, self._next_number
        )
        self.reporter = QueueReporter(
            self.queue, notices, enqueuer.schedule, lambda: self.now, lambda: 0.5
        )

    def _hint(self) -> None:
        self.hints += 1

    def _next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    async def put(self, *to: str, sender: str = ANN) -> None:
        octets = (
            b"From: ann@here.example\r\nMessage-ID: <1@here>\r\nSubject: Plans\r\n\r\nsecret\r\n"
        )
        await self.reporter.notices.enqueuer.enqueue(OutgoingMessage("Q1", sender, octets), to)

    async def attempt(self, *outcomes: Outcome) -> list[Row]:
        """Lease what is due of Q1 and report these outcomes."""
        for group in await self.queue.lease("w", 60, limit=100):
            if group[0].queue_id == "Q1":
                await self.reporter.report("w", group, outcomes, "mx.there.example [192.0.2.1]")
        await self.queue.drain()
        return self.queue.selected.rows(Selection(queue_id="Q1"))

    def reports(self) -> list[tuple[Row, bytes]]:
        """What is queued for other hosts, but Q1."""
        rows = self.queue.selected.rows(Selection())
        return [(row, self.queue.octets(row.message)) for row in rows if row.queue_id != "Q1"]

    async def inbox(self) -> list[bytes]:
        account = self.store.directory.known_account(ANN)

        def work(tx):
            rows = messages.select(tx, 1, [(1, messages.MOST_UIDS)], ("header", "content", "size"))
            return [header + messages.body(tx, content, 0, size) for header, content, size in rows]

        return await self.store.read(account.id, work)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Rig], Awaitable[None]]], None]:
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            rig = Rig(tmp_path)
            try:
                await asyncio.wait_for(scenario(rig), 30)
            finally:
                await rig.queue.drain()
                rig.queue.close()
                await rig.store.close()

        asyncio.run(main())

    return run


def test_a_delay_is_told_once_after_four_hours(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("friend@there.example")
        told = []
        while rig.now < START + 12 * HOUR:
            (row,) = await rig.attempt(LATER)
            told.append((rig.now - START, len(await rig.inbox())))
            rig.now = row.next_try
        assert all(count == 0 for passed, count in told if passed < 4 * HOUR)
        assert all(count == 1 for passed, count in told if passed >= 4 * HOUR)
        assert any(4 * HOUR <= passed < 6 * HOUR for passed, _ in told)
        (notice,) = await rig.inbox()
        assert b"Action: delayed\r\n" in notice
        assert b"Status: 4.2.0\r\n" in notice
        assert b"Will-Retry-Until: " in notice
        assert b"Return-Path: <>\r\n" in notice
        assert b"secret" not in notice

    run(scenario)


def test_after_five_days_the_sender_hears_that_time_is_over(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("friend@there.example")
        attempts = 0
        while rows := await rig.attempt(LATER):
            attempts += 1
            rig.now = rows[0].next_try
        assert START + 5 * DAY <= rig.now <= START + 5 * DAY + HOUR
        assert 50 < attempts < 120
        _notice, bounce = await rig.inbox()
        assert b"Action: failed\r\n" in bounce
        assert b"Status: 4.4.7\r\n" in bounce
        assert b"is not tried any more" in bounce.replace(b"\r\n", b" ")
        assert b"Nothing but wait" not in bounce
        assert b"Greylisted, come back later" in bounce
        assert rig.queue.count() == (0, 0)

    run(scenario)


def test_nobody_is_told_of_mail_with_the_null_path(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("friend@there.example", sender="")
        rig.now += 5 * HOUR
        assert len(await rig.attempt(LATER)) == 1
        rig.now += 5 * DAY
        assert await rig.attempt(NOBODY) == []
        assert await rig.inbox() == []
        assert rig.reports() == []
        assert rig.queue.count() == (0, 0)

    run(scenario)


def test_a_sender_elsewhere_gets_the_bounce_by_the_queue(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("ghost@there.example", sender="bob@far.example")
        assert await rig.attempt(NOBODY) == []
        ((row, octets),) = rig.reports()
        assert (row.reverse_path, row.recipient, row.next_hop) == (
            "",
            "bob@far.example",
            "far.example",
        )
        assert b"\r\nTo: bob@far.example\r\n" in octets
        assert rig.hints == 2

    run(scenario)


def test_a_bounce_says_what_the_refusal_means_and_what_to_do(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("ghost@there.example")
        await rig.attempt(NOBODY)
        (bounce,) = await rig.inbox()
        text = b" ".join(bounce.split())
        assert b"There is no such mailbox." in text
        assert b"Check the spelling of the address" in text
        assert b"The server mx.there.example said: 550 5.1.1 No such user here" in text
        assert b"Diagnostic-Code: smtp; 550 5.1.1 No such user here" in text
        assert b"Remote-MTA: dns; mx.there.example" in text

    run(scenario)


def test_recipients_of_one_message_end_each_in_their_own_way(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("a@there.example", "b@there.example", "c@there.example")
        (left,) = await rig.attempt(TAKEN, NOBODY, LATER)
        assert (left.recipient, left.attempts) == ("c@there.example", 1)
        (bounce,) = await rig.inbox()
        assert bounce.count(b"Final-Recipient: ") == 1
        assert b"b@there.example" in bounce

    run(scenario)


def test_a_bounce_that_cannot_be_stored_waits_and_what_was_delivered_is_not_sent_again(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(rig: Rig) -> None:
        async def refuse(*_arguments: object, **_named: object) -> int:
            raise Unavailable("the mail file is damaged")

        await rig.put("a@there.example", "b@there.example")
        with monkeypatch.context() as patch:
            patch.setattr(notice_module, "deliver", refuse)
            (left,) = await rig.attempt(TAKEN, NOBODY)
        assert left.recipient == "b@there.example"
        assert left.next_try > rig.now
        rig.now = left.next_try
        assert await rig.attempt(NOBODY) == []
        assert len(await rig.inbox()) == 1

    run(scenario)


def test_wishes_for_notices_are_kept(run) -> None:
    """RFC 3461 §4.1: NOTIFY=NEVER."""

    async def scenario(rig: Rig) -> None:
        await rig.queue.enqueue(
            OutgoingMessage("Q1", ANN, b"Subject: x\r\n\r\n"),
            [OutgoingRecipient("a@there.example", "there.example", notify="NEVER")],
            lifetime_s=5 * DAY,
            warn_after_s=4 * HOUR,
        )
        assert await rig.attempt(NOBODY) == []
        assert await rig.inbox() == []

    run(scenario)


@pytest.mark.parametrize(
    ("notify", "dsn", "told"),
    [
        ("SUCCESS,FAILURE", False, True),
        ("SUCCESS", True, False),
        ("FAILURE", False, False),
        ("NEVER", False, False),
        ("", False, False),
    ],
)
def test_handing_on_to_a_host_without_dsn_is_told_to_who_asked_for_success(
    run, notify: str, dsn: bool, told: bool
) -> None:
    """RFC 3461 §5.2.2 b, d, e; §5.2.1."""

    async def scenario(rig: Rig) -> None:
        await rig.queue.enqueue(
            OutgoingMessage("Q1", ANN, b"Subject: x\r\n\r\nsecret\r\n", envid="E1", ret="FULL"),
            [OutgoingRecipient("a@there.example", "there.example", notify, "rfc822;al+2Bi@x")],
            lifetime_s=5 * DAY,
            warn_after_s=4 * HOUR,
        )
        assert await rig.attempt(replace(TAKEN, dsn=dsn)) == []
        reports = await rig.inbox()
        assert len(reports) == told
        for report in reports:
            assert b"Action: relayed\r\nStatus: 2.0.0\r\nRemote-MTA: dns; mx.there" in report
            assert b"Original-Envelope-Id: E1\r\n" in report
            assert b"Original-Recipient: rfc822;al+i@x\r\n" in report
            assert b"secret" not in report  # RFC 3461 §4.3: the header only

    run(scenario)


def test_a_report_of_success_that_fails_does_not_send_the_message_again(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(rig: Rig) -> None:
        async def refuse(*_arguments: object, **_named: object) -> None:
            raise Unavailable("the mail file is damaged")

        await rig.queue.enqueue(
            OutgoingMessage("Q1", ANN, b"Subject: x\r\n\r\n"),
            [OutgoingRecipient("a@there.example", "there.example", "SUCCESS")],
            lifetime_s=5 * DAY,
            warn_after_s=4 * HOUR,
        )
        monkeypatch.setattr(notice_module, "deliver", refuse)
        assert await rig.attempt(TAKEN) == []

    run(scenario)


def test_the_administrator_may_get_a_copy_of_each_bounce_without_the_text(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.reporter.notices.copy_to = "boss@far.example"
        await rig.put("a@there.example")
        assert await rig.attempt(NOBODY) == []
        ((row, copy),) = rig.reports()
        assert (row.recipient, row.reverse_path) == ("boss@far.example", "")
        assert b"a@there.example" in copy
        assert b"Plans" in copy
        assert b"secret" not in copy
        assert len(await rig.inbox()) == 1

    run(scenario)


def test_a_bounce_to_the_administrator_is_not_copied_to_him(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.reporter.notices.copy_to = "Boss@far.example"
        await rig.put("a@there.example", sender="boss@far.example")
        await rig.attempt(NOBODY)
        assert len(rig.reports()) == 1

    run(scenario)


@pytest.mark.parametrize("recipient", ["boss@far.example", "behind.an.alias@other.example"])
def test_a_copy_that_fails_makes_no_other_copy(run, recipient: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.reporter.notices.copy_to = "boss@far.example"
        await rig.put(recipient, sender="")
        await rig.attempt(NOBODY)
        assert rig.reports() == []

    run(scenario)


def test_replies_that_nobody_can_explain_are_counted(run) -> None:
    async def scenario(rig: Rig) -> None:
        odd = Outcome(
            Kind.TEMPORARY, Stage.RCPT, Reply(459, "4.9.9", "moon phase 7 for <u@x.example>")
        )
        await rig.put("a@there.example", "b@there.example")
        await rig.attempt(odd, odd)
        assert rig.queue.unknown_replies.all() == [
            ("459 4.9.9 moon phase N for <ADDRESS>", 2, int(rig.now))
        ]
        rig.queue.selected.retry(Selection())
        await rig.attempt(NOBODY, LATER)
        assert len(rig.queue.unknown_replies.all()) == 1

    run(scenario)
