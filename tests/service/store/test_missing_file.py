"""An account's file that is gone, though it was made or the journal has mail for it: no new one takes its place."""

import asyncio
import os
import shutil
import struct
import time
from pathlib import Path

import pytest
from test_intake import deliver, in_file, killed, subjects
from test_store import item, run

from pillarbox.cli.doctor.machine import _accounts
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.store import accounts as account_files
from pillarbox.store import database, journal, made, retirement
from pillarbox.store.accounts import account_path, lock_path
from pillarbox.store.backup import Wanted, back_up
from pillarbox.store.check import check_store
from pillarbox.store.directory import Directory
from pillarbox.store.place import RESTORING, UNFINISHED, Place
from pillarbox.store.repair import Repaired, Unrepaired, repair
from pillarbox.store.restore import Left, restore_accounts, restore_server
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
    (line,) = [line for line in check_store(folder) if "is missing" in line]
    assert line.startswith("lost@example.test: 00000001.db is missing: put the file back, or stop")
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


def test_a_backup_keeps_the_mail_in_its_journal(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    take_away(folder, tmp_path / "elsewhere")
    manifest = back_up(Wanted(folder, []), tmp_path / "backup")
    assert [name for name in manifest.files if "/journal/" in name] != []
    assert caplog.text == ""  # the manifest says what was not saved


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
    (undone,) = repair(folder)  # the disk of all files may only not be there
    assert isinstance(undone, Unrepaired)
    assert "or without a backup `pillarbox check --repair lost@example.test`" in undone.why
    (done,) = repair(folder, ["lost@example.test"])
    assert isinstance(done, Repaired)
    assert done.aside is None
    assert done.problems == ["lost@example.test: 00000001.db is missing"]

    async def after(store: Store) -> None:
        await store.put_left()
        assert in_file(folder, LOST) == 2
        assert await subjects(store, OTHER) == [0, 1]

    run(folder, after)
    assert list(check_store(folder)) == []


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """As a clean stop leaves it: an account that has a message, and one that never had any."""

    async def scenario(store: Store) -> None:
        store.directory.add_domain("example.test")
        for number, name in ((LOST, "lost"), (OTHER, "other")):
            assert store.directory.add_account(f"{name}@example.test", "", "").id == number
        await store.append(LOST, item(0))

    run(tmp_path / "data", scenario)
    return tmp_path / "data"


def test_a_file_that_was_lost_after_a_clean_stop_is_not_made_anew(
    stopped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = take_away(stopped, tmp_path / "elsewhere")
    assert journal.segments(stopped / "journal") == []

    async def without(store: Store) -> None:
        with pytest.raises(Unavailable, match="the mail file is missing"):
            await subjects(store, LOST)
        with pytest.raises(Unavailable, match="the mail file is missing"):
            await store.deliver(LOST, item(1))
        await deliver(store, 1, account=OTHER)  # that never had a file gets one

    run(stopped, without)
    assert caplog.text.count("the mail file of lost@example.test is missing") == 1
    (line,) = check_store(stopped)
    assert line.startswith("lost@example.test: 00000001.db is missing: put the file back, or stop")
    (finding,) = _accounts(stopped, 0.0)
    assert (finding.level, finding.subject) == ("error", "lost@example.test")
    for place, other in moved:
        other.rename(place)

    async def again(store: Store) -> None:
        assert await subjects(store, LOST) == [0]

    run(stopped, again)
    assert list(check_store(stopped)) == []


def test_a_crash_before_a_file_was_made_leaves_nothing_that_is_missing(stopped: Path) -> None:
    path = account_path(stopped / "accounts", OTHER)
    path.parent.mkdir(exist_ok=True)
    lock_path(path).touch()  # all that the crash left
    assert list(check_store(stopped)) == []

    async def scenario(store: Store) -> None:
        await deliver(store, 1, account=OTHER)
        assert await subjects(store, OTHER) == [1]

    run(stopped, scenario)
    path.unlink()
    assert made.is_missing(path)


def test_an_account_that_was_removed_is_not_missing(stopped: Path) -> None:
    remove_account_files(stopped, LOST)
    assert not made.is_missing(account_path(stopped / "accounts", LOST))
    assert list(account_path(stopped / "accounts", LOST).parent.iterdir()) == []


def test_a_new_file_takes_the_place_of_one_that_nobody_has(stopped: Path, tmp_path: Path) -> None:
    take_away(stopped, tmp_path / "elsewhere")
    assert [type(each) for each in repair(stopped)] == [Unrepaired]
    (done,) = repair(stopped, ["lost@example.test"])
    assert isinstance(done, Repaired)
    assert done.salvaged.is_uncounted

    async def after(store: Store) -> None:
        assert await subjects(store, LOST) == []
        await deliver(store, 7, account=LOST)
        assert await subjects(store, LOST) == [7]

    run(stopped, after)
    assert list(check_store(stopped)) == []


def test_what_a_restore_put_back_is_marked(stopped: Path, tmp_path: Path) -> None:
    """Of one account, and of a whole server, where one that was missing still is."""
    manifest = back_up(Wanted(stopped, []), tmp_path / "backup")
    path = account_path(stopped / "accounts", LOST)
    path.unlink()
    os.truncate(stopped / "lock", 0)
    list(restore_accounts(tmp_path / "backup", manifest, stopped, ["lost@example.test"]))
    path.unlink()
    assert made.is_missing(path)
    manifest = back_up(Wanted(stopped, []), tmp_path / "without")
    assert manifest.accounts["lost@example.test"].damage == "its mail file was missing"
    restored = tmp_path / "restored"
    assert restore_server(tmp_path / "without", manifest, restored) == ["lost@example.test"]
    assert made.is_missing(account_path(restored / "accounts", LOST))
    done = list(restore_accounts(tmp_path / "without", manifest, stopped, ["lost@example.test"]))
    why = "the backup has no mail of it: its mail file was missing"
    assert done == [Left("lost@example.test", why)]


@pytest.mark.parametrize("is_mount_point", [True, False])
def test_all_files_gone_is_no_new_server(stopped: Path, is_mount_point: bool) -> None:
    (stopped / "accounts").rename(stopped / "elsewhere")
    if is_mount_point:
        (stopped / "accounts" / "lost+found").mkdir(parents=True)
    for ask in (
        lambda: Store(stopped),
        lambda: list(repair(stopped)),
        lambda: back_up(Wanted(stopped, []), stopped.parent / "backup"),
    ):
        with pytest.raises(Refused, match="and none is there now; mount its file system"):
            ask()
    (finding,) = _accounts(stopped, 0.0)
    assert finding.found.endswith("and none is there now")
    assert finding.advice.startswith("mount its file system")
    everybody = ["lost@example.test", "other@example.test"]  # as the refusal says
    (repaired,) = repair(stopped, everybody)
    assert repaired.address == "lost@example.test"

    async def scenario(store: Store) -> None:
        for account in (LOST, OTHER):
            assert await subjects(store, account) == []

    run(stopped, scenario)


def test_where_all_that_had_files_were_removed_naming_the_others_is_a_way_out(
    stopped: Path,
) -> None:
    remove_account_files(stopped, LOST)
    directory = Directory(stopped / "directory.db", clock=time.time)
    directory.remove_account(LOST)
    directory.close()
    shutil.rmtree(stopped / "accounts")
    with pytest.raises(Refused, match="none is there now"):
        Store(stopped)
    assert list(repair(stopped, ["other@example.test"])) == []

    async def scenario(store: Store) -> None:
        assert await subjects(store, OTHER) == []

    run(stopped, scenario)


def test_what_a_first_run_made_is_noted(tmp_path: Path) -> None:
    async def nothing(_store: Store) -> None:
        assert (tmp_path / "lock").stat().st_size == 0

    async def scenario(store: Store) -> None:
        await deliver(store, 1, account=OTHER)

    run(tmp_path, nothing)
    run(tmp_path, nothing)  # no account had mail, so nothing can be gone
    run(tmp_path, scenario)
    inode = account_path(tmp_path / "accounts", OTHER).stat().st_ino
    assert (tmp_path / "lock").read_bytes() == b"inodes 1" + struct.pack("<2Q", 0, inode)


def test_a_restore_into_a_folder_whose_mail_is_gone_begins_anew(
    stopped: Path, tmp_path: Path
) -> None:
    path = account_path(stopped / "accounts", LOST)
    remove_account_files(stopped, LOST)
    manifest = back_up(Wanted(stopped, []), tmp_path / "backup")
    assert not any(account.file for account in manifest.accounts.values())
    assert path.parent.exists()
    for entry in stopped.iterdir():
        if entry.name != "lock":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    restore_server(tmp_path / "backup", manifest, stopped)

    async def nothing(_store: Store) -> None:
        pass

    run(stopped, nothing)


def test_what_a_killed_restore_left_goes_at_the_next_start(stopped: Path) -> None:
    (stopped / UNFINISHED / "accounts").mkdir(parents=True)

    async def scenario(store: Store) -> None:
        assert await subjects(store, LOST) == [0]

    run(stopped, scenario)
    assert not (stopped / UNFINISHED).exists()


def two_accounts(store: Store) -> None:
    store.directory.add_domain("example.test")
    for number, name in ((LOST, "lost"), (OTHER, "other")):
        assert store.directory.add_account(f"{name}@example.test", "", "").id == number


@pytest.mark.parametrize("is_all", [True, False])
def test_folders_that_go_under_a_server_are_not_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_all: bool
) -> None:
    """Of two workers, the first has the account's file open. Mail that was taken stays in the journal."""
    data = tmp_path / "data"
    gone = data / "accounts" / ("" if is_all else account_path(Path(), LOST).parent)

    async def scenario(store: Store) -> None:
        two_accounts(store)
        await deliver(store, 1, account=LOST)
        assert await subjects(store, LOST) == [1]
        if not is_all:
            await deliver(store, 0, account=OTHER)
        second = Store(data, place=Place(2, 2, is_first=False, lock=os.dup(store._lock)))
        gone.rename(tmp_path / "elsewhere")
        await deliver(store, 2, account=LOST)
        await store.catch_up(LOST)
        for each in (store, second):
            with pytest.raises(Unavailable, match="the mail file is missing"):
                await each.deliver(LOST, item(3))
            with pytest.raises(Unavailable, match="the mail file is missing"):
                await subjects(each, LOST)
        if is_all:  # nor is there a place for one that never had a file
            with pytest.raises(Unavailable, match="the mail file is missing"):
                await store.deliver(OTHER, item(4))
        await second.close()
        assert not gone.exists()

    run(data, scenario)
    assert len(journal.segments(data / "journal")) == 1
    words = "and none is there now" if is_all else "the mail file of lost@example.test is missing"
    assert caplog.text.count(words) == 2  # by each worker, of however many accounts
    (tmp_path / "elsewhere").rename(gone)

    async def again(store: Store) -> None:
        assert await subjects(store, LOST) == [1, 2]

    run(data, again)
    assert list(check_store(data)) == []


def test_a_file_that_is_back_in_its_place_is_used_again(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        two_accounts(store)
        await deliver(store, 1, account=LOST)
        assert await subjects(store, LOST) == [1]
        moved = take_away(tmp_path, tmp_path / "elsewhere")
        await deliver(store, 2, account=LOST)
        await store.catch_up(LOST)
        for place, other in moved:
            other.rename(place)
        assert await subjects(store, LOST) == [1, 2]

    run(tmp_path, scenario)
    assert journal.segments(tmp_path / "journal") == []


def test_no_other_file_takes_the_place_of_one_that_was_in_use(tmp_path: Path) -> None:
    """Nor with a worker that had it not open. What was put into that one would be lost: the journal stays for it."""
    data, path = tmp_path / "data", account_path(tmp_path / "data" / "accounts", LOST)

    async def empty(store: Store) -> None:
        two_accounts(store)
        assert await subjects(store, LOST) == []

    async def scenario(store: Store) -> None:
        await deliver(store, 1, account=LOST)
        assert await subjects(store, LOST) == [1]
        take_away(data, tmp_path / "elsewhere")
        (tmp_path / "copy.db").rename(path)
        second = Store(data, place=Place(2, 2, is_first=False, lock=os.dup(store._lock)))
        for each in (second, store):
            with pytest.raises(Unavailable, match="the mail file was replaced"):
                await each.write(LOST, lambda _tx: None)
            with pytest.raises(Unavailable, match="the mail file was replaced"):
                await subjects(each, LOST)
        await second.close()

    run(data, empty)
    shutil.copyfile(path, tmp_path / "copy.db")
    run(data, scenario)
    assert len(journal.segments(data / "journal")) == 1

    async def again(store: Store) -> None:
        assert await subjects(store, LOST) == [1]

    run(data, again)


def test_a_file_without_its_lock_file_is_still_known_to_be_missing(stopped: Path) -> None:
    path = account_path(stopped / "accounts", LOST)
    path.unlink()
    lock_path(path).unlink()
    assert made.is_missing(path)

    async def scenario(store: Store) -> None:
        with pytest.raises(Unavailable, match="the mail file is missing"):
            await subjects(store, LOST)

    run(stopped, scenario)


def test_files_without_a_mark_get_one_at_the_start(stopped: Path) -> None:
    (stopped / "lock").write_bytes(b"\0" + b"\1" * 90)  # of an older version
    (stopped / "accounts" / "ff").mkdir()
    (stopped / "accounts" / "ff" / "ffffffff.db").touch()  # nobody's

    async def nothing(_store: Store) -> None:
        pass

    run(stopped, nothing)
    inode = account_path(stopped / "accounts", LOST).stat().st_ino
    assert (stopped / "lock").read_bytes() == b"inodes 1" + struct.pack("<Q", inode)


@pytest.mark.parametrize("is_link", [False, True])
def test_a_lock_that_cannot_be_used_is_told(stopped: Path, is_link: bool) -> None:
    lock = lock_path(account_path(stopped / "accounts", LOST))
    lock.unlink()
    if is_link:
        lock.symlink_to("/nonexistent/lock")
        why = f"{lock} is a link to nothing: see what put it there, and remove it"
    else:
        lock.mkdir()
        why = f"{lock} is a folder, and should be a file: see what put it there, and move it away"
    assert list(check_store(stopped)) == [f"lost@example.test: it takes no mail: {why}"]
    (finding,) = _accounts(stopped, 0.0)
    assert (finding.subject, finding.found) == ("lost@example.test", why)

    async def scenario(store: Store) -> None:
        with pytest.raises(Unavailable) as failure:
            await store.deliver(LOST, item(1))
        assert failure.value.told == why

    run(stopped, scenario)


def test_a_restore_that_was_killed_at_its_very_end_says_that_it_is_done(
    stopped: Path, tmp_path: Path
) -> None:
    manifest = back_up(Wanted(stopped, []), tmp_path / "backup")
    restored = tmp_path / "restored"
    restore_server(tmp_path / "backup", manifest, restored)
    (restored / RESTORING).mkdir()  # all that was left to do
    with pytest.raises(Refused, match=r"came to its end before, .*: start the server"):
        restore_server(tmp_path / "backup", manifest, restored)

    async def scenario(store: Store) -> None:
        assert await subjects(store, LOST) == [0]

    run(restored, scenario)
