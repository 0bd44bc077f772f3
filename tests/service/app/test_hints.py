"""What workers share: memory with counts and figures, and streams with hints and questions."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from pillarbox.app import hints as module
from pillarbox.app.hints import Hints
from pillarbox.app.shared import Shared, make_memory, open_memory
from pillarbox.core.errors import Unavailable
from pillarbox.core.tally import ROW_CELLS, SlowCommand
from pillarbox.store.place import Place

WORKERS = 3


@pytest.fixture
def shared() -> Iterator[list[Shared]]:
    descriptor = make_memory(WORKERS)
    yield [Shared(open_memory(descriptor), Place(number, WORKERS)) for number in (1, 2, 3)]
    os.close(descriptor)


class Net:
    """The hints of all workers, in one process."""

    def __init__(self, shared: list[Shared]) -> None:
        pairs = [socket.socketpair() for _ in shared]
        self.hints = [
            Hints(
                one,
                pairs[index][0],
                {other + 1: pair[1].dup() for other, pair in enumerate(pairs) if other != index},
            )
            for index, one in enumerate(shared)
        ]
        self.heard: list[list[tuple[int, set[int]]]] = [[] for _ in shared]
        self.caught_up: list[tuple[int, int]] = []
        self.delay_s = 0.0
        for index, each in enumerate(self.hints):
            each.listen(
                lambda account, boxes, index=index: self.heard[index].append((account, boxes)),
                lambda account, index=index: self.catch_up(index, account),
            )

    async def catch_up(self, index: int, account: int) -> None:
        await asyncio.sleep(self.delay_s)
        self.caught_up.append((index, account))
        if account == 13:
            raise Unavailable("the disk is full")

    async def settle(self) -> None:
        await asyncio.sleep(0.1)

    def close(self) -> None:
        for each in self.hints:
            each.close()


def test_hints_go_to_those_who_have_somebody_that_waits(shared: list[Shared]) -> None:
    async def main() -> None:
        net = Net(shared)
        first, second, third = net.hints
        second.watch(7)
        assert first.is_watched(7)
        assert not second.is_watched(7), "by others"
        for mailbox in (1, 2, 1):
            first.tell(7, {mailbox})
        third.tell(8, {1})
        await net.settle()
        assert net.heard == [[], [(7, {1, 2})], []], "of one turn joined"
        second.unwatch(7)
        first.tell(7, {1})
        await net.settle()
        assert len(net.heard[1]) == 1
        net.close()

    asyncio.run(main())


def test_a_reader_that_falls_behind_gets_all_in_the_end(shared: list[Shared]) -> None:
    async def main() -> None:
        net = Net(shared)
        first, second, _ = net.hints
        accounts = range(30_000)
        for account in accounts:
            second.watch(account)
        for account in accounts:
            first.tell(account, {1})
        while len(net.heard[1]) < len(accounts):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert sorted(net.heard[1]) == [(account, {1}) for account in accounts]
        net.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_reader_waits_until_all_have_put_in_what_they_hold(shared: list[Shared]) -> None:
    async def main() -> None:
        net = Net(shared)
        first, second, third = net.hints
        await first.catch_up(7)
        assert net.caught_up == []
        second.mark_behind(7, 1)
        third.mark_behind(7, 1)
        assert first.is_behind(7)
        net.delay_s = 0.05
        await first.catch_up(7)
        assert sorted(net.caught_up) == [(1, 7), (2, 7)]
        second.mark_behind(7, -1)
        third.mark_behind(7, -1)
        assert not first.is_behind(7)
        second.mark_behind(13, 1)
        await first.catch_up(13)  # what cannot be put in is not there for anybody
        net.close()

    asyncio.run(main())


def test_a_worker_that_does_not_answer_is_not_waited_for(
    shared: list[Shared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.1)

    async def main() -> None:
        net = Net(shared)
        net.delay_s = 5.0
        net.hints[1].mark_behind(7, 1)
        await asyncio.wait_for(net.hints[0].catch_up(7), 2)
        assert not net.hints[0]._answers
        net.close()

    asyncio.run(main())


def test_what_a_worker_holds_goes_with_it_and_what_it_counted_stays(shared: list[Shared]) -> None:
    first, second, third = shared
    slot = first.mark("192.0.2.1") % 1000
    for one in (first, second):
        one.addresses.add(slot, 1)
        one.watches.add(3, 1)
        one.behind.add(4, 1)
        one.publish({"imap": 5, "pid": 77}, [2.0] * ROW_CELLS, [SlowCommand(9.0, 0.5, 3, "imap X")])
    third.forget(1)
    assert third.addresses.of_others(slot) == 1
    assert third.watches.holders(3) == third.behind.holders(4) == [2]
    assert [figures["imap"] for figures in third.figures()] == [0, 5, 0]
    assert third.slow() == [SlowCommand(9.0, 0.5, 3, "imap X")]
    assert third.counts() == [4.0] * ROW_CELLS


def test_a_worker_goes_on_counting_where_its_predecessor_ended() -> None:
    descriptor = make_memory(2)
    for _ in range(3):
        Shared(open_memory(descriptor), Place(1, 2)).publish({}, [1.5] * ROW_CELLS, [])
    other = Shared(open_memory(descriptor), Place(2, 2))
    other.forget(1)
    assert other.counts() == [4.5] * ROW_CELLS
    os.close(descriptor)


def test_rates_hold_for_all_workers(shared: list[Shared]) -> None:
    rates = [one.rate(0, 2) for one in shared]
    assert [rate.take("192.0.2.1", 10.0) for rate in rates] == [True, True, False]
    assert shared[0].rate(1, 2).take("192.0.2.1", 10.0), "another rate is another table"


def test_questions_leave_nothing_behind(shared: list[Shared]) -> None:
    async def main() -> None:
        net = Net(shared)
        shared[1].behind.add(7, 1)
        counts = []
        for _ in range(2):  # the first time, Python fills its lists of what is free
            for _ in range(2000):
                await net.hints[0].catch_up(7)
            net.caught_up.clear()
            counts.append(sys.getallocatedblocks())
        assert counts[1] - counts[0] < 500
        net.close()

    asyncio.run(main())
