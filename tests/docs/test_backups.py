"""The line of the tutorial that makes backups each night and removes old ones, with a command that only seems to."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from pages import ROOT

WEEKS_S = 30 * 86400


def line(folder: Path) -> str:
    """As cron gives it to the shell."""
    page = (ROOT / "docs" / "tutorial" / "real-domain.md").read_text()
    found = re.search(r"^15 3 \* \* \*  (.*)$", page, re.M)
    assert found
    assert "/var/backups/pillarbox" in found[1]
    return found[1].replace("\\%", "%").replace("/var/backups/pillarbox", str(folder))


@pytest.mark.parametrize(
    ("command", "goes"),
    [
        ('mkdir "$2" && touch "$2/manifest.json"', True),
        ('mkdir "$2" && touch "$2/manifest.json"; exit 1', True),  # all but a key of root's
        ("exit 1", False),
    ],
)
def test_old_backups_go_once_there_is_a_new_one(tmp_path: Path, command: str, goes: bool) -> None:
    saved, programs = tmp_path / "saved", tmp_path / "bin"
    old = saved / "old"
    for folder in (old, programs):
        folder.mkdir(parents=True)
    (old / "manifest.json").touch()
    os.utime(old, times=(time.time() - WEEKS_S,) * 2)
    (programs / "pillarbox").write_text(f"#!/bin/sh\n{command}\n")
    (programs / "pillarbox").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    subprocess.run(
        ["/bin/sh", "-c", line(saved)], env={**os.environ, "PATH": path}, check=False, timeout=30
    )
    assert old.exists() != goes
    assert saved.exists()
