"""Reading ahead only brings pages into memory: it keeps no file, answer or stop waiting (store.read_ahead)."""

import asyncio
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from pillarbox.store import appending, messages, read_ahead
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store
from pillarbox.store.tx import Tx

COUNT = 700
COLUMNS = ("uid", "envelope", "shape", "sent")


def fill(tx: Tx, count: int) -> None:
    for number in range(count):
        appending.append(tx, Append(1, make_content(b"Subject: %d\r\n\r\nx\r\n" % number), 0))


async def made(folder: Path) -> Store:
    store = Store(folder)
    await store.write(1, partial(fill, count=COUNT))
    return store


async def idle(store: Store) -> None:
    for _ in range(5000):
        if not store.read_ahead._running:
            return
        await asyncio.sleep(0.001)


def test_what_is_touched_is_what_a_select_reads(tmp_path: Path) -> None:
    async def run() -> None:
        store = await made(tmp_path)
        sql = messages.touching_sql(COLUMNS)
        rows = await store.read(1, lambda tx: tx.rows(sql, (1, 1, 1, COUNT)))
        assert len(rows) == 1
        assert all(rows[0][:2])
        await store.close()

    asyncio.run(run())
    assert messages.touching_sql(("uid", "flags", "modseq")) == ""
    assert messages.touching_sql(("uid", "header", "body")) == ""


def test_the_file_is_held_while_it_is_read_and_then_given_back(tmp_path: Path) -> None:
    async def run() -> None:
        store = await made(tmp_path)
        file = store._accounts.get(1)
        assert file is not None
        before = file.pins
        for _ in range(3):  # one at a time
            store.read_ahead.begin(1, 1, (1, COUNT), COLUMNS)
        assert file.pins == before + 3  # a thread for each 256 messages
        await idle(store)
        assert file.pins == before
        store.read_ahead.begin(1, 1, (1, COUNT), ("uid", "flags"))
        store.read_ahead.begin(2, 1, (1, COUNT), COLUMNS)  # not open
        assert not store.read_ahead._running
        await store.close()

    asyncio.run(run())


def test_so_much_is_read_ahead_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[tuple[int, int]] = []
    monkeypatch.setattr(read_ahead, "_touch", lambda *args: touched.extend(args[-1]) or None)

    async def run() -> None:
        store = await made(tmp_path)
        store.read_ahead.begin(1, 1, (11, 4_000_000_000), COLUMNS)
        await idle(store)
        await store.close()

    asyncio.run(run())
    stripes = sorted(set(touched))
    assert len(stripes) == read_ahead.MOST_STRIPES
    assert stripes[0] == (11, 266)
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(stripes))


def test_a_stop_does_not_wait_for_all_of_it(tmp_path: Path) -> None:
    async def run() -> None:
        store = await made(tmp_path)
        store.read_ahead.begin(1, 1, (1, COUNT), COLUMNS)
        stripes = store.read_ahead._stripes
        await store.close()
        assert not stripes

    asyncio.run(run())
