"""The queue worker against hosts that behave in every way."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from internet import Internet
from worker_rig import Rig

from pillarbox.queue import worker as worker_module
from pillarbox.smtp.client_events import Kind
from pillarbox.store.outgoing_row import OutgoingMessage, OutgoingRecipient, Selection


@pytest.fixture
def run(tmp_path: Path):
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            async with Internet() as net:
                rig = Rig(tmp_path, net)
                await asyncio.wait_for(scenario(rig), 30)
                rig.queue.close()

        asyncio.run(main())

    return run


def test_mail_goes_to_the_best_host_and_to_the_next_when_it_is_down(run) -> None:
    async def scenario(rig: Rig) -> None:
        net = rig.net
        first = await net.host("mx1.example.com")
        second = await net.host("mx2.example.com")
        net.mx("example.com", (10, "mx1.example.com"), (20, "mx2.example.com"))
        await rig.put("a@example.com", "b@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(2)
        assert first.received[0].recipients == ["a@example.com", "b@example.com"]
        assert first.received[0].octets == b"Subject: x\r\n\r\nhello\r\n"
        first.stop()
        await asyncio.sleep(1.2)  # the idle session is given up
        await rig.put("c@example.com")
        worker.hint()
        await rig.results(3)
        assert second.received[0].recipients == ["c@example.com"]
        assert rig.queue.count() == (0, 0)
        await worker.stop()

    run(scenario)


@pytest.mark.parametrize(
    "script",
    [
        {"greeting": "554 go away"},
        {"greeting": "421 busy"},
        {"greeting": "drop"},
        {"ehlo": "drop"},
        {"greeting": "what is this"},
    ],
)
def test_a_host_that_does_not_want_to_talk_is_passed_over(run, script: dict[str, str]) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.net.host("bad.example.com", **script)
        good = await rig.net.host("good.example.com")
        rig.net.mx("example.com", (10, "bad.example.com"), (20, "good.example.com"))
        await rig.put("a@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(1)
        assert len(good.received) == 1
        await worker.stop()

    run(scenario)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ({"mail": "550 5.1.8 no"}, Kind.PERMANENT),
        ({"mail": "451 4.3.0 later"}, Kind.TEMPORARY),
        ({"rcpt": "550 5.1.1 who"}, Kind.PERMANENT),
        ({"rcpt": "450 4.2.1 greylisted"}, Kind.TEMPORARY),
        ({"data": "554 5.7.1 spam"}, Kind.PERMANENT),
        ({"data": "451 4.3.0 later"}, Kind.TEMPORARY),
        ({"dot": "552 5.3.4 big"}, Kind.PERMANENT),
        ({"dot": "452 4.3.1 full"}, Kind.TEMPORARY),
        ({"dot": "drop"}, Kind.TEMPORARY),
        ({"rcpt": "drop"}, Kind.TEMPORARY),
        ({"dot": "421 4.3.2 shutting down"}, Kind.TEMPORARY),
    ],
)
def test_what_a_host_says_at_each_stage(run, script: dict[str, str], kind: Kind) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.net.host("mx.example.com", **script)
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put("a@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(1)
        await worker.stop()
        assert rig.recorder.kinds() == {"a@example.com": [kind]}
        assert len(rig.queue.selected.rows(Selection())) == (1 if kind is Kind.TEMPORARY else 0)

    run(scenario)


def test_each_recipient_has_its_own_result(run) -> None:
    async def scenario(rig: Rig) -> None:
        replies = {"a": "250 ok", "b": "550 5.1.1 unknown", "c": "450 4.2.2 full"}
        host = await rig.net.host("mx.example.com", rcpt=lambda to: replies[to[0]])
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put("a@example.com", "b@example.com", "c@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(3)
        await worker.stop()
        assert host.received[0].recipients == ["a@example.com"]
        assert {to[0]: kinds for to, kinds in rig.recorder.kinds().items()} == {
            "a": [Kind.DELIVERED],
            "b": [Kind.PERMANENT],
            "c": [Kind.TEMPORARY],
        }

    run(scenario)


def test_too_many_recipients_are_sent_in_further_transactions_at_once(run) -> None:
    async def scenario(rig: Rig) -> None:
        counts = {"taken": 0}

        def rcpt(to: str) -> str:
            counts["taken"] += 1
            return "250 ok" if counts["taken"] % 4 else "452 4.5.3 too many recipients"

        host = await rig.net.host("mx.example.com", rcpt=rcpt)
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put(*(f"u{number}@example.com" for number in range(10)))
        worker = rig.worker()
        worker.start()
        await rig.results(10)
        await worker.stop()
        assert {kinds[0] for kinds in rig.recorder.kinds().values()} == {Kind.DELIVERED}
        assert sorted(to for one in host.received for to in one.recipients) == sorted(
            f"u{number}@example.com" for number in range(10)
        )

    run(scenario)


@pytest.mark.parametrize(
    ("zone", "kind", "words"),
    [
        ({("example.com", "MX"): ["0 ."]}, Kind.PERMANENT, "accepts no mail"),
        ({}, Kind.PERMANENT, "does not exist"),
        ({("example.com", "MX"): "SERVFAIL"}, Kind.TEMPORARY, "looked up"),
        ({("example.com", "MX"): ["5 me.example."]}, Kind.PERMANENT, "loops"),
        ({("example.com", "TXT"): ['"no mx, no address"']}, Kind.PERMANENT, "no address"),
    ],
)
def test_domains_without_a_way(run, zone, kind: Kind, words: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.net.zone.update(zone)
        rig.net.port = 9
        await rig.put("a@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(1)
        await worker.stop()
        ((_, _, found, text),) = rig.recorder.results
        assert found is kind
        assert words in text

    run(scenario)


def test_one_session_carries_many_messages(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        for number in range(60):
            await rig.put(
                f"u{number}@example.com", octets=b"\r\n.dot\r\n..two\r\n" + bytes([48 + number])
            )
        worker = rig.worker()
        worker.start()
        await rig.results(60)
        await worker.stop()
        assert len(host.received) == 60
        assert host.connections <= 4
        assert all(b"\r\n.dot\r\n..two\r\n" in one.octets for one in host.received)

    run(scenario)


def test_a_dead_destination_does_not_hold_up_others(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.net.host("slow.dead.example", greeting="silence")
        good = await rig.net.host("mx.live.example")
        rig.net.mx("dead.example", (10, "slow.dead.example"))
        rig.net.mx("live.example", (10, "mx.live.example"))
        for number in range(100):
            await rig.put(f"d{number}@dead.example")
        await rig.put("a@live.example")
        worker = rig.worker()
        worker.start()
        begin = time.monotonic()
        await rig.results(1)
        assert time.monotonic() - begin < 5
        assert len(good.received) == 1
        await worker.stop()

    run(scenario)


def test_two_workers_deliver_each_message_once(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com", delay_dot_s=0.02)
        rig.net.mx("example.com", (10, "mx.example.com"))
        for number in range(80):
            await rig.put(f"u{number}@example.com")
        workers = [rig.worker("w1"), rig.worker("w2")]
        for worker in workers:
            worker.start()
        await rig.results(80)
        for worker in workers:
            await worker.stop()
        got = [one.recipients[0] for one in host.received]
        assert len(got) == len(set(got)) == 80

    run(scenario)


def test_a_removed_message_is_not_sent_though_its_attempt_has_begun(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com", data="354 go on")
        original = host._talk

        async def slow(reader, writer) -> None:
            rig.queue.selected.remove(Selection(queue_id="Q1"))
            await original(reader, writer)

        host._talk = slow
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put("a@example.com")
        worker = rig.worker()
        worker.start()
        await asyncio.sleep(0.5)
        await worker.stop()
        assert host.received == []

    run(scenario)


def test_limits_of_a_host_are_kept(run) -> None:
    """RFC 9422: two recipients in a transaction, two transactions in a session, nothing refused or deferred."""

    async def scenario(rig: Rig) -> None:
        host = await rig.net.host(
            "mx.example.com", ehlo="250-host\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=2 RCPTMAX=2"
        )
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put(*(f"r{number}@example.com" for number in range(5)))
        worker = rig.worker()
        worker.start()
        await rig.results(5)
        assert all(kinds == [Kind.DELIVERED] for kinds in rig.recorder.kinds().values())
        assert sorted(len(one.recipients) for one in host.received) == [1, 2, 2]
        assert host.connections == 2
        await worker.stop()

    run(scenario)


def test_reports_to_hosts_that_never_answer_leave_room_for_mail_of_users(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "MOST_SESSIONS", 2)
    monkeypatch.setattr(worker_module, "MOST_FOR_REPORTS", 1)

    async def scenario(rig: Rig) -> None:
        rows = []
        for name in ("a", "b", "c"):
            await rig.net.host(f"mx.{name}.example", greeting="silence")
            rig.net.mx(f"{name}.example", (10, f"mx.{name}.example"))
            rows.append(OutgoingRecipient(f"x@{name}.example", f"{name}.example"))
        report = OutgoingMessage("R", "", b"Subject: report\r\n\r\n")
        await rig.queue.enqueue(report, rows, lifetime_s=86400, warn_after_s=0)
        good = await rig.net.host("mx.good.example")
        rig.net.mx("good.example", (10, "mx.good.example"))
        worker = rig.worker()
        worker.start()
        await asyncio.sleep(0.3)
        await rig.put("u@good.example")
        worker.hint()
        await rig.results(1)
        assert len(good.received) == 1
        await worker.stop()

    run(scenario)
