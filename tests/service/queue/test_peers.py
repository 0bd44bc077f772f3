"""Peers that are slow, odd or hostile: every message ends in one result, soon, and nothing is left behind."""

import asyncio
import gc
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme
from internet import Internet
from worker_rig import Rig

from pillarbox.core.errors import Unavailable
from pillarbox.net import client
from pillarbox.queue import worker as worker_module
from pillarbox.smtp.client_events import Kind, Timeouts
from pillarbox.store.outgoing_row import Selection

HASTE = Timeouts(0.3, 0.3, 0.3, 0.3, 0.3, 0.3)
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a scenario; afterwards no task failed unseen, and no descriptor is left."""
    monkeypatch.setattr(client, "EVENT_S", 1.5)
    monkeypatch.setattr(client, "HANDSHAKE_S", 0.5)
    monkeypatch.setattr(client, "CLOSE_WAIT_S", 0.3)

    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        problems: list[str] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(
                lambda _loop, context: problems.append(repr(context))
            )
            async with Internet() as net:
                rig = Rig(tmp_path, net)
                rig.timeouts = HASTE
                await asyncio.wait_for(scenario(rig), 20)
                await rig.queue.drain()
                rig.queue.close()
            gc.collect()

        before = len(os.listdir("/proc/self/fd"))
        asyncio.run(main())
        gc.collect()
        assert problems == []
        assert len(os.listdir("/proc/self/fd")) <= before

    return run


async def send_one(rig: Rig, talk: Peer | None = None, **script: str) -> list[Kind]:
    """The results of one message to a domain whose only host behaves like that."""
    host = await rig.net.host("mx.example.com", **script)
    if talk is not None:
        host._talk = talk
    rig.net.mx("example.com", (10, "mx.example.com"))
    await rig.put("a@example.com")
    worker = rig.worker()
    worker.start()
    begin = time.monotonic()
    await rig.results(1)
    assert time.monotonic() - begin < 6
    begin = time.monotonic()
    await worker.stop()
    assert time.monotonic() - begin < 2
    return [kind for _, _, kind, _ in rig.recorder.results]


async def until_sending(rig: Rig) -> None:
    for _ in range(500):
        if any(row.sending for row in rig.queue.selected.rows(Selection())):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing is being sent")


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "dot"])
def test_silence_at_any_stage_ends_the_attempt(run, stage: str) -> None:
    async def scenario(rig: Rig) -> None:
        assert await send_one(rig, **{stage: "silence"}) == [Kind.TEMPORARY]
        assert len(rig.queue.selected.rows(Selection())) == 1

    run(scenario)


async def _tarpit(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for number in range(1000):
        writer.write(b"2" if number == 0 else b"20-x\r\n2"[number % 7 :][:1])
        await asyncio.sleep(0.05)


async def _flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 hello\r\n")
    for _ in range(200):
        writer.write(b"250 " + b"x" * 100 + b"\r\n" * 100)
        await writer.drain()


async def _endless_line(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"220" + b"x" * 100_000)
        await writer.drain()


async def _endless_reply(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"220-" + b"x" * 60 + b"\r\n")
        await writer.drain()


async def _binary(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(256)) * 40)
    await writer.drain()


@pytest.mark.parametrize("talk", [_tarpit, _flood, _endless_line, _endless_reply, _binary])
def test_a_peer_that_babbles_is_left_soon(run, talk: Peer) -> None:
    async def scenario(rig: Rig) -> None:
        assert await send_one(rig, talk) == [Kind.TEMPORARY]

    run(scenario)


def test_a_flood_while_nobody_reads_is_held_back(run) -> None:
    """Replies that come while the message waits for something else must not fill the memory."""

    async def scenario(rig: Rig) -> None:
        sent = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"220 hi\r\n")
            for answer in (b"250 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                await reader.readuntil(b"\r\n")
                writer.write(answer)
            await asyncio.sleep(0.2)  # the client waits for its lease
            while True:
                writer.write(b"250-" + b"x" * 60_000)
                await writer.drain()
                sent += 60_000

        async def slow_note(*arguments, **options) -> bool:
            await asyncio.sleep(1)
            return await note(*arguments, **options)

        note = rig.queue.note_sending
        rig.queue.note_sending = slow_note
        assert await send_one(rig, talk) == [Kind.TEMPORARY]
        assert sent < 16_000_000

    run(scenario)


def test_a_peer_that_closes_after_each_message_gets_them_all(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com", one_message=True)
        rig.net.mx("example.com", (10, "mx.example.com"))
        for number in range(20):
            await rig.put(f"u{number}@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(20)
        await worker.stop()
        assert {kind for _, _, kind, _ in rig.recorder.results} == {Kind.DELIVERED}
        assert len(host.received) == 20

    run(scenario)


def test_421_to_the_next_mail_of_a_session_means_another_session(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com", messages_a_session=2)
        rig.net.mx("example.com", (10, "mx.example.com"))
        for number in range(12):
            await rig.put(f"u{number}@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(12)
        await worker.stop()
        assert {kind for _, _, kind, _ in rig.recorder.results} == {Kind.DELIVERED}
        assert len(host.received) == 12

    run(scenario)


def test_a_limit_of_sessions_does_not_delay_what_waits(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com", delay_dot_s=0.02, most_sessions=1)
        rig.net.mx("example.com", (10, "mx.example.com"))
        for number in range(30):
            await rig.put(f"u{number}@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(30)
        await worker.stop()
        kinds = [kind for _, _, kind, _ in rig.recorder.results]
        assert kinds.count(Kind.DELIVERED) == len(host.received) == 30

    run(scenario)


def tls_host(authority: trustme.CA, injected: bytes = b"") -> Peer:
    """A host with STARTTLS; `injected` follows its 220 in the clear."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.example.com").configure_cert(context)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"250-hi\r\n250 STARTTLS\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"220 go\r\n" + injected)
        await writer.start_tls(context)
        await reader.readuntil(b"\r\n")
        writer.write(b"250 hi\r\n")
        for answer in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await reader.readuntil(b"\r\n")
            writer.write(answer)
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 taken\r\n")
        await reader.readuntil(b"\r\n")

    return talk


def test_starttls_is_used_whoever_signed_the_certificate(run) -> None:
    async def scenario(rig: Rig) -> None:
        assert await send_one(rig, tls_host(trustme.CA())) == [Kind.DELIVERED]

    run(scenario)


def test_what_is_injected_behind_starttls_is_not_believed(run) -> None:
    async def scenario(rig: Rig) -> None:
        talk = tls_host(trustme.CA(), b"250 hi\r\n250 ok\r\n250 ok\r\n")

        async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await talk(reader, writer)
            except ssl.SSLError:
                return

        assert await send_one(rig, quiet) == [Kind.TEMPORARY]

    run(scenario)


@pytest.mark.parametrize("answer", ["garbage", "close", "silence"])
def test_opportunistic_tls_that_fails_leaves_the_clear(run, answer: str) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host(
            "mx.example.com", ehlo="250-hi\r\n250-STARTTLS\r\n250 PIPELINING", starttls=answer
        )
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put("a@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(1)
        await worker.stop()
        assert rig.recorder.kinds() == {"a@example.com": [Kind.DELIVERED]}
        assert host.connections == 2

    run(scenario)


def test_slow_destinations_with_many_messages_do_not_hold_up_another(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "EVENT_S", 60)

    async def scenario(rig: Rig) -> None:
        rig.timeouts = Timeouts()
        for number in range(6):
            await rig.net.host(f"slow{number}.example", greeting="silence")
            for each in range(45):
                await rig.put(f"u{each}@slow{number}.example")
        await rig.net.host("live.example")
        worker = rig.worker()
        worker.start()
        await asyncio.sleep(1)
        await rig.put("a@live.example")
        worker.hint()
        await asyncio.wait_for(rig.results(1), 5)
        assert rig.recorder.kinds() == {"a@live.example": [Kind.DELIVERED]}
        begin = time.monotonic()
        await worker.stop()
        assert time.monotonic() - begin < 2

    run(scenario)


def test_a_stop_waits_for_the_answer_to_a_final_dot(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.timeouts = Timeouts()
        host = await rig.net.host("mx.example.com", delay_dot_s=1.0)
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put("a@example.com")
        worker = rig.worker()
        worker.start()
        await until_sending(rig)
        await worker.stop()
        assert len(host.received) == 1
        assert rig.queue.count() == (0, 0)

    run(scenario)


def test_a_stop_does_not_wait_long_for_a_peer_that_says_nothing_to_the_dot(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "STOP_S", 0.5)

    async def scenario(rig: Rig) -> None:
        rig.timeouts = Timeouts()
        await rig.net.host("mx.example.com", dot="silence")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put("a@example.com")
        worker = rig.worker()
        worker.start()
        await until_sending(rig)
        begin = time.monotonic()
        await worker.stop()
        assert time.monotonic() - begin < 2
        assert rig.queue.count() == (1, 1)

    run(scenario)


def test_a_lease_that_ended_in_line_and_was_taken_anew_does_not_send_twice(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "LEASE_S", 0)

    async def scenario(rig: Rig) -> None:
        rig.timeouts = Timeouts()
        host = await rig.net.host("mx.example.com", delay_dot_s=0.3)
        rig.net.mx("example.com", (10, "mx.example.com"))
        for number in range(6):
            await rig.put(f"u{number}@example.com")
        worker = rig.worker()
        worker.start()
        for _ in range(15):
            worker.hint()
            await asyncio.sleep(0.1)
        await worker.stop()
        got = [one.recipients[0] for one in host.received]
        assert len(got) == len(set(got))

    run(scenario)


def test_the_other_recipients_of_a_message_are_sent_when_one_is_removed(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.timeouts = Timeouts()
        host = await rig.net.host("mx.example.com")
        talk = host._talk

        async def remove_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            rig.queue.selected.remove(Selection(address="a@example.com"))
            await talk(reader, writer)

        host._talk = remove_first
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put("a@example.com", "b@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(1)
        await worker.stop()
        assert rig.recorder.kinds() == {"b@example.com": [Kind.DELIVERED]}
        assert [one.recipients for one in host.received] == [["b@example.com"]]

    run(scenario)


def test_a_database_that_fails_before_the_dot_leaves_no_session_behind(run) -> None:
    async def scenario(rig: Rig) -> None:
        async def no_note(*_arguments, **_options) -> bool:
            raise Unavailable("the disk is full")

        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.put("a@example.com")
        await rig.put("b@example.com")
        rig.queue.note_sending = no_note
        worker = rig.worker()
        worker.start()
        await asyncio.sleep(0.8)
        await worker.stop()
        assert host.connections
        assert host.received == []
        assert rig.queue.count() == (2, 2)

    run(scenario)


def test_a_host_name_that_no_certificate_can_have_leaves_the_clear(run) -> None:
    """The zone is the stranger's: labels may hold anything."""

    async def scenario(rig: Rig) -> None:
        name = "\\001" * 30 + ".example.com"
        await rig.net.host(name, ehlo="250-hi\r\n250 STARTTLS", starttls="silence")
        rig.net.mx("example.com", (10, name))
        await rig.put("a@example.com")
        worker = rig.worker()
        worker.start()
        await rig.results(1)
        await worker.stop()
        assert rig.recorder.kinds() == {"a@example.com": [Kind.DELIVERED]}

    run(scenario)


def test_a_session_is_closed_when_the_server_stops_in_the_middle(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.timeouts = Timeouts()
        for stage in ("greeting", "ehlo", "mail", "rcpt", "data"):
            await rig.net.host(f"{stage}.example", **{stage: "silence"})
            await rig.put(f"a@{stage}.example")
        worker = rig.worker()
        worker.start()
        await asyncio.sleep(0.5)
        begin = time.monotonic()
        await worker.stop()
        assert time.monotonic() - begin < 1
        assert rig.queue.count() == (5, 5)

    run(scenario)
