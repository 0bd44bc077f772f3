"""A journal that is damaged loses what stands there and nothing else, and somebody hears of it."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_intake import deliver, killed, subjects
from test_several_workers import run as run_workers
from test_several_workers import second, take_and_be_killed, uids
from test_store import item, run

from pillarbox.cli.doctor.machine import _accounts
from pillarbox.core.errors import Unavailable
from pillarbox.store import journal
from pillarbox.store.check import check_store
from pillarbox.store.lacking import find_lacking
from pillarbox.store.store import Store


def leave_unclean(tmp_path: Path, numbers: Sequence[int]) -> Path:
    """A folder whose journal alone has these messages of account 1, and one of account 2."""
    folder = tmp_path / "data"

    async def scenario(store: Store) -> None:
        for account in (1, 2):
            await store.append(account, item(0))
        for number in numbers:
            await store.deliver(1, item(number))
        await deliver(store, 9, account=2)
        killed(folder, tmp_path / "killed")

    run(folder, scenario)
    return tmp_path / "killed"


def flip(path: Path, subject: int) -> None:
    """One bit of the message with this subject."""
    octets = bytearray(path.read_bytes())
    octets[octets.index(b"Subject: %d\r\n" % subject)] ^= 4
    path.write_bytes(octets)


def only_segment(folder: Path) -> Path:
    (path,) = journal.segments(folder / "journal")
    return path


def test_one_damaged_record_takes_no_other_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = leave_unclean(tmp_path, [1, 2, 3])
    path = only_segment(folder)
    flip(path, 2)
    octets = path.read_bytes()
    assert any("is damaged" in line for line in check_store(folder))

    async def after(store: Store) -> None:
        assert await subjects(store) == [0, 1, 3]
        assert await subjects(store, 2) == [0, 9]

    run(folder, after)
    run(folder, after)
    (kept,) = journal.kept_aside(folder)
    assert kept.read_bytes() == octets
    assert [line for line in caplog.text.splitlines() if str(kept) in line] != []
    assert caplog.text.count("octets of the journal are damaged") == 1
    assert journal.segments(folder / "journal") == []
    (finding,) = _accounts(folder, 0.0)
    assert finding.subject == str(kept)
    assert "may be lost" in finding.found
    kept.unlink()
    (finding,) = _accounts(folder, 0.0)
    assert finding.level == "ok"


def test_a_lost_first_line_takes_no_record(tmp_path: Path) -> None:
    folder = leave_unclean(tmp_path, [1, 2, 3])
    path = only_segment(folder)
    path.write_bytes(b"pillarbox jouxnal" + path.read_bytes()[17:])

    async def after(store: Store) -> None:
        assert await subjects(store) == [0, 1, 2, 3]

    run(folder, after)
    assert len(journal.kept_aside(folder)) == 1


def test_a_torn_end_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = leave_unclean(tmp_path, [1, 2, 3])
    flip(only_segment(folder), 9)  # of account 2, and the last

    async def after(store: Store) -> None:
        assert await subjects(store) == [0, 1, 2, 3]
        assert await subjects(store, 2) == [0]

    run(folder, after)
    assert journal.kept_aside(folder) == []
    assert caplog.text == ""


def test_a_cut_journal_is_told_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = leave_unclean(tmp_path, [1, 2, 3])
    path = only_segment(folder)
    octets = path.read_bytes()
    cut = octets.index(b"Subject: 2\r\n")
    os.truncate(path, cut)
    assert any("is damaged" in line for line in check_store(folder))

    async def after(store: Store) -> None:
        assert await subjects(store) == [0, 1]

    run(folder, after)
    (kept,) = journal.kept_aside(folder)
    assert kept.read_bytes() == octets[:cut]
    assert caplog.text.count("octets of the journal are damaged or missing") == 1
    (finding,) = _accounts(folder, 0.0)
    assert finding.subject == str(kept)


@pytest.mark.parametrize("octets", [b"", bytes(4096), journal.MAGIC])
def test_a_journal_that_was_just_being_made_is_no_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, octets: bytes
) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1-000001.log").write_bytes(octets)

    async def after(store: Store) -> None:
        await store.append(1, item(0))

    run(tmp_path, after)
    assert journal.kept_aside(tmp_path) == []
    assert caplog.text == ""


def test_a_full_disk_leaves_no_journal_that_looks_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_some(descriptor: int, offset: int, size: int) -> None:
        os.ftruncate(descriptor, offset + size // 2 + 1)
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "1-000001.log"
    file = journal.RealFiles().open(path)
    file.allocate(journal.ALLOCATION_OCTETS)
    file.write(0, [journal.MAGIC])
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", give_some)
        with pytest.raises(OSError, match="No space left"):
            file.allocate(2 * journal.ALLOCATION_OCTETS)
    file.close()
    assert path.stat().st_size == journal.ALLOCATION_OCTETS
    assert journal.read_file(path).lost_octets == 0


def test_a_journal_that_cannot_be_removed_is_told_at_the_start_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = leave_unclean(tmp_path, [1])

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(Unavailable, match=r"journal/1-.* cannot be used: Read-only file"):
            Store(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, *_, **__: Path(path) != folder / "journal")
        with pytest.raises(Unavailable, match=r"/journal: its mode keeps .* out; run: chmod -R"):
            Store(folder)

    async def after(store: Store) -> None:
        assert await subjects(store) == [0, 1]

    run(folder, after)


def test_the_damaged_journal_of_a_killed_worker_is_kept_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(stores: list[Store]) -> None:
        await take_and_be_killed(tmp_path, [1, 2, 3])
        (path,) = journal.segments(tmp_path / "journal", "2")
        octets = bytearray(path.read_bytes())
        records = journal.read_segment(bytes(octets)).records
        octets[octets.index(records[-2].octets)] ^= 4
        path.write_bytes(octets)
        async with second(tmp_path) as again:
            await again.put_left()
            found = [len(await uids(stores[0], account)) for account in (1, 2, 3)]
            assert sorted(found) == [1, 2, 2]
        assert journal.segments(tmp_path / "journal", "2") == []
        assert len(journal.kept_aside(tmp_path)) == 1

    run_workers(tmp_path, scenario)
    assert caplog.text.count("octets of the journal are damaged") == 1


@pytest.mark.parametrize("is_late", [False, True], ids=["in the journal only", "in the file too"])
@pytest.mark.parametrize("deed", ["copied", "renamed", "copied for another worker"])
def test_a_segment_at_the_wrong_place_neither_doubles_nor_loses_mail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, deed: str, is_late: bool
) -> None:
    folder = tmp_path / "data"

    async def scenario(store: Store) -> None:
        await store.append(1, item(0))
        await deliver(store, 1, 2, 3)
        if is_late:
            await subjects(store)
        await deliver(store, 4)
        killed(folder, tmp_path / "killed")

    run(folder, scenario)
    folder = tmp_path / "killed"
    path = only_segment(folder)
    name = "1-000009.log" if deed == "copied" else "3-000001.log"
    place = path.with_name(name)
    if deed == "renamed":
        path.rename(place)
    else:
        place.write_bytes(path.read_bytes())

    async def after(store: Store) -> None:
        assert await subjects(store) == [0, 1, 2, 3, 4]

    run(folder, after)
    run(folder, after)
    assert ("5 messages that another" in caplog.text) == (deed != "renamed")
    assert list(find_lacking(folder)) == []
