"""Account files that nobody uses are closed, and what is known of them is not lost."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.store import accounts, messages
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store

NOW = 1_790_000_000
KEPT = 4
MANY = range(1, 21)


def item() -> Append:
    return Append(1, make_content(b"Subject: one\r\n\r\ntext\r\n"), pack_date(NOW))


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scenario: Callable[[Store], Awaitable[None]]
) -> None:
    monkeypatch.setattr(accounts, "KEPT_OPEN", KEPT)

    async def main() -> None:
        store = Store(folder, clock=lambda: NOW, on_fatal=lambda error: pytest.fail(repr(error)))
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


async def uids(store: Store, account: int) -> list[tuple[int]]:
    ranges = [(1, messages.MOST_UIDS)]
    return await store.read(account, lambda tx: messages.select(tx, 1, ranges, ("uid",)))


def test_files_that_nobody_uses_are_closed_but_for_those_used_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(store: Store) -> None:
        for account in MANY:
            await store.append(account, item())
        store.close_unused()
        assert len(store._accounts.open_accounts()) == len(MANY), "they were used just now"
        await uids(store, 7)
        store.close_unused()
        assert sorted(store._accounts.open_accounts()) == [7, 18, 19, 20]
        for account in MANY:
            assert await uids(store, account) == [(1,)]
            await store.append(account, item())
            assert await uids(store, account) == [(1,), (2,)]

    run(tmp_path, monkeypatch, scenario)


def test_a_file_at_which_somebody_is_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(store: Store) -> None:
        for account in MANY:
            await uids(store, account)
        file = await store._accounts.open(1, NOW)
        other = store._accounts.get(2)
        assert other is not None
        other.busy = True
        for _ in range(3):
            store.close_unused()
        assert {1, 2} <= set(store._accounts.open_accounts())
        other.busy = False
        file.pins -= 1

    run(tmp_path, monkeypatch, scenario)


def test_what_a_power_cut_may_take_is_counted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`recovery.MOST_UNSYNCED` bounds the numbers that were seen and are in no journal: closing a file that another
    worker has open, too, syncs nothing."""

    async def scenario(store: Store) -> None:
        for account in MANY:
            for _ in range(3):
                await store.deliver(account, item())
            assert len(await uids(store, account)) == 3
        file = store._accounts.get(1)
        assert file is not None
        unsynced = file.unsynced
        assert unsynced
        for account in MANY[-KEPT:]:
            await uids(store, account)
        for _ in range(3):
            store.close_unused()
        assert len(store._accounts.open_accounts()) == KEPT
        await uids(store, 1)
        again = store._accounts.get(1)
        assert again is not None
        assert again is not file
        assert again.unsynced == unsynced

    run(tmp_path, monkeypatch, scenario)
