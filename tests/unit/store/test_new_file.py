"""What is made anew is never what a link leads to."""

import os
from pathlib import Path

from pillarbox.store.new_file import open_new


def test_a_new_file_takes_the_place_of_a_link(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "new"
    target.write_text("kept")
    path.symlink_to(target)
    with open(open_new(path), "wb") as file:
        file.write(b"x")
    assert target.read_text() == "kept"
    assert path.read_bytes() == b"x"
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    os.close(open_new(path))
    assert path.read_bytes() == b""
