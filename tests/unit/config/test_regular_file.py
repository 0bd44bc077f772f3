"""Nothing but a regular file is read where the configuration names one, and nobody waits for it."""

import os
import socket
from pathlib import Path

import pytest

from pillarbox.config.regular_file import MOST_OCTETS, read_regular, read_secret


def test_a_file_is_read_whole_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"x" * MOST_OCTETS)
    (tmp_path / "link").symlink_to("key")
    assert read_regular(tmp_path / "link") == b"x" * MOST_OCTETS
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "missing")


def test_what_is_no_regular_file_is_told_at_once_with_its_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("pipe", "folder", "zero", "socket"):
            with pytest.raises(OSError, match="no regular file, put one in its place") as caught:
                read_regular(tmp_path / name)
            assert caught.value.filename == str(tmp_path / name)


def test_what_is_too_large_is_told(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="more than 1000000 octets"):
        read_regular(tmp_path / "large")


def test_a_path_with_a_nul_is_told() -> None:
    with pytest.raises(OSError, match="no path has a NUL"):
        read_regular(Path("a\0b"))


@pytest.mark.parametrize("octets", [b"", b"\r\n", b"p\xe4ss", b"one\ntwo\n", b"a\0b", b" "])
def test_a_secret_is_one_line_of_utf8(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "secret").write_bytes(octets)
    with pytest.raises(OSError, match="must be one line of UTF-8"):
        read_secret(tmp_path / "secret")
    (tmp_path / "secret").write_bytes("p\u00e4ss w\u00f6rd \r\n".encode())
    assert read_secret(tmp_path / "secret") == "p\u00e4ss w\u00f6rd "
