"""Changes of a few flags are committed on the event loop, and the kernel syncs the log (`commit`)."""

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import Unavailable
from pillarbox.store import commit, messages
from pillarbox.store.accounts import AccountFile
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.flags import change_flags
from pillarbox.store.store import Store
from pillarbox.store.syncing import Syncs
from pillarbox.store.tx import Tx

NOW = 1_790_000_000
SEEN = 2

MESSAGE = Append(1, make_content(b"Subject: hello\r\n\r\nHello.\r\n"), pack_date(NOW))


def run(folder: Path, scenario: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(folder, clock=lambda: NOW)
        try:
            await asyncio.wait_for(scenario(store), 20)
        finally:
            await store.close()

    asyncio.run(main())


def mark(tx: Tx) -> int:
    return change_flags(tx, 1, [(1, 1)], "+", SEEN, []).modseq


def flags(tx: Tx) -> int:
    ((found,),) = messages.select(tx, 1, [(1, 1)], ("flags",))
    return int(found)


def in_thread(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the groups that threads get from now on."""
    groups: list[int] = []
    apply = commit.apply

    def noted(file, units, level, now_s):
        groups.append(len(units))
        return apply(file, units, level, now_s)

    monkeypatch.setattr(commit, "apply", noted)
    return groups


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the kernel was asked to sync, by name."""
    names: list[str] = []
    sync = Syncs.sync

    def noted(self: Syncs, descriptor: int) -> "asyncio.Future[None]":
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        return sync(self, descriptor)

    monkeypatch.setattr(Syncs, "sync", noted)
    return names


def test_it_takes_no_thread_and_its_log_is_synced_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[str]
) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, MESSAGE)
        threads = in_thread(monkeypatch)
        synced.clear()
        assert await store.write(1, mark, is_short=True)
        assert (threads, synced) == ([], ["00000001.db-wal"])
        assert await store.read(1, flags) == SEEN

    run(tmp_path, scenario)


def test_appends_beside_it_share_its_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[str]
) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, MESSAGE)
        synced.clear()
        given, modseq = await asyncio.gather(
            store.append(1, MESSAGE), store.write(1, mark, is_short=True)
        )
        assert (given.uid, synced) == (2, ["00000001.db-wal"])
        assert modseq > given.modseq

    run(tmp_path, scenario)


def test_beside_a_unit_that_is_not_short_the_thread_does_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, MESSAGE)
        threads = in_thread(monkeypatch)
        await asyncio.gather(store.write(1, mark, is_short=True), store.write(1, flags))
        assert threads == [2]

    run(tmp_path, scenario)


def test_where_another_process_has_the_file_the_thread_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, MESSAGE)
        threads = in_thread(monkeypatch)
        other = os.open(next((tmp_path / "accounts").glob("*/*.lock")), os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        writing = asyncio.ensure_future(store.write(1, mark, is_short=True))
        await asyncio.sleep(0.1)
        assert not writing.done()
        os.close(other)
        assert await writing
        assert threads == [1]

    run(tmp_path, scenario)


def test_without_a_descriptor_for_the_log_the_thread_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_file: AccountFile) -> None:
        raise OSError(24, "Too many open files")

    async def scenario(store: Store) -> None:
        await store.append(1, MESSAGE)
        threads = in_thread(monkeypatch)
        monkeypatch.setattr(AccountFile, "open_log", none_left)
        assert await store.write(1, mark, is_short=True)
        assert threads == [1]

    run(tmp_path, scenario)


def test_a_failed_sync_is_no_answer_and_the_process_must_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may see already what may not be on the disk, and a second sync would not say so."""

    def broken(_self: Syncs, _descriptor: int) -> "asyncio.Future[None]":
        future = asyncio.get_running_loop().create_future()
        future.set_exception(OSError(5, "Input/output error"))
        return future

    fatal: list[BaseException] = []

    async def main() -> None:
        store = Store(tmp_path, clock=lambda: NOW, on_fatal=fatal.append)
        await store.append(1, MESSAGE)
        monkeypatch.setattr(Syncs, "sync", broken)
        with pytest.raises(Unavailable):
            await store.write(1, mark, is_short=True)
        with pytest.raises(Unavailable):
            await store.append(1, MESSAGE)
        assert [str(error) for error in fatal] == ["[Errno 5] Input/output error"]
        await store.close()

    asyncio.run(main())


def test_a_unit_that_fails_leaves_the_others(tmp_path: Path) -> None:
    def bad(_tx: Tx) -> None:
        raise KeyError("a bug")

    async def scenario(store: Store) -> None:
        await store.append(1, MESSAGE)
        done = await asyncio.gather(
            store.write(1, bad, is_short=True),
            store.write(1, mark, is_short=True),
            return_exceptions=True,
        )
        assert isinstance(done[0], KeyError)
        assert await store.read(1, flags) == SEEN

    run(tmp_path, scenario)


def test_more_accounts_at_once_than_the_kernel_takes(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        accounts = range(1, 151)
        await asyncio.gather(*(store.append(account, MESSAGE) for account in accounts))
        await asyncio.gather(*(store.write(account, mark, is_short=True) for account in accounts))
        for account in accounts:
            assert await store.read(account, flags) == SEEN

    run(tmp_path, scenario)
