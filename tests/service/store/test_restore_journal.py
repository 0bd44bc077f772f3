"""A restore of an account while the journal has mail for it: what the file that comes back has not is there, once."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from people import ALICE, BOB, make_directory
from test_backup import append, put_back, save, with_store
from test_intake import deliver, subjects
from test_store import item

from pillarbox.store import intake, mailboxes, messages
from pillarbox.store.accounts import account_path
from pillarbox.store.check import check_store
from pillarbox.store.recovery import UIDS_SKIPPED
from pillarbox.store.restore import restore_file
from pillarbox.store.store import Store
from pillarbox.store.tx import Tx

Scenario = Callable[[Store], Awaitable[object]]


def killed(folder: Path, scenario: Scenario) -> Path:
    """The folder of a server that is killed behind a scenario."""
    left = folder.parent / f"{folder.name}-killed"

    async def until_killed(store: Store) -> None:
        await scenario(store)
        shutil.copytree(folder, left)

    with_store(folder, until_killed)
    assert list((left / "journal").iterdir())
    return left


def lose(folder: Path, account: int = 1) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{account_path(folder / 'accounts', account)}{end}").unlink(missing_ok=True)


def place(folder: Path, name: str, account: int = 1) -> list[int]:
    def look(tx: Tx) -> list[int]:
        box = mailboxes.get(tx, (name,))
        rows = messages.select(tx, box.id, [(1, messages.MOST_UIDS)], ("subject",))
        return [int(subject) for (subject,) in rows]

    found: list[int] = with_store(folder, lambda store: store.read(account, look))
    return found


async def fill(store: Store) -> None:
    """0 and 1 are delivered, 2 and 3 appended, 4 and 5 to Archive, and 6 to one that is new."""
    await deliver(store, 0, 1)
    await append(store, 2, 3)
    archive = await store.read(1, lambda tx: mailboxes.get(tx, ("Archive",)))
    for number in (4, 5):
        await store.append(1, item(number, mailbox=archive.id))
    new = await store.write(1, lambda tx: mailboxes.create(tx, ("Projects",)))
    await store.append(1, item(6, mailbox=new.id))


def ensure_all_once(folder: Path, *, before: list[int]) -> None:
    for _ in range(2):  # also behind a further start
        assert sorted(place(folder, "INBOX")) == sorted([*before, 0, 1, 2, 3, 6])
        assert place(folder, "Archive") == [4, 5]
    assert list(check_store(folder)) == []


def test_all_that_came_since_the_backup_is_there(data: Path) -> None:
    with_store(data, lambda store: append(store, 9))
    target = save(data)
    left = killed(data, fill)
    lose(left)
    (done,) = put_back(target, left, ALICE)
    assert done.recovered == 7
    ensure_all_once(left, before=[9])


def test_an_account_that_was_restored_since_the_backup(data: Path) -> None:
    with_store(data, lambda store: append(store, 9))
    target = save(data)
    put_back(target, data, ALICE)
    left = killed(data, fill)
    lose(left)
    put_back(target, left, ALICE)
    ensure_all_once(left, before=[9])


@pytest.mark.parametrize("changes", [0, UIDS_SKIPPED - 20, UIDS_SKIPPED - 5, UIDS_SKIPPED])
def test_a_backup_that_skipped_numbers(data: Path, changes: int) -> None:
    """It was made while a worker held what it had taken: the copy got that under numbers of its own. Then flags were
    changed."""

    async def scenario(store: Store) -> None:
        await append(store, 9)
        await deliver(store, 8)
        await asyncio.to_thread(save, data)
        await store.write(
            1, lambda tx: tx.execute("UPDATE account_state SET modseq = modseq + ?", (changes,))
        )
        await fill(store)

    left = killed(data, scenario)
    lose(left)
    (done,) = put_back(data.parent / "backup", left, ALICE)
    assert done.recovered == 7
    ensure_all_once(left, before=[8, 9])


def test_what_the_backup_had_and_lost_stays_away(data: Path) -> None:
    async def scenario(store: Store) -> None:
        await append(store, 0, 1)
        await deliver(store, 2, 3)
        assert await subjects(store) == [0, 1, 2, 3]
        await store.write(
            1, lambda tx: messages.expunge(tx, 1, [(1, 1), (3, 3)], only_deleted=False)
        )
        await asyncio.to_thread(save, data)
        await append(store, 4)

    left = killed(data, scenario)
    lose(left)
    (done,) = put_back(data.parent / "backup", left, ALICE)
    assert done.recovered == 1
    assert place(left, "INBOX") == [1, 3, 4]


def test_a_restore_that_is_done_again_puts_nothing_in_twice(data: Path) -> None:
    with_store(data, lambda store: append(store, 9))
    target = save(data)
    left = killed(data, fill)
    lose(left)
    put_back(target, left, ALICE)
    (again,) = put_back(target, left, ALICE)
    assert again.recovered == 7
    assert again.aside is not None
    done = restore_file(again.aside, left, ALICE)  # that of the first one, which has all
    assert done.recovered == 0
    ensure_all_once(left, before=[9])


def test_messages_with_the_same_text_are_all_there(data: Path) -> None:
    with_store(data, lambda store: append(store, 9))
    target = save(data)
    left = killed(data, lambda store: append(store, 1, 1, 1))
    lose(left)
    put_back(target, left, ALICE)
    assert place(left, "INBOX") == [9, 1, 1, 1]


@pytest.mark.parametrize("is_in_file", [False, True], ids=["taken", "in-its-file"])
def test_the_file_of_another_account_hides_nothing_of_the_journal(
    data: Path, monkeypatch: pytest.MonkeyPatch, is_in_file: bool
) -> None:
    """A worker counts what it takes for all accounts."""
    monkeypatch.setattr(intake, "WAIT_S", 60.0)

    async def scenario(store: Store) -> None:
        await append(store, 20, account=2)
        await deliver(store, 21, 22, account=2)
        await deliver(store, *range(10))
        assert await subjects(store) == list(range(10))
        if is_in_file:
            assert len(await subjects(store, account=2)) == 3

    left = killed(data, scenario)
    spare = left / "aside"
    spare.mkdir()
    file = spare / "00000001-20261128T110009Z.db"
    for end in ("", "-wal"):
        source = Path(f"{account_path(left / 'accounts', 1)}{end}")
        if source.exists():
            shutil.copyfile(source, f"{file}{end}")
    done = restore_file(file, left, BOB)
    assert done.recovered == 3
    assert sorted(place(left, "INBOX", account=2)) == [*range(10), 20, 21, 22]
    assert place(left, "INBOX") == list(range(10))


def test_an_account_with_another_number_gets_its_own_journal(data: Path, tmp_path: Path) -> None:
    """The same address on a server where the backup's number is somebody else's."""
    with_store(data, lambda store: append(store, 0, 1))
    target = save(data)
    other = tmp_path / "other"
    other.mkdir()
    make_directory(other, BOB, ALICE)
    left = killed(other, lambda store: append(store, 2, account=2))
    (done,) = put_back(target, left, ALICE)
    assert done.recovered == 1
    assert place(left, "INBOX", account=2) == [0, 1, 2]
