"""Many units, one commit, one sync: what is durable when, and what if the disk or another process is in the way."""

import asyncio
import fcntl
import os
import random
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest

from pillarbox.core.errors import Unavailable
from pillarbox.store import database
from pillarbox.store.group_commit import LIGHT_OCTETS, GroupCommit
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import OutgoingMessage, OutgoingRecipient, Selection


class Rig:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue.db"
        self.syncs = 0
        self.fails = False
        self.fatal: list[BaseException] = []
        self.threads: list[str] = []
        self.commit = GroupCommit(
            self.path,
            database.open_single(self.path, "queue"),
            sync=self.sync,
            on_fatal=self.fatal.append,
        )

    def sync(self, descriptor: int) -> None:
        if self.fails:
            raise OSError("the disk is gone")
        self.syncs += 1
        os.fdatasync(descriptor)

    def put(self, number: int, *, octets: int = 100, synced: bool = True) -> asyncio.Future[None]:
        def work(connection: apsw.Connection) -> None:
            self.threads.append(threading.current_thread().name)
            connection.execute(
                "INSERT INTO outgoing_message VALUES (?, ?, '', NULL, '', '', 0, 0, zeroblob(?))",
                (number, f"Q{number}", octets),
            )

        return self.commit.ask(work, octets=octets, synced=synced)

    def count(self) -> int:
        other = apsw.Connection(str(self.path))
        try:
            return other.execute("SELECT count(*) FROM outgoing_message").fetchone()[0]
        finally:
            other.close()


@pytest.fixture
def run(tmp_path: Path):
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            rig = Rig(tmp_path)
            await asyncio.wait_for(scenario(rig), 30)
            await rig.commit.drain()
            rig.commit.close()

        asyncio.run(main())

    return run


def test_all_that_waits_in_a_turn_shares_a_sync(run) -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.gather(*(rig.put(number) for number in range(50)))
        assert rig.syncs == 1
        assert rig.count() == 50
        assert set(rig.threads) == {"MainThread"}

    run(scenario)


def test_what_need_not_be_durable_ends_with_its_commit_and_is_synced_soon(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put(1, synced=False)
        assert rig.syncs == 0
        assert rig.count() == 1
        await rig.commit.drain()
        assert rig.syncs == 1

    run(scenario)


def test_much_is_written_in_the_thread(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.put(1, octets=LIGHT_OCTETS + 1)
        assert rig.threads[0].startswith("queue")
        await asyncio.gather(*(rig.put(number, octets=LIGHT_OCTETS) for number in range(2, 12)))
        assert all(name.startswith("queue") for name in rig.threads)

    run(scenario)


def test_the_lock_of_another_process_does_not_hold_up_the_loop(run) -> None:
    async def scenario(rig: Rig) -> None:
        other = apsw.Connection(str(rig.path))
        other.execute("BEGIN IMMEDIATE")
        waiting = rig.put(1)
        longest = 0.0
        loop = asyncio.get_running_loop()
        for _ in range(20):
            before = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - before)
        assert not waiting.done()
        other.execute("COMMIT")
        await waiting
        assert rig.count() == 1
        assert longest < 1
        other.close()

    run(scenario)


def test_a_unit_that_fails_takes_no_other_with_it(run) -> None:
    async def scenario(rig: Rig) -> None:
        results = await asyncio.gather(rig.put(1), rig.put(1), rig.put(2), return_exceptions=True)
        assert [type(result) for result in results] == [type(None), Unavailable, type(None)]
        assert rig.count() == 2

    run(scenario)


def test_a_failed_sync_ends_all_writing(run) -> None:
    """What a failed sync left on the disk is not known, and the next one would say nothing of it."""

    async def scenario(rig: Rig) -> None:
        rig.fails = True
        for number in range(3):
            with pytest.raises(Unavailable):
                await rig.put(number)
        assert len(rig.fatal) == 1
        rig.fails = False
        with pytest.raises(Unavailable):
            await rig.put(3, synced=False)

    run(scenario)


def test_the_log_is_copied_into_the_file_and_used_again(run) -> None:
    async def scenario(rig: Rig) -> None:
        for number in range(400):
            await rig.put(number, octets=60_000, synced=False)
        await rig.commit.drain()
        log = rig.path.with_name("queue.db-wal")
        assert log.stat().st_size < 20_000_000
        assert rig.path.stat().st_size > 15_000_000

    run(scenario)


@pytest.mark.parametrize("seed", range(5))
def test_mail_that_was_acknowledged_is_on_the_disk_when_the_power_goes(
    tmp_path: Path, seed: int
) -> None:
    """The files as they were at the last sync hold all that `enqueue` returned for before it."""
    dice = random.Random(seed)
    folder = tmp_path / "data"
    folder.mkdir()
    disks: list[Path] = []
    acknowledged: set[str] = set()
    on_disk: set[str] = set()
    survivors: list[Path] = []

    def sync(descriptor: int) -> None:
        os.fdatasync(descriptor)
        disk = tmp_path / f"disk{len(disks)}"
        disk.mkdir()
        for name in ("queue.db", "queue.db-wal"):
            shutil.copy(folder / name, disk / name)
        disks.append(disk)

    async def sender(queue: OutgoingQueue, number: int) -> None:
        for turn in range(20):
            queue_id = f"Q{number}.{turn}"
            await queue.enqueue(
                OutgoingMessage(queue_id, "s@x", b"x" * dice.choice((10, 5000, 100_000))),
                [OutgoingRecipient("a@y", "y")],
                lifetime_s=100,
                warn_after_s=0,
            )
            acknowledged.add(queue_id)
            if dice.random() < 0.2:
                await asyncio.sleep(0)

    async def main() -> None:
        queue = OutgoingQueue(folder / "queue.db", clock=lambda: 0.0, sync=sync)
        tasks = [asyncio.ensure_future(sender(queue, number)) for number in range(5)]
        wanted = dice.randrange(1, 90)
        for _ in range(100_000):
            if len(acknowledged) >= wanted:
                break
            await asyncio.sleep(0)
        on_disk.update(acknowledged)  # the power goes: nothing that comes later counts
        survivors.append(disks[-1])
        await asyncio.gather(*tasks)
        await queue.drain()
        queue.close()

    asyncio.run(main())
    queue = OutgoingQueue(survivors[0] / "queue.db", clock=lambda: 0.0)
    found = {row.queue_id for row in queue.selected.rows(Selection())}
    queue.close()
    assert on_disk <= found


def test_the_lock_of_another_process_is_waited_for_in_the_thread(run) -> None:
    async def scenario(rig: Rig) -> None:
        other = os.open(rig.path.with_suffix(".lock"), os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = rig.put(1)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        fcntl.flock(other, fcntl.LOCK_UN)
        os.close(other)
        await asyncio.wait_for(waiting, 5)
        assert rig.threads == ["queue_0"]
        await rig.put(2)
        assert rig.threads == ["queue_0", "MainThread"]

    run(scenario)
