"""A backup holds what was acknowledged before it began; what is restored has new numbers, but POP3's unique ids."""

import asyncio
import errno
import json
import os
import shutil
import sqlite3
import stat
import time
from contextlib import closing, nullcontext
from pathlib import Path

import apsw
import pytest
from people import ALICE, BOB, make_directory
from test_intake import deliver, in_file, subjects
from test_store import item

from pillarbox.core.errors import Refused, Unavailable
from pillarbox.store import backup, mailboxes, messages
from pillarbox.store.accounts import account_path
from pillarbox.store.backup import Wanted, back_up
from pillarbox.store.check import check_store
from pillarbox.store.directory import Directory
from pillarbox.store.manifest import read_manifest
from pillarbox.store.repair import Repaired, repair
from pillarbox.store.restore import (
    Left,
    Replacement,
    restore_accounts,
    restore_file,
    restore_server,
)
from pillarbox.store.store import Store
from pillarbox.trace.recorder import Recorder


def save(data: Path, *addresses: str):
    target = data.parent / "backup"
    back_up(Wanted(data, [], addresses, settle_s=0), target)
    return target


def put_back(target: Path, data: Path, *addresses: str):
    return list(restore_accounts(target, read_manifest(target), data, addresses))


def whole(target: Path) -> Path:
    restored = target.parent / "restored"
    assert restore_server(target, read_manifest(target), restored) == []
    assert list(check_store(restored)) == []
    return restored


def with_store(folder: Path, scenario):
    async def go():
        store = Store(folder)
        try:
            return await scenario(store)
        finally:
            await store.close()

    return asyncio.run(go())


async def append(store: Store, *numbers: int, account: int = 1) -> None:
    for number in numbers:
        await store.append(account, item(number))


async def inbox(store: Store, account: int = 1) -> mailboxes.Mailbox:
    return await store.read(account, lambda tx: mailboxes.by_id(tx, mailboxes.INBOX))


def damage(path: Path, first_page: int = 3, pages: int = 4) -> None:
    with path.open("r+b") as file:
        file.seek(first_page * 4096)
        file.write(os.urandom(pages * 4096))


def test_a_backup_of_a_running_server_has_what_was_taken_and_is_in_no_file(data: Path) -> None:
    async def scenario(store: Store) -> Path:
        await append(store, 0)
        await deliver(store, 1, 2)
        assert in_file(data) == 1
        return await asyncio.to_thread(save, data)

    restored = whole(with_store(data, scenario))
    assert with_store(restored, subjects) == [0, 1, 2]


def test_what_was_only_in_the_journal_is_there_once(data: Path) -> None:
    async def scenario(store: Store) -> Path:
        await append(store, 0)
        await deliver(store, 1)
        await subjects(store)  # puts it into the file; the journal has it, too
        await deliver(store, 2)
        return await asyncio.to_thread(save, data)

    target = with_store(data, scenario)
    assert not (target / "data" / "journal").exists()
    assert with_store(whole(target), subjects) == [0, 1, 2]


def test_mail_that_comes_during_a_backup_harms_nothing(data: Path) -> None:
    async def scenario(store: Store) -> tuple[Path, int]:
        await append(store, *range(50))
        saving = asyncio.create_task(asyncio.to_thread(save, data))
        number = 50
        while not saving.done():
            await deliver(store, number)
            await append(store, number, account=2)
            number += 1
            await asyncio.sleep(0)
        return await saving, number

    target, number = with_store(data, scenario)
    found = with_store(whole(target), subjects)
    assert found == list(range(len(found)))
    assert 50 <= len(found) <= number


def test_a_backup_is_private_and_has_no_search_index(data: Path) -> None:
    with_store(data, lambda store: append(store, 0))
    (data / "tls").mkdir()
    (data / "tls" / "key.pem").write_text("secret")
    account_path(data / "accounts", 1).with_suffix(".idx").write_bytes(b"x")
    target = save(data)
    for parent, _, names in os.walk(target):
        assert stat.S_IMODE(os.stat(parent).st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE((Path(parent) / name).stat().st_mode) == 0o600
    names = set(read_manifest(target).files)
    assert {"data/directory.db", "data/queue.db", "data/tls/key.pem"} <= names
    assert not any(name.endswith((".idx", ".lock", "-wal", "-shm")) for name in names)
    assert sorted(path.name for path in target.iterdir()) == [
        "configuration",
        "data",
        "manifest.json",
    ]


def test_a_folder_with_something_in_it_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "mine").touch()
    with pytest.raises(Refused, match="is not empty"):
        save(data)
    assert (tmp_path / "backup" / "mine").exists()
    with pytest.raises(Refused, match="within the data folder"):
        back_up(Wanted(data, []), data / "backup")


def test_a_backup_that_was_killed_is_repeated_into_the_same_folder(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_store(data, lambda store: append(store, 0))
    target = data.parent / "backup"
    for name in ("describe", "write_manifest"):
        with monkeypatch.context() as patch:
            for clearing in ("_clear", "suppress"):  # nothing is cleared by one that is killed
                patch.setattr(backup, clearing, lambda *_: nullcontext())
            patch.setattr(backup, name, lambda *_: 1 / 0)
            patch.setattr(Path, "rmdir", lambda _path: None)
            with pytest.raises(ZeroDivisionError):
                save(data)
        assert (target / ".unfinished").exists()
        (target / "mine").touch()
        with pytest.raises(Refused, match="is not empty"):
            save(data)
        (target / "mine").unlink()
        assert with_store(whole(save(data)), subjects) == [0]
        assert sorted(path.name for path in target.iterdir()) == [
            "configuration",
            "data",
            "manifest.json",
        ]
        with pytest.raises(Refused, match="is not empty"):
            save(data)
        shutil.rmtree(target)
        shutil.rmtree(data.parent / "restored")


def test_two_backups_into_one_folder_do_not_clear_each_other(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_store(data, lambda store: append(store, 0))
    describe = backup.describe
    told = []

    def describe_late(path: Path):
        if not told:
            told.append(path)
            with pytest.raises(Refused, match="another backup is being written"):
                save(data)
        return describe(path)

    monkeypatch.setattr(backup, "describe", describe_late)
    assert with_store(whole(save(data)), subjects) == [0]
    assert told


def test_a_full_disk_leaves_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_store(data, lambda store: append(store, 0))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name, replacement in (
        ("copy_database", full),
        ("write_manifest", full),
        ("describe", full),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(backup, name, replacement)
            with pytest.raises(Unavailable, match="No space left on device; nothing is left"):
                save(data)
        assert not (data.parent / "backup").exists()
    (data.parent / "backup").mkdir()
    monkeypatch.setattr(backup, "copy_database", full)
    with pytest.raises(Unavailable):
        save(data)
    assert list((data.parent / "backup").iterdir()) == []


def test_all_account_files_that_cannot_be_read_are_counted(data: Path) -> None:
    others = [f"user{number}@example.org" for number in range(7)]
    directory = Directory(data / "directory.db", clock=time.time)
    for address in others:
        directory.add_account(address, "", "")
    directory.close()
    with_store(data, lambda store: append(store, 1))
    unreadable = [account_path(data / "accounts", number) for number in range(3, 10)]
    for path in unreadable[:1]:
        path.mkdir(parents=True)  # SQLite cannot open it, whoever runs this
    with pytest.raises(Unavailable) as failure:
        save(data)
    assert failure.value.text.startswith(f"{unreadable[0]} cannot be read: ")
    for path in unreadable[1:]:
        path.mkdir(parents=True)
    with pytest.raises(Unavailable) as failure:
        save(data)
    first, *lines, last = failure.value.text.splitlines()
    assert first == "7 files cannot be read, so nothing was saved:"
    assert [line.partition(" ")[0] for line in lines] == [
        str(path) for path in unreadable[: backup.MOST_NAMED]
    ]
    assert last == "... and 2 more"
    assert not (data.parent / "backup").exists()


def test_a_folder_that_cannot_be_read_is_named_and_not_the_target(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "tls").mkdir()
    folders = Path.iterdir

    def iterdir(path: Path):
        if path == data / "tls":
            raise PermissionError(13, "Permission denied", str(path))
        return folders(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    target = save(data)
    assert read_manifest(target).left_out == [f"{data / 'tls'} cannot be read by this user"]
    shutil.rmtree(target)
    exists = Path.exists

    def denied(path: Path) -> bool:
        if path.parent.parent == data / "accounts":
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", denied)
    with pytest.raises(Unavailable, match=r"accounts/.* cannot be read by this user, so nothing"):
        save(data)


def test_clients_see_new_uidvalidities_and_the_unique_ids_of_before(data: Path) -> None:
    async def before(store: Store):
        await append(store, 0, 1)
        return await inbox(store)

    async def after(store: Store):
        await append(store, 2)
        uidls = await store.read(
            1, lambda tx: messages.select(tx, mailboxes.INBOX, [(1, 1 << 31)], ("uid", "uidl"))
        )
        return await inbox(store), [uidl for _, uidl in uidls]

    old = with_store(data, before)
    new, uidls = with_store(whole(save(data)), after)
    assert new.uidvalidity > old.uidvalidity  # RFC 3501 §2.3.1.1
    assert uidls == [f"{old.uidvalidity:08x}{uid:08x}" for uid in (1, 2)] + [None]  # RFC 1939 §7


def test_one_account_goes_back_and_the_others_stay(data: Path) -> None:
    async def first(store: Store) -> None:
        await append(store, 0)
        await append(store, 0, account=2)

    async def second(store: Store):
        await append(store, 1)
        await append(store, 1, account=2)
        made = await store.write(1, lambda tx: mailboxes.create(tx, ("New",)))
        return made.uidvalidity, made.id

    async def third(store: Store):
        made = await store.write(1, lambda tx: mailboxes.create(tx, ("Newer",)))
        everything = await store.read(1, mailboxes.all_mailboxes)
        return await subjects(store), await subjects(store, 2), made.id, everything

    with_store(data, first)
    target = save(data)
    uidvalidity, mailbox = with_store(data, second)
    (replaced,) = put_back(target, data, ALICE)
    assert isinstance(replaced, Replacement)
    mine, others, newer, everything = with_store(data, third)
    assert (mine, others) == ([0], [0, 1])
    assert newer > mailbox  # RFC 8474 §4.1: never given again
    assert all(each.uidvalidity > uidvalidity for each in everything)
    assert replaced.aside is not None
    connection = apsw.Connection(str(replaced.aside))
    assert connection.execute("SELECT count(*) FROM message").fetchone() == (2,)
    assert list(check_store(data)) == []


def test_a_file_that_is_in_no_use_becomes_that_of_an_account(data: Path) -> None:
    """What came after a backup, or the mail of an account whose row is lost; and it stays where it is."""

    async def fill(store: Store) -> None:
        await append(store, 0, 1)
        await append(store, 5, account=2)
        await store.share(1, mailboxes.INBOX, 2, "=", "lr")

    with_store(data, fill)
    file = data.parent / "00000001-20261128T110009Z.db"
    account_path(data / "accounts", 1).rename(file)
    done = restore_file(file, data, BOB)
    assert done.aside is not None
    assert with_store(data, lambda store: subjects(store, 2)) == [0, 1]
    directory = Directory(data / "directory.db", clock=time.time)
    assert not directory.shares(2, 2)
    directory.close()
    assert restore_file(file, data, ALICE).aside is None
    assert with_store(data, subjects) == [0, 1]
    assert list(check_store(data)) == []
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM octets WHERE content = 1")
        connection.commit()
    (problem,) = restore_file(file, data, ALICE).problems
    assert "has lost its text" in problem
    damage(file)
    with pytest.raises(
        Refused, match="is damaged; if a repair put it there, what could be read of"
    ):
        restore_file(file, data, ALICE)
    with pytest.raises(Refused, match="is not the mail file of an account"):
        restore_file(data / "directory.db", data, ALICE)


def test_a_backup_of_one_account_has_no_other_and_no_keys(data: Path) -> None:
    async def fill(store: Store) -> None:
        await append(store, 0)
        await append(store, 0, account=2)

    with_store(data, fill)
    target = save(data, BOB)
    assert list(read_manifest(target).files) == ["data/accounts/02/00000002.db"]
    with pytest.raises(Refused, match="single accounts only"):
        restore_server(target, read_manifest(target), data.parent / "restored")
    with pytest.raises(Refused, match="no account alice"):
        put_back(target, data, ALICE)
    put_back(target, data, BOB)
    with pytest.raises(Refused, match="no account carol"):
        back_up(Wanted(data, [], ["carol@example.org"]), data.parent / "other")


def test_a_running_server_is_told_to_stop(data: Path) -> None:
    with_store(data, lambda store: append(store, 0))
    target = save(data)

    async def scenario(_store: Store) -> None:
        with pytest.raises(Refused, match=r"a server runs on .* stop it first"):
            put_back(target, data, ALICE)

    with_store(data, scenario)


def test_a_changed_backup_is_refused(data: Path) -> None:
    with_store(data, lambda store: append(store, 0))
    target = save(data)
    damage(target / "data" / "accounts" / "01" / "00000001.db", 0, 1)
    restored = data.parent / "restored"
    with pytest.raises(Refused, match=r"accounts/01/00000001\.db is not as it was written"):
        restore_server(target, read_manifest(target), restored)
    assert not restored.exists()
    with pytest.raises(Refused, match="is not as it was written"):
        put_back(target, data, ALICE)
    assert with_store(data, subjects) == [0]
    (target / "manifest.json").unlink()
    with pytest.raises(Refused, match="it is no backup"):
        read_manifest(target)


def test_a_manifest_names_nothing_outside(data: Path) -> None:
    target = save(data)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["files"]["data/../../x"] = {"size": 0, "sha256": ""}
    (target / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Refused, match="outside of the backup"):
        read_manifest(target)


def test_a_data_folder_in_use_is_not_restored_over(data: Path) -> None:
    target = save(data)
    (data / "mine").touch()
    has = r"it has domains in directory\.db, accounts in directory\.db, mine: .* like: mv "
    with pytest.raises(Refused, match=has):
        restore_server(target, read_manifest(target), data)
    with_store(data, lambda store: append(store, 0))
    with pytest.raises(Refused, match=r"it has files in accounts/, domains in directory\.db"):
        restore_server(target, read_manifest(target), data)


def test_what_a_server_left_in_an_empty_folder_makes_way_for_a_restore(
    data: Path, tmp_path: Path
) -> None:
    """It was started, or commands were, while the disk was not mounted."""
    target = save(data)
    empty = tmp_path / "empty"
    (empty / "tls").mkdir(parents=True)
    (empty / "tls" / "key.pem").write_text("new")
    (empty / "doctor.json").write_text("{}")
    (empty / "lost+found").mkdir()

    async def do_nothing(_store: Store) -> None: ...

    with_store(empty, do_nothing)
    assert restore_server(target, read_manifest(target), empty) == []
    assert (empty / "lost+found").is_dir()
    (kept,) = (empty / "aside").iterdir()
    assert (kept / "tls" / "key.pem").read_text() == "new"
    assert {"directory.db", "queue.db", "doctor.json"} <= {path.name for path in kept.iterdir()}
    directory = Directory(empty / "directory.db", clock=time.time)
    assert directory.account(ALICE) is not None
    directory.close()


def test_a_damaged_account_is_told_of_and_the_others_are_saved(data: Path) -> None:
    async def fill(store: Store) -> None:
        for account in (1, 2):
            await append(store, *range(30), account=account)

    with_store(data, fill)
    damage(account_path(data / "accounts", 1))
    target = save(data)
    manifest = read_manifest(target)
    assert manifest.accounts[ALICE].damage
    assert not manifest.accounts[BOB].damage
    left, done = put_back(target, data, ALICE, BOB)
    assert isinstance(left, Left)
    assert (left.address, left.why[:37]) == (ALICE, "its file is damaged in the backup, to")
    assert isinstance(done, Replacement)
    assert done.address == BOB
    restored = data.parent / "restored"
    assert restore_server(target, manifest, restored) == [ALICE]
    assert with_store(restored, lambda store: subjects(store, 2)) == list(range(30))


@pytest.mark.parametrize("pages", [(0, 6), (17, 1)], ids=["first pages", "schema"])
def test_a_damaged_file_is_saved_as_it_stands_with_its_log(
    data: Path, tmp_path: Path, pages: tuple[int, int]
) -> None:
    """A repair of what was restored finds what one on the spot does."""
    left = tmp_path / "left"
    with_store(data, lambda store: append(store, *range(30)))

    async def scenario(store: Store) -> None:
        await append(store, 30)
        await asyncio.to_thread(shutil.copytree, data, left)

    with_store(data, scenario)
    path = account_path(left / "accounts", 1)
    damage(path, *pages)

    def octets(folder: Path) -> dict[str, bytes]:
        names = (path.name, f"{path.name}-wal")
        return {name: (folder / name).read_bytes() for name in names}

    before = octets(path.parent)
    target = save(left)
    assert read_manifest(target).accounts[ALICE].damage
    assert before == octets(path.parent) == octets(target / "data" / "accounts" / "01")
    restored = tmp_path / "restored"
    assert restore_server(target, read_manifest(target), restored) == [ALICE]
    for folder in (left, restored):
        (done,) = repair(folder)
        assert isinstance(done, Repaired)
        assert done.salvaged.saved + done.salvaged.from_journal + done.salvaged.recovered == 31


def test_an_account_that_was_made_anew_gets_its_old_mail(data: Path, tmp_path: Path) -> None:
    with_store(data, lambda store: append(store, 0))
    target = save(data)
    other = tmp_path / "other"
    other.mkdir()
    make_directory(other, BOB, ALICE)

    async def share_is_gone(store: Store) -> list[int]:
        return await subjects(store, 2)

    put_back(target, other, ALICE)
    assert with_store(other, share_is_gone) == [0]
    assert list(check_store(other)) == []


def test_no_account_gets_the_number_of_one_that_was_made_after_the_backup(data: Path) -> None:
    """Else whoever is made after the directory was put back would have the mail of that one."""
    with_store(data, lambda store: append(store, 0))
    target = save(data)
    directory = Directory(data / "directory.db", clock=time.time)
    later = directory.add_account("carol@example.org", "", "")
    directory.close()
    with_store(data, lambda store: append(store, 0, account=later.id))
    shutil.copy(target / "data" / "directory.db", data / "directory.db")
    for folder in (data, whole(target)):
        directory = Directory(folder / "directory.db", clock=time.time)
        made = directory.add_account("dave@example.org", "", "")
        directory.close()
        assert made.id > later.id
    assert with_store(data, lambda store: subjects(store, made.id)) == []


def test_a_share_is_kept_for_those_who_are_still_there(data: Path, tmp_path: Path) -> None:
    async def share(store: Store) -> None:
        await store.share(1, mailboxes.INBOX, 2, "=", "lr")

    with_store(data, share)
    target = save(data)
    other = tmp_path / "other"
    other.mkdir()
    make_directory(other, ALICE, "mallory@example.org")
    for folder, kept in ((data, True), (other, False)):
        put_back(target, folder, ALICE)
        directory = Directory(folder / "directory.db", clock=time.time)
        assert directory.shares(1, 2) is kept
        directory.close()
        connection = apsw.Connection(str(account_path(folder / "accounts", 1)))
        assert connection.execute("SELECT count(*) FROM acl WHERE grantee = 2").fetchone() == (
            kept,
        )
        connection.close()


def test_mail_that_a_damaged_file_did_not_take_is_in_the_restored_one(
    data: Path, tmp_path: Path
) -> None:
    async def fill(store: Store) -> Path:
        await append(store, 0)
        target = await asyncio.to_thread(save, data)
        await append(store, 1)
        await deliver(store, 2)
        shutil.copytree(data, tmp_path / "killed")  # as a kill leaves it
        return target

    target = with_store(data, fill)
    killed = tmp_path / "killed"
    path = account_path(killed / "accounts", 1)
    for name in (f"{path}-wal", f"{path}-shm"):
        Path(name).unlink(missing_ok=True)
    path.write_bytes(os.urandom(40_000))

    async def start(store: Store) -> None:
        with pytest.raises(Unavailable):
            await subjects(store)

    with_store(killed, start)  # the journal stays
    (replaced,) = put_back(target, killed, ALICE)
    assert isinstance(replaced, Replacement)
    assert replaced.recovered == 2
    assert with_store(killed, subjects) == [0, 1, 2]
    assert with_store(killed, subjects) == [0, 1, 2]


def test_the_trace_hears_where_mail_of_the_journal_is_after_a_restore(
    data: Path, tmp_path: Path
) -> None:
    queue_id = "0123456789ABCDEF"

    async def fill(store: Store) -> Path:
        await append(store, 0, 1)
        target = await asyncio.to_thread(save, data)
        prefix = b"Received: by mail.example.org with ESMTP id %s;\r\n" % queue_id.encode()
        await store.deliver(1, item(2, prefix=prefix, queue_id=queue_id))
        await deliver(store, 3)
        shutil.copytree(data, tmp_path / "killed")
        return target

    target = with_store(data, fill)
    killed = tmp_path / "killed"
    for name in account_path(killed / "accounts", 1).parent.glob("*.db*"):
        name.unlink()
    (replaced,) = put_back(target, killed, ALICE)
    assert isinstance(replaced, Replacement)
    assert replaced.recovered == len(replaced.filed) == 2
    recorder = Recorder(is_on=True)
    replaced.tell(recorder)
    (line,) = recorder.take()[0]
    _at, (_tag, *fields) = json.loads(line)
    connection = apsw.Connection(str(account_path(killed / "accounts", 1)))
    sql = "SELECT uid, (SELECT uidvalidity FROM mailbox WHERE mailbox = 1) FROM message ORDER BY uid DESC"
    _last, (uid, uidvalidity), *_ = connection.execute(sql).fetchall()
    assert fields == [f"1.1.{uidvalidity}", "INBOX", [[queue_id, uid]]]
