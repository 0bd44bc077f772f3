"""A repair and the journals of a server that was killed: what either has whole is there, once."""

import asyncio
import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from people import ALICE, BOB, make_directory
from test_backup import damage, with_store
from test_intake import deliver, subjects
from test_repair import contents, damage_pages, damage_roots, pages_of_texts, repaired, roots
from test_store import item

from pillarbox.store import flags, mailboxes, messages, salvage
from pillarbox.store import repair as repairing
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.check import check_store
from pillarbox.store.content import make_content
from pillarbox.store.store import Store


async def fill(store: Store) -> None:
    """0 to 9 were appended, and 0, 1 moved; 10 to 19 delivered and in the file; 20 to 22 in the journal alone. 5 and 15
    were deleted, 6 and 16 are flagged. The mailbox Work has 30 to 39, and Old was deleted with 40."""
    work = await store.write(1, lambda tx: mailboxes.create(tx, ("Work",)))
    old = await store.write(1, lambda tx: mailboxes.create(tx, ("Old",)))
    for number in range(10):
        await store.append(1, item(number, 3000))
    await deliver(store, *range(10, 20))
    assert len(await subjects(store)) == 20  # they are in the file now
    for number in range(30, 40):
        await store.append(1, item(number, 3000, work.id))
    await store.append(1, item(40, 3000, old.id))
    await store.write(1, lambda tx: mailboxes.delete(tx, ("Old",)))
    await store.write(1, lambda tx: messages.move(tx, 1, [(1, 2)], work.id))
    for uid in (6, 16):
        await store.write(
            1, lambda tx, uid=uid: messages.expunge(tx, 1, [(uid, uid)], only_deleted=False)
        )
    for uid in (7, 17):
        await store.write(
            1, lambda tx, uid=uid: flags.change_flags(tx, 1, [(uid, uid)], "+", 2, [])
        )
    await deliver(store, 20, 21, 22)


KEPT = sorted({*range(23), *range(30, 40)} - {5, 15})


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that was killed, with the write-ahead logs put into their files."""
    folder = tmp_path_factory.mktemp("killed")
    running, left = folder / "running", folder / "left"
    running.mkdir()
    make_directory(running, ALICE, BOB)

    async def scenario(store: Store) -> None:
        await fill(store)
        await asyncio.to_thread(shutil.copytree, running, left)

    with_store(running, scenario)
    connection = apsw.Connection(str(account_path(left / "accounts", 1)))
    assert connection.execute("SELECT count(*) FROM message").fetchone()
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    return left


@pytest.fixture
def copy(killed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    shutil.copytree(killed, folder)
    return folder


def numbers(texts: list[bytes]) -> list[int]:
    return sorted(int(text.split(b"Subject: ")[1].split(b"\r\n")[0]) for text in texts)


def found_in(folder: Path) -> dict[str, list[int]]:
    """What is there once the server has started again."""
    found = {name: numbers(texts) for name, texts in with_store(folder, contents).items() if texts}
    assert with_store(folder, contents).keys() >= found.keys()
    return found


def flagged(folder: Path) -> int:
    connection = apsw.Connection(str(account_path(folder / "accounts", 1)))
    (count,) = connection.execute("SELECT count(*) FROM message WHERE flags & 2").fetchone()
    connection.close()
    return int(count)


def test_undamaged_it_is_as_it_shall_be(copy: Path) -> None:
    found = found_in(copy)
    assert sorted(found["INBOX"] + found["Work"]) == KEPT
    assert found["Work"] == [0, 1, *range(30, 40)]


@pytest.mark.parametrize(
    "names",
    [
        ("taken",),
        ("account_state",),
        ("account_state", "message"),
        ("account_state", "message", "taken", "delivered"),
        ("message", "change", "taken"),
        ("octets", "taken"),
        ("mailbox", "account_state", "taken"),
    ],
    ids="-".join,
)
def test_what_is_in_both_is_there_once(copy: Path, names: tuple[str, ...]) -> None:
    path = account_path(copy / "accounts", 1)
    damage_roots(path, *names)
    done = repaired(copy).salvaged
    assert (done.from_journal, done.lost) == (3, {})
    found = found_in(copy)
    assert sorted(number for each in found.values() for number in each) == KEPT
    assert found["INBOX"] == [number for number in KEPT if 2 <= number < 30]
    assert list(repairing.repair(copy)) == []


def zero_texts(path: Path, last_content: int) -> None:
    texts = pages_of_texts(path)
    pages = {page for content, own in texts.items() if content <= last_content for page in own}
    assert pages
    for page in pages:
        damage(path, page - 1, 1)


@pytest.mark.parametrize(
    "names", [(), ("account_state",), ("account_state", "mailbox", "taken")], ids=str
)
def test_texts_that_are_lost_come_from_the_journal(copy: Path, names: tuple[str, ...]) -> None:
    path = account_path(copy / "accounts", 1)
    damage_roots(path, *names)
    zero_texts(path, 1 << 40)
    done = repaired(copy).salvaged
    assert (done.lost, done.is_uncounted) == ({}, False)
    found = found_in(copy)
    assert "Recovered" not in found, "a mailbox was deleted with its mail"
    there = sorted(found["INBOX"] + found["Work"])
    assert there == KEPT or (there == sorted([*KEPT, 15]) and done.may_be_old and names)
    assert found["Work"] == [0, 1, *range(30, 40)]
    assert flagged(copy) == 1, "that of one that was only taken is lost"


@pytest.mark.parametrize(
    "names",
    [
        ("octets",),
        ("octets", "message"),
        ("octets", "rendered", "message"),
        ("octets", "message", "account_state"),
        ("octets", "message", "message_content"),
    ],
    ids=str,
)
def test_nothing_is_lost_that_the_journal_has(copy: Path, names: tuple[str, ...]) -> None:
    """Deleted mail may come back, and that is told."""
    path = account_path(copy / "accounts", 1)
    damage_pages(path, *names)
    done = repaired(copy).salvaged
    there = [number for each in found_in(copy).values() for number in each]
    assert sorted({*there} - {5, 15}) == KEPT
    assert len(there) == len({*there})
    assert done.may_be_old or not {5, 15} & {*there}


def test_mail_of_a_lost_mailbox_is_recovered_from_the_journal(copy: Path) -> None:
    path = account_path(copy / "accounts", 1)
    damage_pages(path, "mailbox", "mailbox_name", "message", "message_content", "octets")
    done = repaired(copy).salvaged
    found = found_in(copy)
    assert {*range(30, 40)} <= {*found["Recovered"]}
    assert done.recovered == len(found["Recovered"])
    assert done.is_uncounted


def test_the_same_text_twice_is_there_twice(tmp_path: Path) -> None:
    running, left = tmp_path / "running", tmp_path / "left"
    running.mkdir()
    make_directory(running, ALICE)

    async def scenario(store: Store) -> None:
        for number in (1, 1, 2):
            await store.append(1, item(number, 3000))
        await deliver(store, 3, 3)
        await asyncio.to_thread(shutil.copytree, running, left)

    with_store(running, scenario)
    damage_roots(account_path(left / "accounts", 1), "account_state", "taken")
    repaired(left)
    assert sorted(with_store(left, subjects)) == [1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("lost_tables", "inbox", "work"),
    [(("octets",), [2, 2], [2]), (("octets", "rendered"), [1, 1, 2, 2], [1, 2])],
)
def test_a_copy_whose_text_is_lost_is_no_place_for_what_was_deleted(
    tmp_path: Path, lost_tables: tuple[str, ...], inbox: list[int], work: list[int]
) -> None:
    """Two messages of one second and one size; the first was deleted, the second copied. Where nothing is left that
    says which of them is there, both are in all places, and that is told."""
    running, left = tmp_path / "running", tmp_path / "left"
    running.mkdir()
    make_directory(running, ALICE)

    async def scenario(store: Store) -> None:
        other = await store.write(1, lambda tx: mailboxes.create(tx, ("Work",)))
        await deliver(store, 1, 2)
        assert await subjects(store) == [1, 2]
        await store.write(1, lambda tx: messages.expunge(tx, 1, [(1, 1)], only_deleted=False))
        for target in (1, other.id):
            await store.write(1, lambda tx, to=target: messages.copy(tx, 1, [(2, 2)], to))
        await asyncio.to_thread(shutil.copytree, running, left)

    with_store(running, scenario)
    path = account_path(left / "accounts", 1)
    put_log_into_file(path)
    damage_roots(path, *lost_tables)
    salvaged = repaired(left).salvaged
    assert found_in(left) == {"INBOX": inbox, "Work": work}
    assert salvaged.may_be_old is (1 in inbox)
    assert salvaged.lost == {}


@pytest.mark.parametrize("root", ["thread", "taken", "expunged"])
def test_a_text_that_came_again_is_not_taken_for_the_first_one(tmp_path: Path, root: str) -> None:
    """The first is in the file, or was deleted long ago; the log with the second is lost."""
    running, left = tmp_path / "running", tmp_path / "left"
    running.mkdir()
    make_directory(running, ALICE)

    async def begin(store: Store) -> None:
        for number in (1, 2, 3):
            await store.append(1, item(number, 3000))
        await store.write(1, lambda tx: messages.expunge(tx, 1, [(2, 2)], only_deleted=False))

    async def go_on(store: Store) -> None:
        for number in (1, 2):
            await store.append(1, item(number, 3000))
        await deliver(store, 3, 4)
        await asyncio.to_thread(shutil.copytree, running, left)

    with_store(running, begin)
    with_store(running, go_on)
    path = account_path(left / "accounts", 1)
    Path(f"{path}-wal").unlink()
    damage_roots(path, root)
    repaired(left)
    assert sorted(with_store(left, subjects)) == [1, 1, 2, 3, 3, 4]


def dies_at(nth: int, real: Callable[..., object]) -> Callable[..., object]:
    """A function that works so many times."""
    calls = itertools.count()

    def dies(*arguments: object, **options: object) -> object:
        if next(calls) >= nth:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    return dies


@pytest.mark.parametrize("next_is", ["repair", "start"])
def test_a_repair_that_is_killed_loses_no_log(
    copy: Path, monkeypatch: pytest.MonkeyPatch, next_is: str
) -> None:
    """Wherever that is: the log is there with the old file, or the new file comes."""

    async def go_on(store: Store) -> None:
        await store.write(1, lambda tx: flags.change_flags(tx, 1, [(8, 8)], "+", 2, []))
        await store.append(1, item(50, 3_000_000))
        await asyncio.to_thread(shutil.copytree, copy, killed)

    killed = copy.with_name("killed")
    with_store(copy, go_on)
    assert Path(f"{account_path(killed / 'accounts', 1)}-wal").stat().st_size > 0
    damage_roots(account_path(killed / "accounts", 1), "thread")
    for name in ("replace", "unlink", "mkdir", "rmdir"):
        for nth in range(20):
            folder = copy.with_name(f"{name}-{nth}")
            shutil.copytree(killed, folder)
            with monkeypatch.context() as patch:
                patch.setattr(Path, name, dies_at(nth, getattr(Path, name)))
                is_killed = False
                try:
                    repaired(folder)
                except KeyboardInterrupt:
                    is_killed = True
            if next_is == "repair":
                list(repairing.repair(folder))
            found = with_store(folder, subjects)
            assert 50 in found
            assert flagged(folder) == 3
            if not is_killed:
                break


def test_an_account_that_cannot_be_repaired_keeps_no_other_from_it(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill_second(store: Store) -> None:
        await store.append(2, item(1))

    with_store(copy, fill_second)
    paths = [account_path(copy / "accounts", account) for account in (1, 2)]
    for path in paths:
        damage_roots(path, "rendered")
    before = paths[0].read_bytes()
    real = salvage.salvage

    def fail(source: Path, target: Path, account: int, *rest: object):
        if account == 1:
            raise ValueError("a bug")
        return real(source, target, account, *rest)

    monkeypatch.setattr(salvage, "salvage", fail)
    first, second = repairing.repair(copy)
    assert isinstance(first, repairing.Unrepaired)
    assert (first.address, "nothing was changed" in first.why) == (ALICE, True)
    assert paths[0].read_bytes() == before
    assert isinstance(second, repairing.Repaired)
    assert second.salvaged.saved == 1


def octets_of_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".db", ".db-wal", ".log")
    }


def test_a_look_changes_no_file_and_the_damaged_one_is_kept_as_it_was(tmp_path: Path) -> None:
    """Not even by putting its write-ahead log into it."""
    running, left = tmp_path / "running", tmp_path / "left"
    running.mkdir()
    make_directory(running, ALICE)

    async def scenario(store: Store) -> None:
        for number in range(10):
            await store.append(1, item(number, 3000))
        before = octets_of_files(running)
        assert await asyncio.to_thread(list, check_store(running)) == []
        assert octets_of_files(running) == before
        await asyncio.to_thread(shutil.copytree, running, left)

    with_store(running, scenario)
    path = account_path(left / "accounts", 1)
    damage(path, roots(account_path(running / "accounts", 1))["octets"] - 1, 1)
    with Path(f"{path}-wal").open("r+b") as log:
        log.seek(32 + 24 + 4096 + 2000)
        log.write(b"damage")
    before = octets_of_files(left)
    assert list(check_store(left))
    assert octets_of_files(left) == before
    done = repaired(left)
    assert done.aside is not None
    name = str(path.relative_to(left))
    assert done.aside.read_bytes() == before[name]
    assert Path(f"{done.aside}-wal").read_bytes() == before[f"{name}-wal"]


def test_a_last_page_without_its_octets_is_found(copy: Path) -> None:
    """SQLite reads an overflow page of zeros as a text that ends with NUL octets."""
    for path in copy.glob("journal/*.log"):
        path.unlink()

    async def fill_more(store: Store) -> None:
        for number, size in ((50, 6000), (51, 700_000)):
            text = b"Subject: %d\r\n\r\n%b\r\n" % (number, b"x" * size)
            await store.append(1, Append(1, make_content(text), 0))

    with_store(copy, fill_more)
    path = account_path(copy / "accounts", 1)
    octets = path.read_bytes()
    pages = [number for number in range(len(octets) // 4096) if is_last_page(octets, number)]
    assert len(pages) == 3  # of 50, and of both pieces of 51
    with path.open("r+b") as file:
        for page in (pages[0], pages[-1]):
            file.seek(page * 4096)
            file.write(bytes(4096))
    problems = list(check_store(copy))
    assert len(problems) == 2
    assert all("ends with NUL octets that it had not" in problem for problem in problems)
    done = repaired(copy).salvaged
    assert done.lost == {"INBOX": 2}
    assert not {50, 51} & {*found_in(copy)["INBOX"]}


def is_last_page(octets: bytes, number: int) -> bool:
    page = octets[number * 4096 : (number + 1) * 4096]
    return page.startswith(b"\0\0\0\0xxxxxxxx")


def test_mail_that_was_moved_is_not_taken_for_deleted(copy: Path) -> None:
    """Both leave a row in `expunged`."""
    shutil.rmtree(copy / "journal")
    path = account_path(copy / "accounts", 1)
    damage_pages(path, "message", "message_content")
    done = repaired(copy).salvaged
    found = found_in(copy)
    assert {*found["Recovered"]} >= {*KEPT} - {20, 21, 22}
    assert done.may_be_old


def put_log_into_file(path: Path) -> None:
    connection = apsw.Connection(str(path))
    end = time.monotonic() + 20
    # An answer does not wait for the commit in the file: the journal has it.
    while not connection.execute("SELECT count(*) FROM message").fetchone()[0]:
        assert time.monotonic() < end
        time.sleep(0.01)
    connection.setbusytimeout(20_000)
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
    connection.close()


def test_mail_that_was_only_taken_gets_no_number_that_may_have_been_seen(tmp_path: Path) -> None:
    """The write-ahead log is lost that had them."""
    running, left = tmp_path / "running", tmp_path / "left"
    running.mkdir()
    make_directory(running, ALICE)

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await asyncio.to_thread(put_log_into_file, account_path(running / "accounts", 1))
        await deliver(store, 1, 2)
        assert await subjects(store) == [0, 1, 2]
        await deliver(store, 3)
        await asyncio.to_thread(shutil.copytree, running, left)

    with_store(running, scenario)
    path = account_path(left / "accounts", 1)
    Path(f"{path}-wal").unlink()
    damage(path, roots(account_path(running / "accounts", 1))["octets"] - 1, 1)
    repaired(left)

    async def uids(store: Store) -> list[int]:
        found = await store.read(1, lambda tx: messages.select(tx, 1, [(1, 1 << 31)], ("uid",)))
        return [uid for (uid,) in found]

    assert sorted(with_store(left, subjects)) == [0, 1, 2, 3]
    first, *others = with_store(left, uids)
    assert first == 1, "the journal has it"
    assert min(others) > 4
