"""Files of the data folder that belong to root, where the server runs as another user: whose they are, what to do."""

import asyncio
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ports import free_port

from pillarbox.certs.private_ca import ensure_certificate
from pillarbox.core.dates import pack_date
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

CONFIG = """
hostname = "mail.example.test"
data_dir = "data"
user = "nobody"
[listen]
smtp = ["127.0.0.1:{port}"]
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A server's, which ran as nobody and was stopped; with one account that has mail."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))  # nobody may not look into pytest's
    made.chmod(0o755)
    (made / "pillarbox.toml").write_text(CONFIG.format(port=free_port()))
    (made / "data").mkdir(mode=0o700)
    asyncio.run(fill(made / "data"))
    now = datetime.datetime.now(datetime.UTC)
    ensure_certificate(made / "data" / "tls", "mail.example.test", now)
    shutil.chown(made / "data", "nobody", "nogroup")
    for parent, folders, names in os.walk(made / "data"):
        for name in (*folders, *names):
            shutil.chown(Path(parent) / name, "nobody", "nogroup")
    yield made
    shutil.rmtree(made)


async def fill(data: Path) -> None:
    store = Store(data)
    store.directory.add_domain("example.test")
    account = store.directory.add_account("alice@example.test", "", "").id
    await store.append(
        account, Append(1, make_content(b"Subject: x\r\n\r\nx\r\n"), pack_date(1_790_000_000))
    )
    await store.close()


def pillarbox(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pillarbox", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def take(path: Path) -> str:
    """Make it root's; what undoes that."""
    path.chmod(0o700)
    shutil.chown(path, "root", "root")
    return f"run: chown {'-R ' if path.is_dir() else ''}nobody: {path}"


@pytest.mark.parametrize("name", ["journal", "journal/1-000001.log", "accounts"])
def test_a_server_that_could_take_no_mail_does_not_start(folder: Path, name: str) -> None:
    path = folder / "data" / name
    if path.suffix:
        path.touch()
    deed = take(path)
    for command in ("serve", "check"):
        code, out = pillarbox(folder, command)
        assert code == 1
        assert out.endswith(
            f"pillarbox: {path} belongs to root, and nobody may not use it; {deed}\n"
        )


def test_a_folder_of_mail_files_that_is_roots_is_told(folder: Path) -> None:
    deed = take(account_path(folder / "data" / "accounts", 1).parent)
    for command in ("check", "doctor"):
        code, out = pillarbox(folder, command)
        assert code == 1
        assert deed in out


def test_a_mail_file_that_is_roots_is_told(folder: Path) -> None:
    path = account_path(folder / "data" / "accounts", 1)
    take(path)
    code, out = pillarbox(folder, "check")
    assert code == 1
    assert f"nobody may not read and write it; run: chown nobody: {path}" in out


def test_a_key_of_our_own_that_is_roots_is_told(folder: Path) -> None:
    deed = take(folder / "data" / "tls" / "host-key.pem")
    code, out = pillarbox(folder, "serve")
    assert code == 1
    assert deed in out


@pytest.mark.parametrize("name", ["queue.lock", ".replacing"])
def test_what_keeps_a_server_from_starting_is_told_in_a_line(folder: Path, name: str) -> None:
    path = folder / "data" / name
    path.touch() if path.suffix == ".lock" else path.mkdir()
    take(path)
    code, out = pillarbox(folder, "serve")
    assert (code, "Traceback" in out) == (1, False)
    assert out.splitlines()[-1].startswith(f"pillarbox: {path}")
    assert f"{path}; " in out or f"nobody: {path}" in out
    assert f"nobody: {path}" in pillarbox(folder, "check")[1]


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_files_and_folders_that_only_some_mail_needs_are_told_with_all_else(
    folder: Path, command: str
) -> None:
    """A folder for large messages, and the lock of an account."""
    data = folder / "data"
    (data / "spool").mkdir(exist_ok=True)
    lock = account_path(data / "accounts", 1).with_suffix(".lock")
    deeds = [take(data / "spool"), take(lock).removeprefix("run: ")]
    code, out = pillarbox(folder, command)
    assert code == 1
    for deed in deeds:
        assert deed in out
