"""Two processes on one queue: a lease outlasts the slowest answer to a final dot, and ends with its worker."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from internet import Internet
from worker_rig import Rig, until

from pillarbox.queue.attempt import DOT_LEASE_S
from pillarbox.queue.worker import LEASE_S, QueueWorker
from pillarbox.smtp.client_events import Kind
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import Selection

MINUTE = 60


class SlowPeer:
    """It answers DATA and the final dot when it is told to; `dots` counts what it took."""

    def __init__(self) -> None:
        self.answer_data = asyncio.Event()
        self.answer_dot = asyncio.Event()
        self.answer_data.set()
        self.has_data = asyncio.Event()
        self.has_dot = asyncio.Event()
        self.dots = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        for _ in range(3):  # EHLO, MAIL, RCPT
            await reader.readuntil(b"\r\n")
            writer.write(b"250 ok\r\n")
        await reader.readuntil(b"DATA\r\n")
        self.has_data.set()
        await self.answer_data.wait()
        writer.write(b"354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        self.has_dot.set()
        await self.answer_dot.wait()
        self.dots += 1
        writer.write(b"250 ok\r\n")
        await reader.read()


class TwoProcesses:
    """Two workers with a queue each, on one file, and a peer."""

    def __init__(self, rig: Rig, other: OutgoingQueue) -> None:
        self.rig = rig
        self.other = other
        self.peer = SlowPeer()

    async def begin(self) -> None:
        host = await self.rig.net.host("mx.example.com")
        host._talk = self.peer.talk
        self.rig.net.mx("example.com", (10, "mx.example.com"))
        await self.rig.put("a@example.com")
        self.first = self.rig.worker("w1")
        self.second = self.rig.worker("w2", self.other)
        self.first.start()

    async def pass_time(self, seconds: float) -> None:
        """So long, with the second process looking for work all the time."""
        for _ in range(6):
            self.rig.later_s += seconds / 6
            self.second.hint()
            await asyncio.sleep(0.05)


@pytest.fixture
def run(tmp_path: Path):
    def run(scenario: Callable[[TwoProcesses], Awaitable[None]]) -> None:
        async def main() -> None:
            async with Internet() as net:
                rig = Rig(tmp_path, net)
                other = rig.open_queue()
                await asyncio.wait_for(scenario(TwoProcesses(rig, other)), 30)
                for queue in (rig.queue, other):
                    await queue.drain()
                    queue.close()

        asyncio.run(main())

    return run


async def kill(worker: QueueWorker) -> None:
    """As SIGKILL would, for the queue: nothing more is written by it."""
    tasks = [*worker._tasks, *worker._sessions]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_a_peer_that_answers_the_dot_after_nine_minutes_gets_the_message_once(run) -> None:
    async def scenario(both: TwoProcesses) -> None:
        await both.begin()
        await both.peer.has_dot.wait()
        (row,) = both.rig.queue.selected.rows(Selection())
        assert row.sending
        both.second.start()
        await both.pass_time(9 * MINUTE)
        both.peer.answer_dot.set()
        await both.rig.results(1)
        await both.pass_time(LEASE_S + MINUTE)
        await both.first.stop()
        await both.second.stop()
        assert both.rig.recorder.kinds() == {"a@example.com": [Kind.DELIVERED]}
        assert both.peer.dots == 1

    run(scenario)


def test_a_lease_that_got_short_is_renewed_before_the_dot(run) -> None:
    """Though nobody renewed it meanwhile: DATA was answered late, and the dot may be, too."""

    async def scenario(both: TwoProcesses) -> None:
        both.peer.answer_data.clear()
        await both.begin()
        await both.peer.has_data.wait()
        both.second.start()
        await both.pass_time(LEASE_S - MINUTE)
        both.peer.answer_data.set()
        await both.peer.has_dot.wait()
        (row,) = both.rig.queue.selected.rows(Selection())
        assert row.next_try >= both.rig.clock() + DOT_LEASE_S - 2
        await both.pass_time(9 * MINUTE)
        both.peer.answer_dot.set()
        await both.rig.results(1)
        await both.first.stop()
        await both.second.stop()
        assert both.peer.dots == 1

    run(scenario)


def test_a_lost_lease_sends_no_dot(run) -> None:
    async def scenario(both: TwoProcesses) -> None:
        both.peer.answer_data.clear()
        both.peer.answer_dot.set()
        await both.begin()
        await both.peer.has_data.wait()
        both.rig.later_s += LEASE_S + MINUTE
        both.second.start()
        await until(lambda: both.rig.queue.selected.rows(Selection())[0].owner == "w2")
        both.peer.answer_data.set()
        await both.rig.results(1)
        await both.first.stop()
        await both.second.stop()
        assert both.peer.dots == 1
        assert both.rig.recorder.kinds() == {"a@example.com": [Kind.DELIVERED]}

    run(scenario)


def test_rows_of_a_killed_worker_are_taken_up_at_the_end_of_their_lease(run) -> None:
    async def scenario(both: TwoProcesses) -> None:
        await both.begin()
        await both.peer.has_dot.wait()
        await kill(both.first)
        both.second.start()
        await both.pass_time(LEASE_S - MINUTE)
        assert both.rig.queue.selected.rows(Selection())[0].owner == "w1"
        both.peer.answer_dot.set()
        await both.pass_time(2 * MINUTE)
        await both.rig.results(1)
        await both.second.stop()
        assert both.rig.recorder.kinds() == {"a@example.com": [Kind.DELIVERED]}

    run(scenario)
