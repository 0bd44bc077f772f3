"""The watch tells what kept the loop from running."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pillarbox.app.run import loop_factory
from pillarbox.testing.loopwatch import Figures, LoopWatch, Record


def watched(folder: Path, load: Callable[[], Awaitable[None]]) -> Figures:
    record = Record(folder / "record")

    async def scenario() -> None:
        LoopWatch(record)
        await asyncio.sleep(0.02)
        Record(folder / "record").reset()  # as another process does
        await asyncio.sleep(0.02)
        await load()
        await asyncio.sleep(0.02)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(scenario())
    return record.read()


def test_own_work_is_told_by_its_cpu_time(tmp_path: Path) -> None:
    async def load() -> None:
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass

    figures = watched(tmp_path, load)
    assert figures.resets == 1
    assert 0.09 < figures.work < 0.2
    assert figures.stall > 0.09
    assert figures.stalls >= 1


def test_what_blocks_is_told_apart_from_work(tmp_path: Path) -> None:
    async def load() -> None:
        time.sleep(0.1)  # noqa: ASYNC251 (a call that blocks)

    figures = watched(tmp_path, load)
    assert figures.blocked > 0.08
    assert figures.work < 0.08


def test_a_loop_that_has_nothing_to_do_has_no_stall(tmp_path: Path) -> None:
    best = min(watched(tmp_path, lambda: asyncio.sleep(0.1)).work for _ in range(3))
    assert best < 0.02
