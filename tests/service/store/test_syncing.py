"""Syncs that the kernel does, or a thread where it cannot."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pillarbox.store import syncing
from pillarbox.store.syncing import KernelSync, Syncs


def run(scenario: Callable[[Syncs], Awaitable[None]]) -> None:
    async def main() -> None:
        with ThreadPoolExecutor(1) as threads:
            syncs = Syncs(threads)
            await asyncio.wait_for(scenario(syncs), 20)
            syncs.close()

    asyncio.run(main())


@pytest.fixture
def descriptor(tmp_path: Path):
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


def test_many_syncs_at_once_all_end(descriptor: int) -> None:
    async def scenario(syncs: Syncs) -> None:
        for number in range(200):
            os.pwrite(descriptor, b"x", number)
            await asyncio.gather(*(syncs.sync(descriptor) for _ in range(1 + number % 10)))

    run(scenario)


@pytest.mark.parametrize("why_not", ["the system has no such call", "it has no room for us"])
def test_where_the_kernel_does_not_do_it_a_thread_does(
    descriptor: int, monkeypatch: pytest.MonkeyPatch, why_not: str
) -> None:
    if why_not == "the system has no such call":
        monkeypatch.setattr(syncing, "_CALLS", {})
    else:

        def full(*_: object) -> None:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(KernelSync, "sync", full)
    synced: list[int] = []

    async def main() -> None:
        with ThreadPoolExecutor(1) as threads:
            syncs = Syncs(threads)
            monkeypatch.setattr(syncs, "_sync", synced.append)
            await syncs.sync(descriptor)
            await syncs.sync(descriptor)
            syncs.close()

    asyncio.run(main())
    assert synced == [descriptor, descriptor]


def test_while_the_kernel_has_its_fill_a_thread_does_it(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    sync = KernelSync.sync

    def full_once(self: KernelSync, descriptor: int) -> "asyncio.Future[None]":
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(11, "Resource temporarily unavailable")
        return sync(self, descriptor)

    monkeypatch.setattr(KernelSync, "sync", full_once)

    async def scenario(syncs: Syncs) -> None:
        await syncs.sync(descriptor)
        await syncs.sync(descriptor)

    run(scenario)
    assert len(calls) == 2


def test_a_sync_that_cannot_be_done_is_an_error() -> None:
    """Of whichever way: nobody may take it for done."""
    reading, writing = os.pipe()

    async def scenario(syncs: Syncs) -> None:
        with pytest.raises(OSError, match="Invalid argument"):
            await syncs.sync(writing)

    run(scenario)
    os.close(reading)
    os.close(writing)


def test_one_that_waits_no_more_holds_up_nobody(descriptor: int) -> None:
    async def scenario(syncs: Syncs) -> None:
        first = syncs.sync(descriptor)
        first.cancel()
        await syncs.sync(descriptor)

    run(scenario)


def test_an_error_of_the_disk_reaches_whoever_waits(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel tells it: a negative number in the event."""

    async def scenario(syncs: Syncs) -> None:
        await syncs.sync(descriptor)
        kernel = syncs._kernel
        assert kernel is not None
        call = kernel._call

        def spoil(*arguments: object) -> int:
            count = call(*arguments)
            if arguments[0] is kernel._getevents:
                kernel._events[0].result = -5
            return count

        monkeypatch.setattr(kernel, "_call", spoil)
        with pytest.raises(OSError, match="Input/output error"):
            await syncs.sync(descriptor)

    run(scenario)
