"""What `doctor --watch` leaves for the metrics."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.app.canary import (
    LIMITS_S,
    LOCK_NAME,
    NAME,
    Canary,
    only_canary,
    read_canary,
    write_canary,
)
from pillarbox.core.errors import Refused


def test_trips_are_counted_and_their_stages_timed() -> None:
    canary = Canary()
    canary.note(100.0, {"submission": 0.02, "imap": 0.003}, worked=True)
    canary.note(160.0, {"submission": 99.0}, worked=False)
    assert (canary.worked, canary.failed) == (1, 1)
    assert (canary.last_run, canary.last_success) == (160.0, 100.0)
    row = canary.row("submission")
    assert row[LIMITS_S.index(0.025)] == 1
    assert row[-2:] == [1, 99.02]
    assert sum(canary.row("pop3")) == 0


def test_what_was_written_is_read(tmp_path: Path) -> None:
    canary = Canary(60.0)
    canary.note(1.5, {"removal": 0.1}, worked=True)
    write_canary(tmp_path, canary)
    assert read_canary(tmp_path) == canary
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{",
        b"[]",
        b'{"worked": "x"}',
        b"{}" * 100_000,
        b'{"stages":{"\xff":[]}}',
        b'{"x":' + b"[" * 5000,
        b'{"worked": -1}',
        b'{"last_run": 1e300}',
        b'{"every_s": null}',
    ],
)
def test_a_file_that_is_no_good_is_none(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / NAME).write_bytes(octets)
    assert read_canary(tmp_path) == Canary()


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)],
    ids=["pipe", "folder", "link"],
)
def test_what_is_no_file_keeps_nobody_waiting(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe would be read until somebody writes to it; a link leads to somebody else's file."""
    make(tmp_path / NAME)
    assert read_canary(tmp_path) == Canary()


def test_links_lead_to_no_file_that_is_written(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    folder = tmp_path / "data"
    folder.mkdir()
    for name in (NAME, f"{NAME}.new"):
        (folder / name).symlink_to(precious)
    write_canary(folder, Canary(60.0))
    assert precious.read_text() == "precious"
    assert not (folder / NAME).is_symlink()
    (folder / LOCK_NAME).symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic link"), only_canary(folder):
        raise AssertionError
    assert not (tmp_path / "outside").exists()


def test_a_clock_that_was_set_back_hides_no_failure() -> None:
    canary = Canary()
    canary.note(10_000.0, {}, worked=True)
    canary.note(2_800.0, {}, worked=False)
    assert canary.last_run > canary.last_success


def test_figures_that_cannot_be_are_not_added_up() -> None:
    row = Canary(stages={"imap": [1e308] * (len(LIMITS_S) + 2)}).row("imap")
    assert sum(row) == 0


def test_stages_of_another_version_begin_anew() -> None:
    assert sum(Canary(stages={"imap": [1.0, 2.0]}).row("imap")) == 0


def test_there_is_one_at_a_time(tmp_path: Path) -> None:
    with (
        only_canary(tmp_path),
        pytest.raises(Refused, match="another doctor --watch runs"),
        only_canary(tmp_path),
    ):
        raise AssertionError
    with only_canary(tmp_path):
        pass
