"""An account's file that is gone, though the journal has mail for it: no new one takes its place, the mail stays."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from test_intake import deliver, in_file, killed, subjects
from test_store import item, run

from pillarbox.cli.doctor.machine import _accounts
from pillarbox.core.errors import Unavailable
from pillarbox.store import accounts as account_files
from pillarbox.store import database, journal, retirement
from pillarbox.store.accounts import account_path
from pillarbox.store.backup import Wanted, back_up
from pillarbox.store.check import check_store
from pillarbox.store.directory import Directory
from pillarbox.store.repair import Repaired, repair
from pillarbox.store.store import Store, remove_account_files

LOST, OTHER = 1, 2


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again soon."""
    monkeypatch.setattr(retirement, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(retirement, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(account_files, "RETRY_S", 0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As a kill leaves it: the journal alone has a message that was taken for each of two accounts."""

    async def scenario(store: Store) -> None:
        store.directory.add_domain("example.test")
        for number, name in ((LOST, "lost"), (OTHER, "other")):
            assert store.directory.add_account(f"{name}@example.test", "", "").id == number
            await store.append(number, item(0))
            await deliver(store, 1, account=number)
        killed(tmp_path / "data", tmp_path / "killed")

    run(tmp_path / "data", scenario)
    return tmp_path / "killed"


def take_away(folder: Path, target: Path) -> list[tuple[Path, Path]]:
    """Move the file, and its log, elsewhere; what was where."""
    path = account_path(folder / "accounts", LOST)
    target.mkdir()
    moved = []
    for end in ("", "-wal", "-shm"):
        if (name := Path(f"{path}{end}")).exists():
            moved.append((name, target / name.name))
            os.rename(*moved[-1])
    return moved


async def until_retired(folder: Path) -> None:
    """All of the journal is in its files."""
    deadline = time.monotonic() + 20
    while left := journal.segments(folder / "journal"):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.02)


def test_the_mail_stays_until_the_file_is_back(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = take_away(folder, tmp_path / "elsewhere")

    async def without(store: Store) -> None:
        await store.put_left()
        for _ in range(2):
            with pytest.raises(Unavailable, match="the mail file is missing") as failure:
                await subjects(store, LOST)
            assert failure.value.code == database.DAMAGED_CODE
            with pytest.raises(Unavailable, match="the mail file is missing"):
                await store.deliver(LOST, item(2))
            await asyncio.sleep(0.1)
        assert await subjects(store, OTHER) == [0, 1]
        await deliver(store, 2, account=OTHER)

    run(folder, without)
    assert caplog.text.count("the mail file of lost@example.test is missing") == 1
    assert not account_path(folder / "accounts", LOST).exists()
    assert len(journal.segments(folder / "journal")) == 1
    lines = [line for line in check_store(folder) if "is missing" in line]
    assert lines == [
        "lost@example.test: 00000001.db is missing, though the journal has mail for it"
    ]
    (finding,) = _accounts(folder, 0.0)
    assert (finding.level, finding.subject) == ("error", "lost@example.test")
    assert "pillarbox restore BACKUP lost@example.test" in finding.advice

    async def again(store: Store) -> None:
        """It is back while the server runs."""
        await store.put_left()
        for place, other in moved:
            other.rename(place)
        await until_retired(folder)
        assert await subjects(store, LOST) == [0, 1]
        assert await subjects(store, OTHER) == [0, 1, 2]

    run(folder, again)
    assert list(check_store(folder)) == []


def test_a_backup_keeps_the_mail_in_its_journal(folder: Path, tmp_path: Path) -> None:
    take_away(folder, tmp_path / "elsewhere")
    manifest = back_up(Wanted(folder, []), tmp_path / "backup")
    assert [name for name in manifest.files if "/journal/" in name] != []


def test_mail_of_an_account_that_was_removed_goes(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pillarbox.store")
    directory = Directory(folder / "directory.db", clock=lambda: 0)
    directory.remove_account(LOST)
    directory.close()
    remove_account_files(folder, LOST)

    async def after(store: Store) -> None:
        assert await subjects(store, OTHER) == [0, 1]

    run(folder, after)
    assert "account 1 was removed, and with it 2 messages in the journal" in caplog.text
    assert not account_path(folder / "accounts", LOST).exists()
    assert journal.segments(folder / "journal") == []


def test_a_removed_account_ends_the_wait_for_its_file(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pillarbox.store")
    take_away(folder, tmp_path / "elsewhere")

    async def after(store: Store) -> None:
        await store.put_left()
        assert len(journal.segments(folder / "journal")) == 1
        store.directory.remove_account(LOST)
        await until_retired(folder)

    run(folder, after)
    assert "account 1 was removed, and with it 1 messages in the journal" in caplog.text
    assert not account_path(folder / "accounts", LOST).exists()


def test_a_segment_of_this_process_stays_while_a_file_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows then what of it is on the disk."""

    async def scenario(store: Store) -> None:
        store.directory.add_domain("example.test")
        assert store.directory.add_account("lost@example.test", "", "").id == LOST
        await store.append(LOST, item(0))
        take_away(tmp_path, tmp_path / "elsewhere")

    run(tmp_path, scenario)
    assert len(journal.segments(tmp_path / "journal")) == 1
    assert "the mail file of lost@example.test is missing" in caplog.text


def test_who_has_no_backup_gets_a_new_file_from_the_journal(folder: Path, tmp_path: Path) -> None:
    take_away(folder, tmp_path / "elsewhere")
    assert list(repair(folder)) == []  # the disk of all files may only not be there
    (done,) = repair(folder, ["lost@example.test"])
    assert isinstance(done, Repaired)
    assert done.aside is None
    assert done.problems == [
        "lost@example.test: 00000001.db is missing, though the journal has mail for it"
    ]

    async def after(store: Store) -> None:
        await store.put_left()
        assert in_file(folder, LOST) == 2
        assert await subjects(store, OTHER) == [0, 1]

    run(folder, after)
    assert list(check_store(folder)) == []
