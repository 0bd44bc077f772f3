"""Several workers on one data folder: each is a store of its own, and none harms what another does."""

import asyncio
import fcntl
import os
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from pillarbox.config.load import MOST_WORKERS
from pillarbox.core.dates import pack_date
from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.store import accounts as account_files
from pillarbox.store import (
    acl,
    appending,
    commit,
    database,
    intake,
    journal,
    keywords,
    messages,
    recovery,
    retirement,
    unit,
)
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.check import check_store
from pillarbox.store.content import make_content
from pillarbox.store.flags import change_flags
from pillarbox.store.place import Place, lock_folder
from pillarbox.store.retirement import Retirement
from pillarbox.store.store import Store

NOW = 1_790_000_000
ALL = [(1, messages.MOST_UIDS)]


def item(number: int = 1, size: int = 50, **options) -> Append:
    octets = b"From: a@b.example\r\nSubject: %d\r\n\r\n" % number + b"x" * size
    return Append(1, make_content(octets), pack_date(NOW), **options)


@asynccontextmanager
async def workers(folder: Path, count: int = 2, **options) -> AsyncIterator[list[Store]]:
    lock = lock_folder(folder)
    stores = [
        Store(
            folder,
            clock=lambda: NOW,
            place=Place(number, count, is_first=number == 1, lock=os.dup(lock)),
            **options,
        )
        for number in range(1, count + 1)
    ]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()
        os.close(lock)


def run(folder: Path, scenario: Callable[[list[Store]], Awaitable[None]], **options) -> None:
    async def main() -> None:
        async with workers(folder, **options) as stores:
            await scenario(stores)

    asyncio.run(main())


async def uids(store: Store, account: int) -> list[int]:
    found = await store.read(account, lambda tx: messages.select(tx, 1, ALL, ("uid",)))
    return [row[0] for row in found]


def stop_ticking(store: Store) -> None:
    """As a kill does: nothing more is put in."""
    store._committer._filing.stop()


def test_what_one_worker_shares_is_shared_in_all(tmp_path: Path) -> None:
    async def scenario(stores: list[Store]) -> None:
        first, second = stores
        await first.share(1, 1, 2, "+", "lr")
        assert second.directory.shares(1, 2)
        assert await second.read(1, lambda tx: acl.rights_of(tx, 1, 2)) == "lr"
        # both change it at once, many times: the directory names whoever has a right in the end
        dice = random.Random(5)
        for _ in range(20):
            await asyncio.gather(
                *(
                    store.share(1, dice.choice((1, 2)), 2, dice.choice("+-"), "lr")
                    for store in stores
                )
            )
            has = await first.read(1, lambda tx: acl.has_any(tx, 2))
            assert has <= first.directory.shares(1, 2)

    run(tmp_path, scenario)


def test_numbers_are_given_once_whoever_appends(tmp_path: Path) -> None:
    async def scenario(stores: list[Store]) -> None:
        dice = random.Random(3)
        given = await asyncio.gather(
            *(dice.choice(stores).append(1, item(number)) for number in range(400))
        )
        assert sorted(one.uid for one in given) == list(range(1, 401))
        assert len({one.modseq for one in given}) == 400
        assert await uids(stores[0], 1) == await uids(stores[1], 1) == list(range(1, 401))

    run(tmp_path, scenario)
    assert [line for line in check_store(tmp_path) if "belongs to no account" not in line] == []


def test_two_that_make_an_account_at_once_make_one(tmp_path: Path) -> None:
    """The second file would take the place of the first, with the mail in it."""

    async def scenario(stores: list[Store]) -> None:
        for account in range(1, 30):
            given = await asyncio.gather(
                *(store.append(account, item(number)) for number, store in enumerate(stores))
            )
            assert sorted(one.uid for one in given) == [1, 2]
            assert await uids(stores[0], account) == [1, 2]

    run(tmp_path, scenario)


def test_a_file_that_another_has_locked_is_waited_for_without_a_sync_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else is held up, and the mail becomes durable with the journal, as always."""
    levels: list[str] = []
    apply = commit.apply

    def noted(file, units, level, now_s):
        levels.append(level)
        return apply(file, units, level, now_s)

    monkeypatch.setattr(commit, "apply", noted)

    async def scenario(stores: list[Store]) -> None:
        await asyncio.gather(*(stores[0].append(account, item()) for account in (1, 2)))
        path = account_path(tmp_path / "accounts", 1).with_suffix(".lock")
        levels.clear()
        other = os.open(path, os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = asyncio.ensure_future(stores[0].append(1, item()))
        await asyncio.wait_for(stores[0].append(2, item()), 5)
        assert not waiting.done()
        fcntl.flock(other, fcntl.LOCK_UN)
        assert (await asyncio.wait_for(waiting, 5)).uid == 2
        os.close(other)
        assert set(levels) == {"NORMAL"}
        records = [
            (one.account, one.uid)
            for path in journal.segments(tmp_path / "journal")
            for one in journal.read_segment(path.read_bytes()).records
        ]
        assert sorted(records) == [(1, 1), (1, 2), (2, 1), (2, 2)]

    run(tmp_path, scenario)


def test_a_full_journal_makes_what_was_waited_for_durable_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(stores: list[Store]) -> None:
        await stores[0].append(1, item())
        path = account_path(tmp_path / "accounts", 1).with_suffix(".lock")
        other = os.open(path, os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = asyncio.ensure_future(stores[0].append(1, item()))
        await asyncio.sleep(0.1)

        def full(_octets: int) -> None:
            raise DiskFull

        monkeypatch.setattr(stores[0]._committer._journal, "reserve", full)
        fcntl.flock(other, fcntl.LOCK_UN)
        os.close(other)
        assert (await asyncio.wait_for(waiting, 5)).uid == 2

    run(tmp_path, scenario)


def test_a_worker_that_comes_back_makes_its_old_journal_needless(tmp_path: Path) -> None:
    async def scenario(stores: list[Store]) -> None:
        for account in range(1, 6):
            await stores[1].append(account, item())
        left = journal.segments(tmp_path / "journal", "2")
        assert left
        again = Store(
            tmp_path,
            clock=lambda: NOW,
            place=Place(2, 2, is_first=False, lock=os.open(tmp_path / "lock", os.O_RDWR)),
        )
        await again.put_left()
        await again.append(1, item())
        await again.close()
        assert not set(left) & set(journal.segments(tmp_path / "journal", "2"))
        for account in range(1, 6):
            connection = apsw.Connection(str(account_path(tmp_path / "accounts", account)))
            row = connection.execute("SELECT generation FROM account_state").fetchone()
            assert row == (0,), "nothing was lost, so no numbers are skipped"
            connection.close()

    run(tmp_path, scenario)


def test_several_segments_of_a_killed_worker_are_taken_over_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that has the later ones would be held to have the earlier ones."""
    monkeypatch.setattr(intake, "WAIT_S", 60.0)
    monkeypatch.setattr(commit, "SEGMENT_OCTETS", 3000)

    async def scenario(stores: list[Store]) -> None:
        lock = os.open(tmp_path / "lock", os.O_RDWR)
        killed = Store(
            tmp_path, clock=lambda: NOW, place=Place(2, 2, is_first=False, lock=os.dup(lock))
        )

        async def stay(_self: Retirement, _segment: journal.Segment) -> None: ...

        with monkeypatch.context() as patch:
            patch.setattr(Retirement, "retire", stay)
            await killed.append(1, item())
            for number in range(30):
                await killed.deliver(1, item(number, size=600))
        stop_ticking(killed)
        assert len(journal.segments(tmp_path / "journal", "2")) > 3
        again = Store(tmp_path, clock=lambda: NOW, place=Place(2, 2, is_first=False, lock=lock))
        await again.put_left()
        assert len(await uids(stores[0], 1)) == 31, "they are there for all before it serves"
        await again.close()
        assert journal.segments(tmp_path / "journal", "2") == []

    run(tmp_path, scenario)


@asynccontextmanager
async def second(folder: Path, **options) -> AsyncIterator[Store]:
    """Worker 2, started again by the supervisor."""
    lock = os.open(folder / "lock", os.O_RDWR)
    place = Place(2, 2, is_first=False, lock=lock, **options)
    store = Store(folder, clock=lambda: NOW, place=place)
    try:
        yield store
    finally:
        await store.close()


async def take_and_be_killed(folder: Path, accounts: Sequence[int]) -> None:
    """Worker 2 takes a message for each account, and puts none of them into a file."""
    lock = os.open(folder / "lock", os.O_RDWR)
    killed = Store(folder, clock=lambda: NOW, place=Place(2, 2, is_first=False, lock=lock))
    for account in accounts:
        await killed.append(account, item(1))
    for account in accounts:
        await killed.deliver(account, item(2))
    stop_ticking(killed)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again soon."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    monkeypatch.setattr(retirement, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(retirement, "LONGEST_PAUSE_S", 0.2)
    monkeypatch.setattr(account_files, "RETRY_S", 0.1)
    monkeypatch.setattr(intake, "WAIT_S", 60.0)


def locked(folder: Path, account: int) -> apsw.Connection:
    """Somebody is at work on a file with `sqlite3`."""
    other = apsw.Connection(str(account_path(folder / "accounts", account)))
    other.execute("BEGIN IMMEDIATE")
    return other


@pytest.mark.usefixtures("impatient")
def test_a_file_that_takes_nothing_holds_up_no_other_mail_of_a_killed_worker(
    tmp_path: Path,
) -> None:
    async def scenario(stores: list[Store]) -> None:
        await take_and_be_killed(tmp_path, [1, 2, 3])
        left = journal.segments(tmp_path / "journal", "2")
        other = locked(tmp_path, 1)
        async with second(tmp_path) as again:
            await again.put_left()
            for account in (2, 3):
                assert len(await uids(stores[0], account)) == 2
            assert len(await uids(stores[0], 1)) == 1
            assert journal.segments(tmp_path / "journal", "2") == left
            other.execute("ROLLBACK")
            other.close()
            await until(lambda: journal.segments(tmp_path / "journal", "2") == [])
            assert len(await uids(stores[0], 1)) == 2

    run(tmp_path, scenario)


@pytest.mark.usefixtures("impatient")
def test_a_damaged_file_holds_up_no_other_mail_of_a_killed_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(stores: list[Store]) -> None:
        await take_and_be_killed(tmp_path, [1, 2, 3])
        left = journal.segments(tmp_path / "journal", "2")
        path = account_path(tmp_path / "accounts", 1)
        path.write_bytes(b"not a database" * 1000)
        os.unlink(f"{path}-wal")
        async with second(tmp_path) as again:
            await again.put_left()
            for account in (2, 3):
                assert len(await uids(stores[0], account)) == 2
        assert journal.segments(tmp_path / "journal", "2") == left
        assert caplog.text.count("the mail file of account 1 is damaged") == 1

    run(tmp_path, scenario)


@pytest.mark.usefixtures("impatient")
def test_a_segment_goes_once_a_file_can_be_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of this process, too, and not only when the server stops."""
    failing = [True]
    checkpoint = retirement.checkpoint

    def fail_first(path: Path, vfs: str | None) -> None:
        if failing:
            raise apsw.FullError("database or disk is full")
        checkpoint(path, vfs)

    monkeypatch.setattr(retirement, "checkpoint", fail_first)

    async def scenario(stores: list[Store]) -> None:
        await stores[0].append(1, item())
        stores[0]._committer._cut_journal()
        await asyncio.sleep(0.3)
        assert journal.segments(tmp_path / "journal", "1")
        failing.clear()
        await until(lambda: journal.segments(tmp_path / "journal", "1") == [])

    run(tmp_path, scenario)


def leave_unclean(folder: Path, target: Path, accounts: Sequence[int] = (1, 2)) -> None:
    """A folder as a kill of the whole server leaves it: one message of each account is only in the journal."""

    async def scenario(stores: list[Store]) -> None:
        for account in accounts:
            await stores[1].append(account, item(1))
            await stores[1].deliver(account, item(2))
        shutil.copytree(folder, target)

    folder.mkdir()
    run(folder, scenario)


@pytest.mark.usefixtures("impatient")
def test_what_a_start_could_not_replay_is_replayed_when_the_cause_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whoever opens the account, in any worker, and for nobody else twice."""
    folder = tmp_path / "killed"
    leave_unclean(tmp_path / "data", folder)
    checkpoint = Busy(recovery.checkpoint)
    monkeypatch.setattr(recovery, "checkpoint", checkpoint)

    async def scenario(stores: list[Store]) -> None:
        first = stores[0]
        assert first.unusable == {1, 2}
        assert len(first.left) == 1
        checkpoint.is_busy = False
        options = {"unusable": frozenset(first.unusable), "left": ("2-000001.log",)}
        await first.put_left()
        async with second(folder, **options) as again:
            await again.append(1, item(3))
            await asyncio.sleep(0.3)
            for store in (first, again):
                assert len(await uids(store, 1)) == 3
                assert len(await uids(store, 2)) == 2
            await until(lambda: not first.left[0].exists())

    run(folder, scenario, count=1)
    assert [line for line in check_store(folder) if "belongs to no account" not in line] == []
    assert list((folder / "journal").iterdir()) == []


class Busy:
    """A checkpoint that another program keeps from being made."""

    def __init__(self, checkpoint: Callable[[Path, str | None], None]) -> None:
        self._checkpoint = checkpoint
        self.is_busy = True

    def __call__(self, path: Path, vfs: str | None) -> None:
        if self.is_busy:
            raise apsw.BusyError("database is locked")
        self._checkpoint(path, vfs)


def test_a_worker_that_comes_later_minds_no_segment_that_is_gone(tmp_path: Path) -> None:
    """And gives its name to no other: what stands there would be taken for what the start left."""

    async def scenario(stores: list[Store]) -> None:
        await stores[0].append(1, item(0))
        options = {"unusable": frozenset({1}), "left": ("2-000001.log", "2-000007.log")}
        async with second(tmp_path, **options) as again:
            await again.put_left()
            await again.append(1, item(1))
            (path,) = journal.segments(tmp_path / "journal", "2")
            assert path.name == "2-000008.log"
        lock = os.open(tmp_path / "lock", os.O_RDWR)
        place = Place(1, 2, is_first=False, lock=lock, **options)
        first = Store(tmp_path, clock=lambda: NOW, place=place)
        await first.put_left()
        assert len(await uids(first, 1)) == 2
        await first.close()

    run(tmp_path, scenario, count=1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("error", "code"), [(apsw.BusyError("locked"), "busy"), (apsw.FullError("full"), "full")]
)
def test_whoever_opens_what_is_not_replayed_hears_the_true_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: apsw.Error, code: str
) -> None:
    folder = tmp_path / "killed"
    leave_unclean(tmp_path / "data", folder)
    causes = [error]
    replay_into = recovery._replay_into

    def fail(*arguments: Any) -> Any:
        if causes:
            raise causes[0]
        return replay_into(*arguments)

    monkeypatch.setattr(recovery, "_replay_into", fail)

    async def scenario(stores: list[Store]) -> None:
        (store,) = stores
        for _ in range(2):
            with pytest.raises(Unavailable, match=code) as raised:
                await uids(store, 1)
            assert raised.value.code == "UNAVAILABLE"
            assert isinstance(raised.value, DiskFull) == (code == "full")
        causes.clear()
        await asyncio.sleep(0.15)
        assert len(await uids(store, 1)) == 2
        given = await store.append(1, item(3))
        assert given.uid > recovery.UIDS_SKIPPED

    run(folder, scenario, count=1)


def test_after_an_unclean_stop_only_one_worker_puts_a_file_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would throw away what the first has begun to write."""

    async def before(stores: list[Store]) -> None:
        await stores[0].append(1, item())

    run(tmp_path, before)
    (tmp_path / "journal" / "1-000007.log").write_bytes(journal.MAGIC)
    calls: list[int] = []
    put_in_order = recovery.put_in_order

    def counted(tx, generation):
        calls.append(tx.account)
        put_in_order(tx, generation)

    monkeypatch.setattr(recovery, "put_in_order", counted)

    async def scenario(stores: list[Store]) -> None:
        await asyncio.gather(*(store.append(1, item()) for store in stores))
        skipped = recovery.UIDS_SKIPPED
        assert await uids(stores[0], 1) == [1, skipped + 2, skipped + 3]

    run(tmp_path, scenario)
    assert calls == [1]


def test_numbers_skipped_are_more_than_all_workers_can_have_waiting() -> None:
    a_worker = unit.MOST_UNITS_A_GROUP + intake.MOST_MESSAGES
    assert MOST_WORKERS * a_worker + recovery.MOST_UNSYNCED < recovery.UIDS_SKIPPED


def test_keywords_of_a_lost_transaction_are_not_remembered(tmp_path: Path) -> None:
    """Another process may give the number of their set to others."""

    async def scenario(stores: list[Store]) -> None:
        first, second = stores
        given = await first.append(1, item())
        seen = [(given.uid, given.uid)]

        def lost(tx) -> None:
            change_flags(tx, 1, seen, "+", 0, [b"Lost"])
            assert flags_shown(tx) == b"Lost"
            raise Unavailable("never mind")

        with pytest.raises(Unavailable):
            await first.write(1, lost)
        await second.write(1, lambda tx: change_flags(tx, 1, seen, "+", 0, [b"Kept"]))
        assert await first.read(1, flags_shown) == b"Kept"

    def flags_shown(tx) -> bytes:
        ((flags,),) = messages.select(tx, 1, ALL, ("flags",))
        return keywords.format_flags(tx, flags)

    run(tmp_path, scenario)


class Link:
    """The `Relay` of two stores of this process, as direct as can be."""

    def __init__(self) -> None:
        self.behind: dict[int, int] = {}
        self.other: Link
        self.store: Store

    def watch(self, account: int) -> None: ...

    def unwatch(self, account: int) -> None: ...

    def is_watched(self, account: int) -> bool:
        return False

    def tell(self, account: int, mailboxes: set[int]) -> None: ...

    def mark_behind(self, account: int, change: int) -> None:
        self.behind[account] = self.behind.get(account, 0) + change

    def is_behind(self, account: int) -> bool:
        return bool(self.other.behind.get(account))

    async def catch_up(self, account: int) -> None:
        await self.other.store.catch_up(account)


def test_what_one_worker_took_is_there_for_whoever_reads_in_another(tmp_path: Path) -> None:
    async def main() -> None:
        lock = lock_folder(tmp_path)
        links = [Link(), Link()]
        for number, link in enumerate(links, 1):
            link.other = links[2 - number]
            place = Place(number, 2, is_first=number == 1, lock=os.dup(lock))
            link.store = Store(tmp_path, clock=lambda: NOW, place=place, relay=link)
        first, second = (link.store for link in links)
        await first.append(1, item())
        for count in range(1, 20):
            await first.deliver(1, item(count))
            assert links[0].behind == {1: 1}, "it is in the journal only"
            assert len(await uids(second, 1)) == count + 1
            assert links[0].behind == {1: 0}
        await first.deliver(1, item(20))
        await second.write(1, lambda tx: change_flags(tx, 1, ALL, "+", 2, []))
        rows = await second.read(1, lambda tx: messages.select(tx, 1, ALL, ("flags",)))
        assert rows == [(2,)] * 21, "whoever changes messages changes those, too"
        for link in links:
            await link.store.close()
        os.close(lock)

    asyncio.run(main())


def test_what_a_killed_worker_took_is_put_in_once_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when that is killed in turn before it could sync what it put in, and when the server starts anew then."""
    monkeypatch.setattr(intake, "WAIT_S", 60.0)

    async def scenario(stores: list[Store]) -> None:
        lock = os.open(tmp_path / "lock", os.O_RDWR)
        for account in (1, 2, 3):
            await stores[0].append(account, item())

        async def one(number: int, *, put: bool) -> None:
            place = Place(2, 2, is_first=False, lock=os.dup(lock))
            store = Store(tmp_path, clock=lambda: NOW, place=place)
            if put:
                store._committer._journal.remove = lambda _segment: None
                await store.put_left()
            for account in (1, 2, 3):
                await store.append(account, item(number))
                await store.deliver(account, item(number + 1))
            await store._committer._quiet()
            stop_ticking(store)

        await one(100, put=False)
        await one(200, put=True)
        await one(300, put=True)
        last = Store(tmp_path, clock=lambda: NOW, place=Place(2, 2, is_first=False, lock=lock))
        await last.put_left()
        await last.deliver(1, item(400))
        await last._committer._quiet()
        await last.close()
        assert [len(await uids(stores[0], account)) for account in (1, 2, 3)] == [8, 7, 7]
        assert journal.segments(tmp_path / "journal", "2") == []

    run(tmp_path, scenario)


def test_a_body_that_a_killed_worker_had_half_written_goes_with_the_housekeeping(
    tmp_path: Path,
) -> None:
    """Not at the first look: then it may still be under way."""

    async def scenario(stores: list[Store]) -> None:
        store = stores[0]
        await store.append(1, item())
        left = await store.write(1, appending.stage)
        await store.reclaim(1)
        assert await store.read(1, appending.staged) == {left}
        under_way = await store.write(1, appending.stage)
        await store.reclaim(1)
        assert await store.read(1, appending.staged) == {under_way}

    run(tmp_path, scenario)
