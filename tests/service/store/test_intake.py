"""Mail that was taken is durable, is in its file before anybody looks, and gets there many messages at a time."""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest
from test_store import FullVFS, item, run

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.store import commit, content, intake, messages, quota
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.check import check_store
from pillarbox.store.content import Content
from pillarbox.store.flags import change_flags
from pillarbox.store.store import Store, remove_account_files

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


async def subjects(store: Store, account: int = 1) -> list[int]:
    def look(tx) -> list[int]:
        rows = messages.select(tx, 1, [(1, messages.MOST_UIDS)], ("subject",))
        return [int(subject) for (subject,) in rows]

    return await store.read(account, look)


def in_file(folder: Path, account: int = 1) -> int:
    """What another process sees of the account."""
    connection = apsw.Connection(str(account_path(folder / "accounts", account)))
    (count,) = connection.execute("SELECT count(*) FROM message").fetchone()
    connection.close()
    return count


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def deliver(store: Store, *numbers: int, account: int = 1) -> Awaitable[object]:
    return asyncio.gather(*(store.deliver(account, item(number)) for number in numbers))


def killed(folder: Path, target: Path) -> Path:
    """The data folder as a kill at this moment leaves it."""
    shutil.copytree(folder, target)
    return target


def test_a_reader_finds_all_that_was_taken_in_order(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await deliver(store, *range(1, 200))
        assert in_file(tmp_path) < 200
        assert await subjects(store) == list(range(200))

    run(tmp_path, scenario)


def test_a_writer_comes_after_all_that_was_taken_before_it(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await deliver(store, 1, 2)
        assert (await store.append(1, item(3))).uid == 4
        await deliver(store, 4, 5)
        every = [(1, messages.MOST_UIDS)]
        await store.write(1, lambda tx: change_flags(tx, 1, every, "+", 2, []))
        assert await subjects(store) == [0, 1, 2, 3, 4, 5]
        flags = await store.read(1, lambda tx: messages.select(tx, 1, every, ("flags",)))
        assert [row[0] for row in flags] == [2] * 6

    run(tmp_path, scenario)


def test_a_writer_comes_after_all_that_was_taken_however_much_that_is(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        many = 3 * intake.MOST_MESSAGES
        await deliver(store, *range(1, many + 1))
        assert (await store.append(1, item(many + 1))).uid == many + 2
        await deliver(store, *range(many))
        every = [(1, messages.MOST_UIDS)]
        done = await store.write(1, lambda tx: change_flags(tx, 1, every, "+", 2, []))
        assert done.changed == 2 * many + 2

    run(tmp_path, scenario)


def test_mail_gets_into_its_file_without_anybody_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "WAIT_S", 0.1)

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await deliver(store, 1, 2, 3)
        await until(lambda: in_file(tmp_path) == 4)

    run(tmp_path, scenario)


def test_many_messages_do_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "WAIT_S", 1000)

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await deliver(store, *range(1, intake.MOST_MESSAGES + 1))
        await until(lambda: in_file(tmp_path) == intake.MOST_MESSAGES + 1)

    run(tmp_path, scenario)


def test_the_oldest_do_not_wait_when_much_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "WAIT_S", 1000)
    monkeypatch.setattr(intake, "MOST_OCTETS_HELD", 300)

    async def scenario(store: Store) -> None:
        for account in (1, 2):
            await store.append(account, item(0))
        await deliver(store, 1, 2, 3, 4)
        await deliver(store, 1, account=2)
        await until(lambda: in_file(tmp_path) == 5)

    run(tmp_path, scenario)


def test_what_is_held_has_a_bound_however_fast_mail_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "WAIT_S", 1000)
    monkeypatch.setattr(intake, "MOST_OCTETS_TAKEN", 300)

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        for number in range(1, 20):
            await deliver(store, number)
            assert store._committer.intake.held(1).octets < 300 + item(0).size
        await store.catch_up(1)
        assert in_file(tmp_path) == 20

    run(tmp_path, scenario)


def test_a_session_that_listens_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "WAIT_S", 1000)

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        told = asyncio.Event()
        store.subscribe(1, lambda _mailboxes: told.set())
        await deliver(store, 1)
        await asyncio.wait_for(told.wait(), 5)
        assert in_file(tmp_path) == 2

    run(tmp_path, scenario)


def test_a_clean_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await deliver(store, *range(1, 100))

    run(tmp_path, scenario)
    assert in_file(tmp_path) == 100
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_kill_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """At a moment when some of the mail is in its file, and some is in the journal only; and twice in a row."""
    folder = tmp_path / "data"

    async def scenario(store: Store) -> None:
        for account in (1, 2):
            await store.append(account, item(0))
        await deliver(store, *range(1, 50))
        assert len(await subjects(store)) == 50
        await deliver(store, *range(50, 70))
        await deliver(store, 1, 2, 3, account=2)
        killed(folder, tmp_path / "killed")

    async def after(store: Store) -> None:
        assert store.recovered_messages == 23
        assert await subjects(store) == list(range(70))
        assert await subjects(store, 2) == [0, 1, 2, 3]
        await deliver(store, 70)
        killed(tmp_path / "killed", tmp_path / "again")

    async def last(store: Store) -> None:
        assert store.recovered_messages == 1
        assert await subjects(store) == list(range(71))

    run(folder, scenario)
    run(tmp_path / "killed", after)
    run(tmp_path / "again", last)
    problems = [line for line in check_store(tmp_path / "again") if "no account" not in line]
    assert problems == []


def test_numbers_that_a_session_saw_are_not_given_to_recovered_mail(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    async def scenario(store: Store) -> None:
        given = await store.append(1, item(0))
        await deliver(store, 1)
        killed(folder, tmp_path / "killed")
        assert given.uid == 1

    async def after(store: Store) -> None:
        found = list(await store.read(1, lambda tx: messages.uids(tx, 1)))
        assert found[0] == 1
        assert found[1] > 1000

    run(folder, scenario)
    run(tmp_path / "killed", after)


def test_a_full_disk_keeps_what_was_taken_and_refuses_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "RETRY_S", 0.1)
    vfs = FullVFS()

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await deliver(store, 1, 2)
        vfs.full = True
        assert await subjects(store) == [0]
        with pytest.raises(DiskFull):
            await store.deliver(1, item(3))
        vfs.full = False
        await until(lambda: in_file(tmp_path) == 3)
        await deliver(store, 4)
        assert await subjects(store) == [0, 1, 2, 4]

    run(tmp_path, scenario, vfs=vfs.name)
    vfs.unregister()


def test_that_a_file_takes_no_mail_is_told_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vfs = FullVFS()

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await deliver(store, 1)
        vfs.full = True
        for _ in range(10):
            assert await subjects(store) == [0]
        vfs.full = False
        assert await subjects(store) == [0, 1]

    run(tmp_path, scenario, vfs=vfs.name)
    vfs.unregister()
    assert caplog.text.count("account 1 takes no mail: the disk is full") == 1


def test_the_journal_stays_while_a_file_takes_no_mail(tmp_path: Path) -> None:
    vfs = FullVFS()
    folder = tmp_path / "data"

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await deliver(store, 1, 2)
        vfs.full = True

    run(folder, scenario, vfs=vfs.name)
    vfs.unregister()
    assert len(list((folder / "journal").iterdir())) == 1

    async def after(store: Store) -> None:
        assert await subjects(store) == [0, 1, 2]

    run(folder, after)
    assert list((folder / "journal").iterdir()) == []


def test_segments_are_removed_under_a_steady_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "SEGMENT_OCTETS", 2000)

    async def scenario(store: Store) -> None:
        for account in (1, 2, 3):
            await store.append(account, item(0))
        start = time.monotonic()
        for number in range(1, 100):
            await store.deliver(1 + number % 3, item(number))
        assert time.monotonic() - start < 5
        await until(lambda: len(list((tmp_path / "journal").iterdir())) <= 2)

    run(tmp_path, scenario)


async def removed_account(store: Store) -> int:
    """With a message in its file, and one that was taken."""
    store.directory.add_domain("example.test")
    account = store.directory.add_account("a@example.test", "", "").id
    await store.append(account, item(0))
    await deliver(store, 1, account=account)
    store.directory.remove_account(account)
    return account


def test_what_was_taken_for_a_removed_account_goes_nowhere(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await removed_account(store)
        store.forget_removed_accounts()

    run(tmp_path, scenario)
    assert list((tmp_path / "accounts").glob("*/*")) == []
    assert list((tmp_path / "journal").iterdir()) == []


@pytest.mark.parametrize("is_seen", [True, False])
def test_nor_where_its_file_was_deleted_and_somebody_looked_for_it(
    tmp_path: Path, is_seen: bool
) -> None:
    """Before the store hears of that, if it does: no new file is made."""

    async def scenario(store: Store) -> None:
        account = await removed_account(store)
        remove_account_files(tmp_path, account)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await subjects(store, account)
            with pytest.raises(Unavailable):
                await store.append(account, item(2))
        if is_seen:
            store.forget_removed_accounts()

    run(tmp_path, scenario)
    assert [path.name for path in (tmp_path / "accounts").glob("*/*.db")] == []
    assert list((tmp_path / "journal").iterdir()) == []


def test_the_same_delivery_taken_twice_is_there_once(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        for _ in range(2):
            await store.deliver(1, item(1, delivery_key="Q1/a@example.test"))
        assert await subjects(store) == [0, 1]

    run(tmp_path, scenario)


def test_a_failed_sync_acknowledges_nothing(tmp_path: Path) -> None:
    fatal: list[BaseException] = []

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))

        def fail(*_: object) -> asyncio.Future[None]:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(OSError("no sync"))
            return future

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pillarbox.store.syncing.Syncs.sync", fail)
            with pytest.raises(Unavailable):
                await store.deliver(1, item(1))
        assert len(fatal) == 1
        with pytest.raises(Unavailable):
            await store.deliver(1, item(2))

    run(tmp_path, scenario, on_fatal=fatal.append)


def test_what_an_account_keeps_is_known_without_putting_it_into_its_file(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        before = await store.usage(1)
        await deliver(store, 1, 2, 3)
        used = await store.usage(1)
        assert used.messages == before.messages + 3
        assert in_file(tmp_path) == 1
        assert used == await store.read(1, quota.usage), "the same once it is there"
        assert (await store.usage(2)).messages == 0

    run(tmp_path, scenario)


def test_what_cannot_be_parsed_is_stored_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in the parser of messages must neither lose mail nor keep an account's other mail, or a start, waiting."""
    parse = content.parse_message

    def fail_for_some(octets: bytes | memoryview) -> object:
        if b"poison" in bytes(octets):
            raise LookupError("unknown encoding: mbcs")
        return parse(octets)

    monkeypatch.setattr(content, "parse_message", fail_for_some)
    octets = b"Subject: poison\r\n\r\npoison\r\n--b\r\n"
    poison = Append(1, Content(octets, octets.index(b"\r\n\r\n") + 4), pack_date(1_790_000_000))

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await asyncio.gather(store.deliver(1, poison), store.deliver(1, item(2)))
        killed(tmp_path, tmp_path / "killed")
        await check(store)

    async def check(store: Store) -> None:
        def look(tx) -> list[tuple[bytes, bytes]]:
            columns = ("header", "content", "size", "bodystructure", "subject")
            rows = messages.select(tx, 1, [(1, messages.MOST_UIDS)], columns)
            return [
                (header + messages.body(tx, number, 0, size), structure)
                for header, number, size, structure, _ in rows
            ]

        found = await store.read(1, look)
        assert len(found) == 3
        assert found[1][0] == octets
        assert found[1][1].startswith(b'("text" "plain"')
        assert b" 13 2 " in found[1][1]  # octets and lines of the body (RFC 3501 §7.4.2)

    run(tmp_path, scenario)
    run(tmp_path / "killed", check)
    assert "kept unparsed" in caplog.text


def test_a_file_that_another_program_has_holds_up_nobody_else(tmp_path: Path) -> None:
    """Somebody at work with `sqlite3` on one account's file: its mail waits, the event loop does not."""

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        other = apsw.Connection(str(account_path(tmp_path / "accounts", 1)))
        other.execute("BEGIN IMMEDIATE")
        await store.deliver(1, item(1))
        appended = asyncio.ensure_future(store.append(1, item(2)))
        longest, end = 0.0, time.monotonic() + 2.5
        while time.monotonic() < end:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
        assert longest < 1  # SQLite would wait for five seconds
        assert not appended.done()
        other.execute("ROLLBACK")
        other.close()
        await appended
        assert sorted(await subjects(store)) == [0, 1, 2]

    run(tmp_path, scenario)


def test_a_damaged_file_is_noticed_and_holds_up_nobody_else(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await store.append(2, item(0))
        os.truncate(account_path(tmp_path / "accounts", 1), 0)
        file = store._accounts.get(1)
        assert file is not None
        file.writer.pragma("shrink_memory")  # what is in memory is as it was
        begin = time.monotonic()
        with pytest.raises(Unavailable):
            await subjects(store)
        assert time.monotonic() - begin < 1
        assert await subjects(store, 2) == [0]

    run(tmp_path, scenario)
