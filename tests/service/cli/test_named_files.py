"""What the configuration names must be readable by the server's user, whoever asks: root reads everything."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

TOML = """\
hostname = "mail.example.test"
data_dir = "data"
user = "{user}"
[listen]
[oauth]
issuer = "https://login.example.test"
audience = "mail"
jwks = "jwks.json"
[directory]
kind = "http"
url = "http://127.0.0.1:1/"
token_file = "token"
[outbound]
smarthost = "smtp.example.net:465"
smarthost_username = "us"
smarthost_password_file = "of-root/password"
"""

OFFICE = """\
hostname = "mail.example.test"
data_dir = "data"
user = "nobody"
[listen]
[directory]
kind = "python"
class = "office_of_ours:Office"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Which all users may look into."""
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-named-"))
    folder.chmod(0o755)
    (folder / "pillarbox.toml").write_text(TOML.format(user="nobody"))
    (folder / "of-root").mkdir()
    (folder / "of-root").chmod(0o755)  # whatever the umask is
    for name in ("jwks.json", "token", "of-root/password"):
        (folder / name).write_text('{"keys": []}')
        (folder / name).chmod(0o644)
    yield folder
    shutil.rmtree(folder)


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pillarbox", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_files_that_only_root_can_read_are_told(folder: Path) -> None:
    assert run(folder, "config", "check").returncode == 0
    (folder / "jwks.json").chmod(0o600)
    (folder / "token").chmod(0o640)  # nor by the group of root, which root's processes have
    (folder / "of-root").chmod(0o700)
    for command in (("config", "check"), ("serve",)):
        done = run(folder, *command)
        assert done.returncode == 1
        lines = done.stderr.splitlines()
        assert [line.split(": ")[2:4] for line in lines] == [
            ["oauth.jwks", f"{folder}/jwks.json cannot be read"],
            ["directory.token_file", f"{folder}/token cannot be read"],
            ["outbound.smarthost_password_file", f"{folder}/of-root/password cannot be read"],
        ]
        assert all("see that nobody may read it" in line for line in lines)


def test_a_user_who_is_not_there_hides_no_other_fault(folder: Path) -> None:
    (folder / "pillarbox.toml").write_text(TOML.format(user="no-such-user"))
    (folder / "token").unlink()
    first, second = run(folder, "config", "check").stderr.splitlines()
    assert ":3: user: this machine has no user" in first
    assert ":12: directory.token_file: " in second


def test_a_class_in_a_folder_that_only_root_can_read_is_told(folder: Path) -> None:
    (folder / "pillarbox.toml").write_text(OFFICE)
    module = folder / "of-root" / "office_of_ours.py"
    module.write_text(
        "class Office:\n    def __init__(self, settings):\n        pass\n"
        "    def check(self, user):\n        return None\n"
    )
    module.chmod(0o644)
    path = {"PYTHONPATH": str(folder / "of-root"), "PYTHONDONTWRITEBYTECODE": "1"}
    assert run(folder, "config", "check", **path).returncode == 0
    (folder / "of-root").chmod(0o700)
    done = run(folder, "config", "check", **path)
    assert done.returncode == 1
    assert f"it is in {folder}/of-root, which nobody may not look into" in done.stderr


def test_doctor_tells_of_a_token_that_the_user_cannot_read(folder: Path) -> None:
    (folder / "data").mkdir()
    shutil.chown(folder / "data", "nobody")
    (folder / "token").chmod(0o640)
    done = run(folder, "doctor")
    assert "the token for the login service cannot be read ([Errno 13] Permission denied" in (
        done.stdout
    )
