"""The search index is derived data: whatever becomes of it, it leaves nothing out (store.search_index)."""

import asyncio
from array import array
from contextlib import closing
from pathlib import Path
from threading import Event

import apsw
import pytest

from pillarbox.imap.syntax_search import Key
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.search import search
from pillarbox.imapd.selected import EMPTY
from pillarbox.store import appending, messages, search_index
from pillarbox.store.appending import Append
from pillarbox.store.content import PIECE_OCTETS, make_content
from pillarbox.store.store import Store


def message(text: str) -> Append:
    return Append(1, make_content(f"Subject: x\r\n\r\n{text}\r\n".encode()), 0)


async def pause() -> None:
    await asyncio.sleep(0)


async def found(store: Store, text: str) -> list[int]:
    uids = await store.read(1, lambda tx: messages.uids(tx, 1))
    context = SearchContext(store, 1, 1, uids, lambda uid: False, EMPTY, pause)
    return list(await search(context, Key("TEXT", text)))


async def indexed(store: Store) -> None:
    store.index.catch_up(1)
    await store.index.finished()


def idx(store: Store) -> Path:
    return search_index.path_of_index(store._accounts.path(1))


def with_store(folder: Path, *works) -> None:
    """Each with a store that was closed in between."""

    async def run(work) -> None:
        store = Store(folder)
        try:
            await work(store)
        finally:
            await store.close()

    for work in works:
        asyncio.run(run(work))


async def two_messages(store: Store) -> None:
    await store.append(1, message("apple"))
    await store.append(1, message("banana"))
    await indexed(store)
    assert await found(store, "banana") == [2]
    assert (await store.index.find(1, "BANANA")).contents == {2}


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await two_messages(store)
        assert idx(store).stat().st_mode & 0o777 == 0o600

    with_store(tmp_path, work)


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    async def damaged(store: Store) -> None:
        idx(store).write_bytes(b"nothing of the sort" * 1000)
        assert await found(store, "banana") == [2]
        await indexed(store)
        assert (await store.index.find(1, "BANANA")).contents == {2}

    with_store(tmp_path, two_messages, damaged)


def test_an_index_that_was_folded_otherwise_is_made_anew(tmp_path: Path) -> None:
    """It has other trigrams than those that a search asks for (RFC 5051)."""

    async def age(store: Store) -> None:
        await two_messages(store)
        connection = apsw.Connection(str(idx(store)))
        connection.execute("INSERT INTO texts (texts) VALUES ('delete-all')")
        connection.execute("INSERT INTO texts (rowid, text) VALUES (1, 'apple'), (2, 'banana')")
        connection.execute("INSERT INTO large VALUES (1)")
        connection.pragma("user_version", 0)
        connection.close()

    async def again(store: Store) -> None:
        assert await found(store, "banana") == [2]
        await indexed(store)
        hits = await store.index.find(1, "BANANA")
        assert (hits.up_to, hits.contents) == (2, {2})
        assert await found(store, "banana") == [2]

    with_store(tmp_path, age, again)


def test_pages_that_are_damaged_keep_nothing_from_being_found_and_are_made_anew(
    tmp_path: Path,
) -> None:
    async def damaged(store: Store) -> None:
        octets = bytearray(idx(store).read_bytes())
        octets[4096:] = b"\xff" * (len(octets) - 4096)
        idx(store).write_bytes(octets)
        assert await found(store, "banana") == [2]
        await store.index.finished()
        assert (await store.index.find(1, "BANANA")).contents == {2}

    with_store(tmp_path, two_messages, damaged)


def test_an_index_without_a_usable_state_is_made_anew(tmp_path: Path) -> None:
    async def damaged(store: Store) -> None:
        with closing(apsw.Connection(str(idx(store)))) as index:
            index.execute("PRAGMA writable_schema = 1")
            index.execute(
                "UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '') WHERE name = 'state'"
            )
        with closing(apsw.Connection(str(idx(store)))) as index:
            index.execute("UPDATE state SET up_to = NULL")
        assert await found(store, "banana") == [2]
        await indexed(store)
        assert (await store.index.find(1, "BANANA")).contents == {2}

    with_store(tmp_path, two_messages, damaged)


def test_after_an_unclean_stop_it_begins_anew(tmp_path: Path) -> None:
    async def another_generation(store: Store) -> None:
        await store.write(
            1, lambda tx: tx.execute("UPDATE account_state SET generation = 7").fetchall()
        )
        # What content 2 is, is not known to the index
        await store.write(
            1,
            lambda tx: tx.execute(
                "UPDATE octets SET body = CAST('cherry' AS BLOB) WHERE content = 2"
            ).fetchall(),
        )
        assert await found(store, "cherry") == [2]
        await indexed(store)
        assert (await store.index.find(1, "CHERRY")).contents == {2}
        assert (await store.index.find(1, "BANANA")).contents == set()

    with_store(tmp_path, two_messages, another_generation)


def test_an_index_of_a_newer_file_begins_anew(tmp_path: Path) -> None:
    """A backup was put back without removing the index."""
    backup = tmp_path / "backup"

    async def keep(store: Store) -> None:
        await store.append(1, message("apple"))

    async def put_back(store: Store) -> None:
        path = store._accounts.path(1)
        assert not path.with_suffix(".db-wal").exists()
        path.write_bytes(backup.read_bytes())
        await indexed(store)
        await store.append(1, message("cherry"))
        assert await found(store, "cherry") == [2]

    with_store(tmp_path / "data", keep)
    (file,) = (tmp_path / "data" / "accounts").rglob("*.db")
    backup.write_bytes(file.read_bytes())

    async def more(store: Store) -> None:
        await store.append(1, message("banana"))
        await indexed(store)

    with_store(tmp_path / "data", more, put_back)


def test_a_body_that_is_being_written_is_not_passed_over(tmp_path: Path) -> None:
    """Its content has a number before the message is there."""

    async def work(store: Store) -> None:
        staged = await store.write(1, appending.stage)
        await store.append(1, message("apple"))
        await indexed(store)
        item = message("banana")
        await store.write(1, lambda tx: appending.append(tx, item, staged))
        assert await found(store, "banana") == [2]
        await indexed(store)
        assert await found(store, "banana") == [2]
        assert (await store.index.find(1, "BANANA")).up_to == 2

    with_store(tmp_path, work)


def test_large_messages_are_always_looked_at(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await store.append(1, message("x" * PIECE_OCTETS + " banana"))
        await indexed(store)
        assert (await store.index.find(1, "ANYTHING")).contents == {1}
        assert await found(store, "banana") == [1]

    with_store(tmp_path, work)


@pytest.mark.parametrize("fewest", [2, 3])
def test_a_search_makes_an_index_where_there_is_some_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewest: int
) -> None:
    monkeypatch.setattr(search_index, "FEWEST_MESSAGES", fewest)
    monkeypatch.setattr(search_index, "BEGIN_S", 0.01)

    async def work(store: Store) -> None:
        await store.append(1, message("apple"))
        await store.append(1, message("banana"))
        assert await found(store, "apple") == [1]
        await store.index.finished()
        assert idx(store).exists() is (fewest == 2)
        assert await found(store, "apple") == [1]

    with_store(tmp_path, work)


def test_rare_trigrams_are_looked_up_and_frequent_ones_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    probed: list[str] = []
    matching = search_index._matching

    def watched(connection: apsw.Connection, trigrams: list[str], most: int = -1) -> list[int]:
        if most < 0:
            asked.append(trigrams)
        else:
            probed.extend(trigrams)
        return matching(connection, trigrams, most)

    monkeypatch.setattr(search_index, "_matching", watched)
    monkeypatch.setattr(search_index, "AS_RARE", 8)

    async def work(store: Store) -> None:
        for number in range(100):
            await store.append(1, message(f"often{'!!' if number % 50 == 7 else ''}"))
        await indexed(store)
        assert await found(store, "often!!") == [8, 58]
        assert (await store.index.find(1, "NEVER", "OFTEN")).contents == set()
        assert len((await store.index.find(1, "OFTEN")).contents) == 100

    with_store(tmp_path, work)
    assert asked == [["EN!", "N!!"], ["NEV"], ["OFT", "FTE", "TEN"]]
    assert probed == ["OFT", "FTE", "TEN", "EN!", "N!!", "NEV"]


def test_how_rare_trigrams_are_is_remembered_of_some_and_found_mail_stays_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "MOST_PROBED", 2)
    monkeypatch.setattr(search_index, "AS_RARE", 1)

    async def work(store: Store) -> None:
        await store.append(1, message("apple"))
        await store.append(1, message("banana"))
        await indexed(store)
        assert await found(store, "banana") == [2]
        assert len(store.index._open[1].shares) <= 2
        for _ in range(20):  # what was rare is so no more
            await store.append(1, message("banana"))
        await store.append(1, message("cherry"))
        store.index.catch_up(1)
        await store.index.finished()
        assert await found(store, "banana") == list(range(2, 23))
        assert await found(store, "apple") == [1]
        assert await found(store, "cherry") == [23]

    with_store(tmp_path, work)


def test_what_was_looked_up_before_is_not_taken_to_the_thread_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the thread has the index, or it takes long."""

    async def work(store: Store) -> None:
        await two_messages(store)
        submitted = 0
        was_submitted = asyncio.Event()
        submit = store.index._submit

        def counted(work):
            nonlocal submitted
            submitted += 1
            was_submitted.set()
            return submit(work)

        monkeypatch.setattr(store.index, "_submit", counted)
        assert await found(store, "banana") == [2]
        assert submitted == 0
        assert await found(store, "apple") == [1]
        assert submitted == 1
        assert await found(store, "apple") == [1]
        assert submitted == 1
        has_begun, may_end = Event(), Event()
        submit(lambda: (has_begun.set(), may_end.wait()))
        await asyncio.to_thread(has_begun.wait)
        was_submitted.clear()
        looked_up = asyncio.create_task(found(store, "apple"))
        await was_submitted.wait()
        may_end.set()
        assert await looked_up == [1]
        monkeypatch.setattr(search_index, "MOST_FOUND_AT_ONCE", 0)
        assert await found(store, "apple") == [1]
        assert submitted == 3
        monkeypatch.setattr(search_index, "MOST_FOUND_AT_ONCE", 9)
        assert await found(store, "apple") == [1]
        assert submitted == 3
        monkeypatch.setattr(search_index, "MOST_LOOKED_AT_ONCE", 3 * 3)
        assert await found(store, "apple") == [1]
        assert submitted == 4

    with_store(tmp_path, work)


def test_what_many_batches_made_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_index, "BATCH_MESSAGES", 1)
    monkeypatch.setattr(search_index, "MERGED_PAGES", 1)

    def segments(store: Store) -> int:
        with closing(apsw.Connection(str(idx(store)))) as index:
            return index.execute("SELECT count(DISTINCT segid) FROM texts_idx").fetchone()[0]

    async def work(store: Store) -> None:
        for number in range(search_index.BATCHES_TO_MERGE - 1):
            await store.append(1, message(f"apple {number} {number % 3 * 'cherry'}"))
        await indexed(store)
        assert segments(store) > 1
        for number in range(search_index.BATCHES_TO_MERGE):
            await store.append(1, message(f"apple {number}, banana {'x' * number}"))
        await indexed(store)
        assert segments(store) == 1
        assert len(await found(store, "apple")) == 2 * search_index.BATCHES_TO_MERGE - 1
        assert len(await found(store, "banana")) == search_index.BATCHES_TO_MERGE

    with_store(tmp_path, work)


def test_what_the_index_does_not_know_yet_is_looked_at(tmp_path: Path) -> None:
    """Also in a mailbox with UIDs far from the contents' numbers, and where much is found."""

    async def work(store: Store) -> None:
        for text in ("apple", "banana", "apple"):
            await store.append(1, message(text))
        await indexed(store)
        for text in ("banana", "apple"):
            await store.append(1, message(text))
        hits = await store.index.find(1, "APPLE")
        assert (hits.up_to, hits.contents, hits.unknown) == (3, {1, 3}, 2)
        assert await found(store, "apple") == [1, 3, 5]

    with_store(tmp_path, work)


def test_a_removed_account_leaves_no_index(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await two_messages(store)
        store.forget_removed_accounts()
        await store.index._run(lambda: None)
        assert list((tmp_path / "accounts").rglob("*.idx*")) == []

    with_store(tmp_path, work)


def test_an_account_that_goes_while_its_index_is_made_or_merged_leaves_none(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await two_messages(store)
        store.index.forget(1)
        assert not await store.index._run(lambda: store.index._merge(1, 1))
        assert await store.index._run(lambda: store.index._up_to(1)) == 0
        assert not idx(store).exists()

    with_store(tmp_path, work)


def test_a_stop_does_not_wait_for_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "BATCH_MESSAGES", 1)

    async def work(store: Store) -> None:
        for number in range(50):
            await store.append(1, message(f"text {number}"))
        store.index.catch_up(1)
        await asyncio.sleep(0.02)

    async def afterwards(store: Store) -> None:
        hits = await store.index.find(1, "TEXT")
        assert hits is None or hits.up_to < 50
        assert await found(store, "text 49") == [50]

    with_store(tmp_path, work, afterwards)


def test_messages_that_are_gone_are_not_found(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await two_messages(store)
        await store.write(1, lambda tx: messages.expunge(tx, 1, [(2, 2)], only_deleted=False))
        context = SearchContext(store, 1, 1, array("I", [1, 2]), lambda uid: False, EMPTY, pause)
        assert list(await search(context, Key("TEXT", "banana"))) == []

    with_store(tmp_path, work)


def test_two_processes_may_index_the_same_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "BATCH_MESSAGES", 1)

    async def work(store: Store) -> None:
        other = search_index.SearchIndex(store._accounts.path, store.read)
        for number in range(20):
            await store.append(1, message(f"text {number:03}"))
        for index in (store.index, other):
            index.catch_up(1)
        await store.append(1, message("text 020"))
        for index in (store.index, other):
            await index.finished()
            index.catch_up(1)
            await index.finished()
        for index in (store.index, other):
            hits = await index.find(1, "TEXT")
            assert (hits.up_to, len(hits.contents)) == (21, 21)
            assert (await index.find(1, "T 020")).contents == {21}
        await other.close()

    with_store(tmp_path, work)


def test_only_a_search_for_text_begins_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "FEWEST_MESSAGES", 1)
    monkeypatch.setattr(search_index, "BEGIN_S", 0.01)

    async def work(store: Store) -> None:
        await store.append(1, message("apple"))
        uids = await store.read(1, lambda tx: messages.uids(tx, 1))
        context = SearchContext(store, 1, 1, uids, lambda uid: False, EMPTY, pause)
        await search(context, Key("SENTSINCE", 0))
        await store.index.finished()
        assert not idx(store).exists()
        await search(context, Key("TEXT", "apple"))
        await store.index.finished()
        assert idx(store).exists()

    with_store(tmp_path, work)


def test_an_index_that_nobody_uses_is_closed_and_opened_again_when_it_is_wanted(
    tmp_path: Path,
) -> None:
    async def work(store: Store) -> None:
        index = store.index
        await two_messages(store)
        for _ in range(3):
            store.close_unused()
            assert await found(store, "banana") == [2]
        assert list(index._open) == [1], "it is used between all calls"
        store.close_unused()
        store.close_unused()
        await index._run(lambda: None)
        assert not index._open
        assert await found(store, "banana") == [2]

    with_store(tmp_path, work)


def test_an_index_is_begun_when_the_first_searches_are_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They read everything; an index made at the same time would take the interpreter from them."""
    monkeypatch.setattr(search_index, "FEWEST_MESSAGES", 1)
    monkeypatch.setattr(search_index, "BEGIN_S", 0.2)

    async def work(store: Store) -> None:
        await store.append(1, message("apple"))
        begin = asyncio.get_running_loop().time()
        for _ in range(3):
            assert await found(store, "apple") == [1]
            assert not idx(store).exists()
        await store.index.finished()
        assert asyncio.get_running_loop().time() - begin >= 0.2
        assert (await store.index.find(1, "APPLE")).up_to == 1

    with_store(tmp_path, work)


def test_an_account_that_goes_before_its_index_is_begun_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "FEWEST_MESSAGES", 1)
    monkeypatch.setattr(search_index, "BEGIN_S", 0.05)

    async def work(store: Store) -> None:
        await store.append(1, message("apple"))
        assert await found(store, "apple") == [1]
        store.forget_removed_accounts()
        await store.index.finished()
        await store.index._run(lambda: None)
        assert list((tmp_path / "accounts").rglob("*.idx*")) == []

    with_store(tmp_path, work)


def test_followed_searches_find_nothing_between_what_changed(tmp_path: Path) -> None:
    """Not by the index either (RFC 5267 §4.3)."""

    async def work(store: Store) -> None:
        for text in ("apple", "apple", "apple"):
            await store.append(1, message(text))
        store.index.catch_up(1)
        await store.index.finished()
        context = SearchContext(store, 1, 1, array("I", [1, 3]), lambda uid: False, EMPTY, pause)
        assert list(await search(context, Key("TEXT", "apple"))) == [1, 3]

    with_store(tmp_path, work)


def test_an_account_that_waits_for_its_second_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "BEGIN_S", 60.0)

    async def work(store: Store) -> None:
        index = store.index
        await two_messages(store)
        await store.append(1, message("date"))
        assert await index.is_wanted(1)
        # Neither one that comes before the task waits, nor one that wakes it
        for account, text in ((2, "cherry"), (3, "elder")):
            await store.append(account, message(text))
            index.catch_up(account)
            for _ in range(2000):
                hits = await index.find(account, text.upper())
                if hits is not None and hits.contents:
                    break
                await asyncio.sleep(0.01)
            assert hits is not None
            assert hits.contents == {1}
        index.keep_up(1)  # new mail makes nothing come sooner
        await asyncio.sleep(0.05)
        assert (await index.find(1, "DATE")).up_to == 2
        index.forget(1)
        index.catch_up(2)
        assert list(index._later) == []

    with_store(tmp_path, work)


def test_what_waits_is_indexed_once_its_time_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "BEGIN_S", 0.1)

    async def work(store: Store) -> None:
        await two_messages(store)
        await store.index.finished()  # searching wanted it, too
        await store.append(1, message("cherry"))
        loop = asyncio.get_running_loop()
        begin = loop.time()
        assert await store.index.is_wanted(1)
        await store.index.finished()
        assert loop.time() - begin >= 0.1
        assert (await store.index.find(1, "CHERRY")).contents == {3}

    with_store(tmp_path, work)
