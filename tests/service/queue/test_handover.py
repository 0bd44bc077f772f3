"""New mail goes to the worker without the table; a dead destination with a pile of mail holds up nobody."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from internet import Internet
from worker_rig import Rig, until

from pillarbox.core.errors import Unavailable
from pillarbox.outbound.signing import MailSigner
from pillarbox.queue import worker as worker_module
from pillarbox.queue.enqueue import Enqueuer
from pillarbox.queue.schedule import Schedule
from pillarbox.queue.worker import QueueWorker
from pillarbox.smtp.client_events import Kind
from pillarbox.store import outgoing
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import OutgoingMessage, Selection

PILE = 3000


class Unsigned:
    async def needs(self, message: bytes, *, utf8: bool) -> int:
        return 0

    async def sign(self, message: bytes) -> bytes:
        return message


def enqueuer(rig: Rig, worker: QueueWorker) -> Enqueuer:
    signer: MailSigner = Unsigned()  # type: ignore[assignment]
    return Enqueuer(
        rig.queue, lambda a: a.partition("@")[2], Schedule(), worker.hint, signer, worker
    )


async def put(to: Enqueuer, queue_id: str, *addresses: str, octets: bytes = b"\r\nx\r\n") -> None:
    await to.enqueue(OutgoingMessage(queue_id, "s@me.example", octets), addresses)


def fill(queue: OutgoingQueue, count: int, hop: str) -> None:
    """Rows that are due, `count` messages."""

    def work(connection) -> None:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO outgoing_message SELECT i, 'P' || i, 's@x', NULL, '', '', 0, ?, zeroblob(500) FROM n",
            (count, int(time.time())),
        )
        connection.execute(
            "INSERT INTO outgoing SELECT id, 'r' || id || '@' || ?, ?, '', '', 0, 0, ?, ?, 0, '', 0, '', ''"
            " FROM outgoing_message",
            (hop, hop, int(time.time()) - 5, int(time.time()) + 1000),
        )

    queue.write_now(work)


@pytest.fixture
def run(tmp_path: Path):
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            async with Internet() as net:
                rig = Rig(tmp_path, net)
                await asyncio.wait_for(scenario(rig), 60)
                await rig.queue.drain()
                rig.queue.close()

        asyncio.run(main())

    return run


async def idle(worker: QueueWorker) -> None:
    await until(lambda: not worker._behind)


def test_new_mail_is_sent_without_a_look_into_the_table(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        rig.net.mx("example.org", (10, "mx.example.com"))
        worker = rig.worker()
        worker.start()
        await idle(worker)

        async def no_lease(*_arguments, **_options) -> list[list[outgoing.Row]]:
            raise AssertionError("nothing of this is in the table only")

        rig.queue.lease = no_lease
        to = enqueuer(rig, worker)
        for number in range(20):
            await put(to, f"N{number}", "a@example.com", "b@example.com", "c@example.org")
        await rig.results(60)
        await worker.stop()
        await rig.queue.drain()
        assert sum(len(one.recipients) for one in host.received) == 60
        assert rig.queue.count() == (0, 0)

    run(scenario)


def test_a_hundred_recipients_go_in_one_transaction_and_no_more(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        worker = rig.worker()
        worker.start()
        await idle(worker)
        await put(enqueuer(rig, worker), "N", *(f"u{n}@example.com" for n in range(250)))
        await rig.results(250)
        await worker.stop()
        assert sorted(len(one.recipients) for one in host.received) == [50, 100, 100]

    run(scenario)


def test_what_was_given_to_a_worker_that_stopped_is_in_the_table(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.net.host("mx.example.com", greeting="silence")
        rig.net.mx("example.com", (10, "mx.example.com"))
        worker = rig.worker()
        worker.start()
        await idle(worker)
        await put(enqueuer(rig, worker), "N", "a@example.com")
        assert worker._held
        await worker.stop()
        (row,) = rig.queue.selected.rows(Selection())
        assert row.owner == "w1"
        assert not row.sending
        assert await rig.queue.take_up() == 0
        assert len(await rig.queue.lease("w2", 60, limit=9)) == 1

    run(scenario)


def test_large_mail_and_mail_beyond_the_room_waits_in_the_table(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "MOST_HELD_OCTETS", 10_000)

    async def scenario(rig: Rig) -> None:
        await rig.net.host("mx.example.com", greeting="silence")
        rig.net.mx("example.com", (10, "mx.example.com"))
        worker = rig.worker()
        worker.start()
        await idle(worker)
        assert not worker.has_room(worker_module.MOST_TAKEN_OCTETS + 1, ["example.com"])
        to = enqueuer(rig, worker)
        await put(to, "N1", "a@example.com", octets=b"\r\n" * 3000)
        assert not worker.has_room(6000, ["example.com"])
        assert worker.has_room(1000, ["example.com"])
        await worker.stop()
        assert worker._held_octets == 0 or worker._held

    run(scenario)


def test_the_end_of_a_delivery_is_noted_again_until_the_disk_has_room(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "FINISH_AGAIN_S", 0.05)

    async def scenario(rig: Rig) -> None:
        await rig.put("a@example.com")
        ((row,),) = await rig.queue.lease("w1", 0, limit=9)
        finish, failures = rig.queue.finish, 3

        def fails(owner: str, rows) -> asyncio.Future[None]:
            nonlocal failures
            if not failures:
                return finish(owner, rows)
            failures -= 1
            future = asyncio.get_running_loop().create_future()
            future.set_exception(Unavailable("the disk is full"))
            return future

        rig.queue.finish = fails
        rig.queue.finish_soon("w1", [row])
        rig.later_s += 10
        # It is over, though it is in the table.
        assert await rig.queue.lease("w1", 60, limit=9) == []
        await until(lambda: rig.queue.count() == (0, 0))
        await rig.queue.drain()
        assert not rig.queue._finishing

    run(scenario)


def test_a_dead_destination_with_a_pile_of_mail_holds_up_nobody(run) -> None:
    """What is said of it counts for all its mail in the table, so none of that is looked at again for a while."""

    async def scenario(rig: Rig) -> None:
        fill(rig.queue, PILE, "dead.example")
        rig.net.mx("dead.example", (10, "mx.dead.example"))
        rig.net.zone["mx.dead.example", "A"] = ["127.0.0.9"]
        host = await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        worker = rig.worker()
        worker.start()
        to = enqueuer(rig, worker)
        longest = 0.0
        for number in range(30):
            begin = time.monotonic()
            await put(to, f"N{number}", f"a{number}@example.com")
            longest = max(longest, time.monotonic() - begin)
            await asyncio.sleep(0.01)
        await until(lambda: len(host.received) == 30)
        assert longest < 10  # on a machine that others use, too
        # Rows that are leased are due later, too, and those whose report was not begun are left alone by a stop.
        await until(lambda: len(rig.recorder.results) == PILE + 30)
        await worker.stop()
        assert (rig.queue.next_due() or 0) > time.time()
        kinds = rig.recorder.kinds()
        assert sum(found == [Kind.TEMPORARY] for found in kinds.values()) == PILE
        assert all(
            row.attempts == 1 for row in rig.queue.selected.rows(Selection(domain="dead.example"))
        )

    run(scenario)
