"""Turns: pieces of long work go in order, and leave the event loop to others between them."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from pillarbox.app.run import loop_factory
from pillarbox.net import turns as turns_module
from pillarbox.net.turns import Turns


def run(scenario) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(scenario())


def test_pieces_and_tasks_go_in_the_order_in_which_they_came() -> None:
    async def scenario() -> None:
        turns = Turns(asyncio.get_running_loop())
        done: list[int] = []

        async def task(number: int) -> None:
            await turns.next()
            done.append(number)

        tasks = []
        for number in range(20):
            if number % 3:
                turns.add(lambda number=number: done.append(number))
            else:
                tasks.append(asyncio.ensure_future(task(number)))
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        await turns.next()
        assert done == list(range(20))

    run(scenario)


def test_others_have_the_loop_between_long_pieces() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        turns = Turns(loop)
        done: list[int] = []

        def piece() -> None:
            busy(turns_module.TURN_S)
            done.append(1)

        for _ in range(20):
            turns.add(piece)
        waited = []
        while len(done) < 20:
            before = len(done)
            await asyncio.sleep(0)
            waited.append(len(done) - before)
        assert max(waited) <= 2

    run(scenario)


def test_one_task_at_a_time_has_a_turn() -> None:
    async def scenario() -> None:
        turns = Turns(asyncio.get_running_loop())
        rounds = 0
        seen: list[int] = []

        async def count() -> None:
            nonlocal rounds
            while len(seen) < 10:
                rounds += 1
                await asyncio.sleep(0)

        async def task() -> None:
            await turns.next()
            seen.append(rounds)

        await asyncio.gather(count(), *(task() for _ in range(10)))
        assert len(set(seen)) == 10

    run(scenario)


def test_who_was_cancelled_is_passed_over() -> None:
    async def scenario() -> None:
        turns = Turns(asyncio.get_running_loop())
        first = asyncio.ensure_future(turns.next())
        second = asyncio.ensure_future(turns.next())
        await asyncio.sleep(0)
        first.cancel()
        async with asyncio.timeout(5):
            await second

    run(scenario)


def test_input_is_late_when_that_before_it_has_taken_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(turns_module, "time", SimpleNamespace(monotonic=lambda: now))

    async def scenario() -> None:
        nonlocal now
        turns = Turns(asyncio.get_running_loop())
        lateness = []
        for _ in range(12):
            lateness.append(turns.is_late())
            now += turns_module.LATE_S / 8
            turns.input_done()
        assert not any(lateness[:5])
        assert all(lateness[9:])
        await turns.next()
        now += turns_module.GAP_S * 2  # another turn of the loop
        assert not turns.is_late()

    run(scenario)


def busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
