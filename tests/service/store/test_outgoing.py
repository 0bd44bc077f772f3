"""The queue of mail to other hosts: durable rows, leases, selections."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pillarbox.core.errors import Unavailable
from pillarbox.store.outgoing import MOST_RECIPIENTS_LEASED, OutgoingQueue
from pillarbox.store.outgoing_row import (
    FREE,
    OVER_LIMIT,
    UNACCEPTED,
    OutgoingMessage,
    OutgoingRecipient,
    Selection,
)
from pillarbox.store.place import ALONE, Place

NOW = 1_790_000_000


class Rig:
    def __init__(self, folder: Path, place: Place = ALONE) -> None:
        self.now = float(NOW)
        self.queue = OutgoingQueue(folder / "queue.db", clock=lambda: self.now, place=place)

    async def put(self, queue_id: str, *recipients: str, sender: str = "s@here.example") -> None:
        message = OutgoingMessage(queue_id, sender, b"Subject: x\r\n\r\n" + queue_id.encode())
        rows = [OutgoingRecipient(one, one.partition("@")[2]) for one in recipients]
        await self.queue.enqueue(message, rows, lifetime_s=1000, warn_after_s=100)

    async def lease(self, **options) -> list[list]:
        return await self.queue.lease("w1", 60, limit=options.pop("limit", 100), **options)


@pytest.fixture
def run(tmp_path: Path):
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            rig = Rig(tmp_path)
            await scenario(rig)
            rig.queue.close()

        asyncio.run(main())

    return run


def test_recipients_of_one_message_are_grouped_by_next_hop(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("A", "a@x.example", "b@x.example", "c@y.example")
        groups = await rig.lease()
        assert [[row.recipient for row in group] for group in groups] == [
            ["a@x.example", "b@x.example"],
            ["c@y.example"],
        ]
        assert rig.queue.octets(groups[0][0].message).endswith(b"A")
        assert await rig.lease() == []

    run(scenario)


def test_a_lease_that_is_not_renewed_ends_and_its_owner_may_not_send(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("A", "a@x.example")
        (group,) = await rig.lease()
        rig.now += 30
        assert await rig.queue.note_sending("w1", group, 60)
        rig.now += 59
        assert await rig.queue.lease("w2", 60, limit=9) == []
        rig.now += 2
        ((row,),) = await rig.queue.lease("w2", 60, limit=9)
        assert row.sending
        assert not await rig.queue.renew("w1", group, 60)
        await rig.queue.finish("w1", group)
        assert rig.queue.count() == (1, 1)
        await rig.queue.finish("w2", [row])
        assert rig.queue.count() == (0, 0)

    run(scenario)


def test_a_message_stays_until_its_last_recipient_is_done(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("A", "a@x.example", "b@y.example")
        first, second = await rig.lease()
        await rig.queue.finish("w1", first)
        assert rig.queue.count() == (1, 1)
        await rig.queue.defer("w1", second, NOW + 500, "mx.y.example", "451 later")
        assert await rig.lease() == []
        assert rig.queue.next_due() == NOW + 500
        rig.now = NOW + 500
        ((row,),) = await rig.lease()
        assert (row.attempts, row.host, row.reply) == (1, "mx.y.example", "451 later")
        with pytest.raises(Unavailable):
            rig.queue.octets(99)

    run(scenario)


def test_busy_hops_and_held_rows_are_passed_over(run) -> None:
    async def scenario(rig: Rig) -> None:
        for number in range(3):
            await rig.put(f"Q{number}", f"a@{'xyz'[number]}.example")
        assert rig.queue.selected.set_held(Selection(domain="y.example"), held=True) == 1
        groups = await rig.lease(busy_hops=["x.example"])
        assert [group[0].recipient for group in groups] == ["a@z.example"]
        assert rig.queue.selected.set_held(Selection(), held=False) == 1
        assert len(await rig.lease()) == 2

    run(scenario)


def test_many_recipients_are_leased_a_hundred_at_a_time(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("A", *(f"u{number}@x.example" for number in range(250)))
        sizes = [len((await rig.lease(limit=1000))[0]) for _ in range(3)]
        assert sizes == [MOST_RECIPIENTS_LEASED, MOST_RECIPIENTS_LEASED, 50]

    run(scenario)


def test_a_new_process_takes_up_what_the_old_one_had(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("A", "a@x.example")
        await rig.lease()
        await rig.queue.take_up()
        assert len(await rig.lease()) == 1

    run(scenario)


def test_selections_of_commands(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("OLD", "a@x.example", sender="boss@here.example")
        rig.now += 3600
        await rig.put("NEW", "a@y.example", "b@x.example")
        names = {
            "by id": Selection(queue_id="NEW"),
            "by sender": Selection(address="BOSS@here.example"),
            "by recipient": Selection(address="a@y.example"),
            "by domain": Selection(domain="x.example"),
            "by age": Selection(older_than_s=1800),
        }
        found = {name: len(rig.queue.selected.rows(selection)) for name, selection in names.items()}
        assert found == {"by id": 2, "by sender": 1, "by recipient": 1, "by domain": 2, "by age": 1}
        assert rig.queue.selected.retry(Selection()) == 3
        assert len(rig.queue.selected.remove(Selection(domain="x.example"))) == 2
        assert [row.recipient for row in rig.queue.selected.rows(Selection())] == ["a@y.example"]
        assert rig.queue.count() == (1, 1)

    run(scenario)


def test_what_was_not_accepted_is_not_sent_and_goes_at_the_next_start(run) -> None:
    async def scenario(rig: Rig) -> None:
        for queue_id in ("A", "B", "C"):
            await rig.queue.enqueue(
                OutgoingMessage(queue_id, "s@x", b"\r\n"),
                [OutgoingRecipient("a@x.example", "x.example")],
                lifetime_s=100,
                warn_after_s=0,
                state=UNACCEPTED,
            )
        assert await rig.lease() == []
        await rig.queue.accept("A")
        await rig.queue.forget("B")
        assert [group[0].queue_id for group in await rig.lease()] == ["A"]
        await rig.queue.take_up()
        assert [row.queue_id for row in rig.queue.selected.rows(Selection())] == ["A"]

    run(scenario)


def test_removing_a_leased_row_stops_the_attempt(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("A", "a@x.example")
        (group,) = await rig.lease()
        rig.queue.selected.remove(Selection(queue_id="A"))
        assert not await rig.queue.note_sending("w1", group, 60)

    run(scenario)


def test_a_duplicate_queue_id_fails_alone_in_its_batch(run) -> None:
    async def scenario(rig: Rig) -> None:
        results = await asyncio.gather(
            rig.put("A", "a@x.example"),
            rig.put("A", "b@x.example"),
            rig.put("B", "c@x.example"),
            return_exceptions=True,
        )
        assert [isinstance(result, Unavailable) for result in results] == [False, True, False]
        assert rig.queue.count() == (2, 2)

    run(scenario)


def test_a_hundred_thousand_rows_are_listed_in_a_second(run) -> None:
    async def scenario(rig: Rig) -> None:
        def fill(connection) -> None:
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
                " INSERT INTO outgoing_message SELECT i, 'Q' || i, 's@x', NULL, '', '', 0, ?, zeroblob(500) FROM n",
                (NOW,),
            )
            connection.execute(
                "INSERT INTO outgoing SELECT id, 'r' || id || '@d' || id % 50, 'd' || id % 50, '', '', 0, 0, ?, ?,"
                " 0, '', 0, '', '' FROM outgoing_message",
                (NOW + 50, NOW + 1000),
            )

        rig.queue.write_now(fill)
        begin = time.perf_counter()
        assert len(rig.queue.selected.rows(Selection())) == 100_000
        assert len(await rig.lease()) == 0
        assert time.perf_counter() - begin < 5
        rig.now += 50
        begin = time.perf_counter()
        assert len(await rig.lease(limit=100, busy_hops=["d1"])) == 100
        assert time.perf_counter() - begin < 2

    run(scenario)


def test_what_is_over_a_limit_waits_until_it_is_released(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put("A", "x@one.example")
        message = OutgoingMessage("B", "s@here.example", b"\r\n")
        rows = [OutgoingRecipient("y@one.example", "one.example")]
        await rig.queue.enqueue(message, rows, lifetime_s=1000, warn_after_s=100, state=OVER_LIMIT)
        groups = await rig.queue.lease("w", 60, limit=10)
        assert [group[0].queue_id for group in groups] == ["A"]
        assert rig.queue.selected.set_held(Selection(queue_id="B"), held=True) == 0
        assert rig.queue.selected.set_held(Selection(queue_id="B"), held=False) == 1
        assert [group[0].queue_id for group in await rig.queue.lease("w", 60, limit=10)] == ["B"]

    run(scenario)


def test_what_was_not_accepted_before_a_stop_may_be_brought_again(run) -> None:
    async def scenario(rig: Rig) -> None:
        message = OutgoingMessage("A", "s@here.example", b"\r\n")
        rows = [OutgoingRecipient("x@one.example", "one.example")]
        times = {"lifetime_s": 1000, "warn_after_s": 100}
        await rig.queue.enqueue(message, rows, **times, state=UNACCEPTED, once=True)
        assert rig.queue.was_taken_up("A")
        await rig.queue.take_up()
        assert not rig.queue.was_taken_up("A")
        await rig.queue.enqueue(message, rows, **times, once=True)
        await rig.queue.take_up()
        assert rig.queue.was_taken_up("A")

    run(scenario)


def test_a_worker_that_comes_back_takes_up_its_own_and_nothing_of_others(tmp_path: Path) -> None:
    """Of a message that was not accepted it is the worker that keeps it, too."""

    async def main() -> None:
        rigs = [Rig(tmp_path, Place(number, 2, is_first=number == 1)) for number in (1, 2)]
        for number, rig in enumerate(rigs):
            await rig.put(f"Q{number}", "a@x.example")
            await rig.queue.lease(rig.queue.owner, 60, limit=1)
            message = OutgoingMessage(f"U{number}", "s@here.example", b"Subject: x\r\n\r\n")
            rows = [OutgoingRecipient("b@x.example", "x.example")]
            await rig.queue.enqueue(
                message, rows, lifetime_s=1000, warn_after_s=0, state=UNACCEPTED
            )
        again = Rig(tmp_path, Place(2, 2, is_first=False))
        await again.queue.take_up()
        left = {row.queue_id: row.owner for row in again.queue.selected.rows(Selection())}
        assert left == {"Q0": "worker-1", "U0": "worker-1", "Q1": ""}
        await rigs[0].queue.accept("U0", FREE)
        assert again.queue.selected.rows(Selection(queue_id="U0"))[0].owner == ""
        for rig in (*rigs, again):
            await rig.queue.drain()
            rig.queue.close()

    asyncio.run(main())


def test_two_workers_take_mail_in_and_out_at_once(tmp_path: Path) -> None:
    """Nothing is leased twice, no number is given twice, and what came later sorts later."""

    async def main() -> None:
        rigs = [Rig(tmp_path, Place(number, 2, is_first=number == 1)) for number in (1, 2)]

        async def put(rig: Rig, start: int) -> None:
            for number in range(start, start + 100):
                rig.now += 0.001
                await rig.put(f"Q{number}", "a@x.example")

        async def take(rig: Rig) -> list[str]:
            taken = []
            while groups := await rig.queue.lease(rig.queue.owner, 60, limit=7):
                taken += [row.queue_id for group in groups for row in group]
            return taken

        await asyncio.gather(*(put(rig, 100 * number) for number, rig in enumerate(rigs)))
        rows = rigs[0].queue.selected.rows(Selection())
        assert len({row.message for row in rows}) == 200
        each = [
            [row.queue_id for row in rows if row.queue_id in ids]
            for ids in (
                [f"Q{number}" for number in range(start, start + 100)] for start in (0, 100)
            )
        ]
        assert each == [
            [f"Q{number}" for number in range(start, start + 100)] for start in (0, 100)
        ]
        for rig in rigs:
            rig.now = NOW + 1.0
        taken = await asyncio.gather(*(take(rig) for rig in rigs))
        assert sorted(taken[0] + taken[1]) == sorted(row.queue_id for row in rows)
        for rig in rigs:
            await rig.queue.drain()
            rig.queue.close()

    asyncio.run(main())
