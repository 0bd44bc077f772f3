"""A server that root starts: it has its ports, then no rights; a key that only root reads is renewed all the same."""

import datetime
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ports import free_port

from pillarbox.app import rights
from pillarbox.app.keeper import may_exchange, read_by, start_keeper
from pillarbox.certs.private_ca import ensure_certificate
from pillarbox.store import drop

USER = "nobody"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")

END = "-----END CERTIFICATE-----"

CONFIG = """
hostname = "mail.example.test"
data_dir = "data"
user = "nobody"
workers = {workers}
[listen]
imaps = ["127.0.0.1:{port}"]
[tls]
certificate = "secret/host.pem"
key = "secret/host-key.pem"
"""


def make_key(folder: Path, hostname: str) -> bytes:
    """A pair of files that only root reads; the certificate's DER."""
    shutil.rmtree(folder, ignore_errors=True)
    paths = ensure_certificate(folder, hostname, datetime.datetime.now(datetime.UTC))
    for path in (folder, *paths):
        path.chmod(0o700)
    return ssl.PEM_cert_to_DER_cert(paths[0].read_text().split("-----END")[0] + END)


def shown(port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw) as sock,
    ):
        certificate = sock.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where others may go, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="pillarbox-rights-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


class Running:
    def __init__(self, folder: Path, workers: int) -> None:
        self.port = free_port()
        self.certificate = make_key(folder / "secret", "mail.example.test")
        (folder / "pillarbox.toml").write_text(CONFIG.format(workers=workers, port=self.port))
        self.log = folder / "log"
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pillarbox", "serve"], cwd=folder, stderr=file
            )
        end = time.monotonic() + 20
        while "ready\n" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def family(self) -> list[int]:
        """The server's processes, the keeper apart."""
        pids = [self.process.pid, *children(self.process.pid)]
        return [pid for pid in pids if name_of(pid) != "pillarbox-keys"]


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def field(pid: int, name: str) -> list[str]:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\t(.*)$", status, re.M)
    assert found
    return found[1].split()


@pytest.fixture(params=[1, 2])
def running(folder: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    server = Running(folder, request.param)
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def test_all_processes_are_the_users_and_have_no_rights(running: Running) -> None:
    uid = str(pwd.getpwnam(USER).pw_uid)
    family = running.family()
    assert len(family) in (1, 3)
    for pid in family:
        assert field(pid, "Uid") == [uid] * 4
        assert field(pid, "Groups") == []
        assert field(pid, "NoNewPrivs") == ["1"]
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(field(pid, name)[0], 16) == 0
        assert int(field(pid, "CapBnd")[0], 16) == 0


def test_the_keeper_can_only_read(running: Running) -> None:
    (keeper,) = (pid for pid in children(running.process.pid) if name_of(pid) == "pillarbox-keys")
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(field(keeper, name)[0], 16) == 1 << 2  # CAP_DAC_READ_SEARCH
    open_files = {os.readlink(each) for each in Path(f"/proc/{keeper}/fd").iterdir()}
    assert all(each == "/dev/null" or each.startswith("socket:") for each in open_files)
    assert len(open_files) == 2


def test_a_renewed_key_that_only_root_reads_is_taken_up(running: Running, folder: Path) -> None:
    assert shown(running.port) == running.certificate
    renewed = make_key(folder / "secret", "other.example.test")
    running.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while {shown(running.port) for _ in range(8)} != {renewed}:  # 8 connections reach both workers
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_data_belongs_to_the_user_whatever_root_does(running: Running, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pillarbox", "domain", "add", "example.test"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    uid = pwd.getpwnam(USER).pw_uid
    assert {path.stat().st_uid for path in (folder / "data").rglob("*")} == {uid}


def test_roots_commands_work_in_a_folder_that_the_user_cannot_enter(
    running: Running, folder: Path
) -> None:
    """As in root's home, where cron runs a backup: what is read before root becomes the user is not read again."""
    private, saved = folder / "private", folder / "saved"
    private.mkdir(mode=0o700)
    saved.mkdir()
    user = pwd.getpwnam(USER)
    os.chown(saved, user.pw_uid, user.pw_gid)
    text = (folder / "pillarbox.toml").read_text().replace('"data"', f'"{folder}/data"')
    (private / "pillarbox.toml").write_text(text.replace("secret/", f"{folder}/secret/"))

    def command(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pillarbox", *arguments],
            cwd=private,
            input="long enough\n",
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stderr

    assert command("domain", "add", "example.test") == (0, "")
    assert command("account", "add", "alice@example.test", "--password-stdin") == (0, "")
    code, said = command("sql", "alice@example.test", "SELECT uid FROM messages")
    assert (code, said) == (1, "pillarbox: alice@example.test has had no mail yet\n")
    code, said = command("backup", str(saved / "monday"))
    assert code == 1  # the key and this configuration, which only root reads, are named
    assert {line.partition(": ")[0] for line in said.splitlines()} == {"pillarbox"}
    assert all(": not saved: " in line for line in said.splitlines())
    assert (saved / "monday" / "manifest.json").exists()


def test_the_keeper_ends_with_a_killed_server(folder: Path) -> None:
    server = Running(folder, 1)
    (keeper,) = children(server.process.pid)
    server.process.kill()
    server.process.wait()
    end = time.monotonic() + 5
    while Path(f"/proc/{keeper}").exists() and field(keeper, "State")[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_folder_of_somebody_else_is_refused(folder: Path) -> None:
    make_key(folder / "secret", "mail.example.test")
    (folder / "data").mkdir()
    (folder / "pillarbox.toml").write_text(CONFIG.format(workers=1, port=0))
    done = subprocess.run(
        [sys.executable, "-m", "pillarbox", "serve"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert f"chown -R nobody: {folder}/data" in done.stderr


def command(folder: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pillarbox", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


def test_commands_make_the_data_folder_for_the_servers_user_as_serve_does(folder: Path) -> None:
    (folder / "pillarbox.toml").write_text(CONFIG.format(workers=1, port=0))
    folder.chmod(0o755)
    assert command(folder, "domain", "add", "example.test")[0] == 0
    found = (folder / "data").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (pwd.getpwnam(USER).pw_uid, 0o700)
    code, said = command(folder, "backup", str(folder / "saved"))
    assert (code, f"{folder}/saved cannot be made by nobody: " in said) == (1, True)
    assert said.endswith(f"; run first: install -d -o nobody -m 0700 {folder}/saved\n")


def test_why_files_of_somebody_else_cannot_be_used_is_said_with_the_deed(folder: Path) -> None:
    (folder / "pillarbox.toml").write_text(CONFIG.format(workers=1, port=0))
    (folder / "data").mkdir()
    (folder / "data").chmod(0o755)
    code, said = command(folder, "domain", "add", "example.test")
    assert (code, f"run: chown -R nobody: {folder}/data" in said) == (1, True)
    assert "belongs to root" in said
    shutil.rmtree(folder / "data")
    command(folder, "domain", "add", "example.test")
    path = folder / "data" / "directory.db"
    path.chmod(0)
    code, said = command(folder, "domain", "list")
    assert (code, f"{path}: nobody may not read and write it; run: chown" in said) == (1, True)


def test_the_keeper_reads_what_it_was_started_for_and_nothing_else(tmp_path: Path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_bytes(b"x" * 200_000)
    other.write_bytes(b"y")
    found = pwd.getpwnam(USER)
    keeper = start_keeper([key, tmp_path / "missing"], found.pw_uid, found.pw_gid)
    pid = children(os.getpid())[-1]
    assert read_by(keeper, key) == b"x" * 200_000
    with pytest.raises(PermissionError):
        read_by(keeper, other)
    with pytest.raises(FileNotFoundError):
        read_by(keeper, tmp_path / "missing")
    keeper.send(b"no descriptor")  # is no reason to stop
    assert len(read_by(keeper, key)) == 200_000
    keeper.close()
    assert os.waitpid(pid, 0)[1] == 0


def test_the_keeper_waits_for_no_pipe_and_answers_others(tmp_path: Path) -> None:
    """Somebody else put one in the place of a file that is his."""
    key, other = tmp_path / "key", tmp_path / "other"
    other.write_bytes(b"y")
    os.mkfifo(key)
    found = pwd.getpwnam(USER)
    keeper = start_keeper([key, other], found.pw_uid, found.pw_gid)
    pid = children(os.getpid())[-1]
    began = time.monotonic()
    with pytest.raises(OSError, match="no regular file, put one in its place") as caught:
        read_by(keeper, key)
    assert caught.value.filename == str(key)
    assert read_by(keeper, other) == b"y"
    keeper.close()
    assert os.waitpid(pid, 0)[1] == 0
    assert time.monotonic() - began < 5
    with pytest.raises(OSError, match="no regular file"):
        read_by(keeper, key)  # it is gone, so we do it ourselves


@pytest.mark.parametrize(
    ("owned", "is_refused"), [("", False), ("live", True), ("archive", True), ("live/key", False)]
)
def test_the_keeper_reads_nothing_that_the_user_could_exchange(
    tmp_path: Path, owned: str, is_refused: bool
) -> None:
    """As ACME clients have it: the key is a link to that of now. `owned` is the server's user's."""
    found = pwd.getpwnam(USER)
    for name in ("live", "archive"):
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "archive" / "key1").write_bytes(b"x")
    (tmp_path / "archive" / "key1").chmod(0o600)
    (tmp_path / "live" / "key").symlink_to("../archive/key1")
    if owned:
        os.chown(tmp_path / owned, found.pw_uid, found.pw_gid, follow_symlinks=False)
    path = str(tmp_path / "live" / "key")
    assert may_exchange(path, found.pw_uid, found.pw_gid) is is_refused
    (tmp_path / "archive").chmod(0o775)
    os.chown(tmp_path / "archive", 0, found.pw_gid)
    assert may_exchange(path, found.pw_uid, found.pw_gid)
    (tmp_path / "archive").chmod(0o1777)
    assert may_exchange(path, found.pw_uid, found.pw_gid) is (owned == "live")


def test_only_an_empty_folder_is_given_to_the_user_and_nothing_behind_a_link(
    tmp_path: Path,
) -> None:
    user = rights.User(USER)
    for name in ("empty", "full", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("empty", "full"):
        rights.give_empty(tmp_path / name, user)
    with pytest.raises(OSError, match="Not a directory"):
        rights.give_empty(tmp_path / "link", user)
    owners = [(tmp_path / name).stat().st_uid for name in ("empty", "full", "target")]
    assert owners == [user.uid, 0, 0]


def test_root_leaves_mail_that_a_server_of_another_user_can_read(folder: Path) -> None:
    """Nothing in the configuration names that user: it started the server itself."""
    folder.chmod(0o755)
    text = CONFIG.format(workers=1, port=0).replace('user = "nobody"', 'user = ""')
    (folder / "pillarbox.toml").write_text(text)
    found = pwd.getpwnam(USER)
    data = folder / "data"
    drop.make_folder(data / "drop", shared=False)
    for path in (data, data / "drop"):
        os.chown(path, found.pw_uid, found.pw_gid)
    drop.leave(data / "drop", drop.Dropped(["bob@example.test"]), b"Subject: x\r\n\r\n")
    (left,) = (data / "drop").glob("*.mail")
    assert (left.stat().st_uid, left.stat().st_gid) == (0, found.pw_gid)
    assert left.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("first", ["serve", "sendmail"])
def test_a_drop_folder_is_made_for_the_servers_user(folder: Path, first: str) -> None:
    """Where only root may make one, whoever comes first; its files get its group, so that the server can read them."""
    folder.chmod(0o755)
    make_key(folder / "secret", "mail.example.test")
    shared = folder / "spool" / "pillarbox"
    text = CONFIG.format(workers=1, port=0) + f'[sendmail]\ndrop_dir = "{shared}"\n'
    (folder / "pillarbox.toml").write_text(text)
    if first == "serve":
        serve = [sys.executable, "-m", "pillarbox", "serve"]
        server = subprocess.Popen(serve, cwd=folder, stderr=subprocess.PIPE)
        assert server.stderr is not None
        while b"ready\n" not in (line := server.stderr.readline()):
            assert line, "it did not start"
        server.terminate()
        server.communicate(timeout=30)
    typed = subprocess.run(
        [sys.executable, "-m", "pillarbox", "sendmail", "bob@example.test"],
        cwd=folder,
        input=b"Subject: x\n\n",
        capture_output=True,
        timeout=60,
    )
    assert typed.returncode == 0, typed.stderr
    (left,) = shared.glob("*.mail")
    found = shared.stat()
    assert (found.st_uid, found.st_gid) == (pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
    assert found.st_mode & 0o7777 == drop.SHARED_MODE
    assert left.stat().st_gid == found.st_gid


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_stays_root_is_told_of(folder: Path, workers: int) -> None:
    text = CONFIG.format(workers=workers, port=free_port())
    for user in ("", "nobody"):
        shutil.rmtree(folder / "data", ignore_errors=True)
        (folder / "pillarbox.toml").write_text(
            text.partition("[tls]")[0].replace('user = "nobody"', f'user = "{user}"')
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "pillarbox", "serve"],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        log = []
        for line in process.stderr:
            log.append(line)
            if line.endswith("ready\n"):
                break
        checked, doctor = command(folder, "config", "check"), command(folder, "doctor")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        is_root = not user
        assert any("this server stays root" in line for line in log) == is_root, log
        assert checked[0] == 0
        assert ("Note: user is not set: " in checked[1]) == is_root
        assert (", as root\n" in doctor[1]) == is_root
        assert (f"chown -R that user: {folder}/data" in doctor[1]) == is_root


def test_a_drop_folder_with_another_group_gets_ours(folder: Path) -> None:
    """Without the right group the bit that gives files this group is dropped silently."""
    folder.chmod(0o755)
    shared, user = folder / "drop", pwd.getpwnam(USER)
    shared.mkdir()
    os.chown(shared, user.pw_uid, 0)
    code = (
        "import os, sys, pathlib, pillarbox.store.drop as drop\n"
        f"os.setgroups([]); os.setgid({user.pw_gid}); os.setuid({user.pw_uid})\n"
        "drop.make_folder(pathlib.Path(sys.argv[1]), shared=True)\n"
    )
    make = [sys.executable, "-c", code, str(shared)]
    done = subprocess.run(make, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert shared.stat().st_mode & 0o7777 == drop.SHARED_MODE
    assert shared.stat().st_gid == user.pw_gid
    os.chown(shared, 0, 0)
    done = subprocess.run(make, capture_output=True, timeout=60)
    assert f"run: chown nobody: {shared}".encode() in done.stderr
