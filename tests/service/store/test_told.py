"""Errors of files: clients hear little, the administrator which file, why, and what to do."""

from pathlib import Path

import apsw
import pytest

from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.store import database
from pillarbox.store.accounts import account_path
from pillarbox.store.directory import Directory
from pillarbox.store.lacking import find_unusable
from pillarbox.store.published import query


def read_all(path: Path) -> None:
    directory = Directory(path, clock=lambda: 0)
    try:
        directory.domains()
        directory.accounts()
    finally:
        directory.close()


def test_a_damaged_directory_is_named_wherever_the_damage_is(tmp_path: Path) -> None:
    path = tmp_path / "directory.db"
    directory = Directory(path, clock=lambda: 0)
    directory.add_domain("example.org")
    directory.close()
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\xff" * (len(octets) - 4096)
    path.write_bytes(octets)
    with pytest.raises(Unavailable) as failure:
        read_all(path)
    assert failure.value.told.startswith(
        f"{path} is damaged; stop the server, move directory.db away"
    )


def test_clients_hear_no_path(tmp_path: Path) -> None:
    path = account_path(tmp_path, 1)
    path.parent.mkdir(parents=True)
    for cause in (apsw.CorruptError("x"), apsw.CantOpenError("x"), apsw.BusyError("x")):
        failure = database.unavailable(cause, path)
        assert str(path) in failure.told
        assert str(tmp_path) not in failure.text
        assert path.name not in failure.text


def test_a_file_that_cannot_be_opened_for_lack_of_room_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1.db"
    error = apsw.CantOpenError("unable to open database file")
    assert not isinstance(database.unavailable(error, path), DiskFull)
    monkeypatch.setattr(database, "LEAST_ROOM_OCTETS", 1 << 62)
    failure = database.unavailable(error, path)
    assert isinstance(failure, DiskFull)
    assert failure.told == f"{path}: the disk is full: make room where {tmp_path} is"


def test_files_that_cannot_be_opened_are_found_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for account, octets in ((1, b""), (2, b"no database" * 1000)):
        path = account_path(tmp_path / "accounts", account)
        path.parent.mkdir(parents=True, exist_ok=True)
        if octets:
            path.write_bytes(octets)
        else:
            database.create(path, "account")
    assert dict(find_unusable(tmp_path, (1, 2, 3))) == {2: ""}

    def refuse(path: Path) -> apsw.Connection:
        raise apsw.CantOpenError("unable to open database file")

    monkeypatch.setattr(database, "open_to_read", refuse)
    found = dict(find_unusable(tmp_path, (1,)))
    assert str(account_path(tmp_path / "accounts", 1)) in found[1]


def test_a_folder_in_the_place_of_a_file_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "1.db"
    path.mkdir()
    with pytest.raises(Unavailable) as failure, query(path, "SELECT uid FROM messages"):
        pass
    assert "1.db is a folder, and should be a file" in failure.value.told
    assert "chmod" not in failure.value.told
