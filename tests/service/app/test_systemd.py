"""A server under systemd: what it says (sd_notify(3)), sockets that it is given (sd_listen_fds(3)), its unit."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pillarbox.app.systemd import Manager, find_manager, take_passed
from pillarbox.app.unit_files import UnitNames, service_unit, socket_unit
from pillarbox.config.schema import Config, Listen, Sendmail
from pillarbox.core.errors import Refused

CONFIG = """
hostname = "mail.example.test"
data_dir = "data"
workers = {workers}
[listen]
imaps = ["127.0.0.1:0"]
"""

AS_SYSTEMD = """
import os, sys
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.execv(sys.executable, [sys.executable, "-P", "-m", "pillarbox", "serve"])
"""
"""Gives the descriptor as the first passed one to what runs with the same pid."""

Start = Callable[..., subprocess.Popen[bytes]]


class Heard:
    """A socket for notifications."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(20)

    def until(self, line: str) -> list[str]:
        """All lines up to the datagram that has this one."""
        lines: list[str] = []
        while line not in lines:
            lines += self.socket.recv(4096).decode().split("\n")
        return lines

    def ended(self, quiet_s: float, within_s: float) -> bool:
        """Whether nothing comes for so long."""
        end = time.monotonic() + within_s
        self.socket.settimeout(quiet_s)
        while time.monotonic() < end:
            try:
                self.socket.recv(4096)
            except TimeoutError:
                return True
        return False


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    heard = Heard(tmp_path)
    yield heard
    heard.socket.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def start(workers: int, passed: socket.socket, **environment: str) -> subprocess.Popen[bytes]:
        (tmp_path / "pillarbox.toml").write_text(CONFIG.format(workers=workers))
        process = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, str(passed.fileno())],
            cwd=tmp_path,
            env={**os.environ, **environment},
            pass_fds=[passed.fileno()],
            stderr=(tmp_path / "log").open("ab"),
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize("workers", [1, 2])
def test_it_says_what_it_does(
    start: Start, heard: Heard, listening: socket.socket, workers: int
) -> None:
    process = start(workers, listening, NOTIFY_SOCKET=str(heard.path), WATCHDOG_USEC="600000")
    lines = heard.until("READY=1")
    assert lines[0].startswith("STATUS=")
    assert f"MAINPID={process.pid}" in lines
    assert any(line.startswith("STATUS=serves imaps") for line in lines)
    begun = time.monotonic()
    for _ in range(4):
        heard.until("WATCHDOG=1")
    assert time.monotonic() - begun < 3
    process.send_signal(signal.SIGHUP)
    lines = heard.until("READY=1")
    reloading = lines.index("RELOADING=1")
    assert lines[reloading + 1].startswith("MONOTONIC_USEC=")
    process.terminate()
    heard.until("STOPPING=1")
    assert process.wait(20) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_the_watchdog_goes_hungry_when_an_event_loop_stands(
    start: Start, heard: Heard, listening: socket.socket, workers: int
) -> None:
    process = start(workers, listening, NOTIFY_SOCKET=str(heard.path), WATCHDOG_USEC="600000")
    heard.until("WATCHDOG=1")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    stopped = int(children[-1]) if workers > 1 else process.pid
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert heard.ended(2.0, within_s=15)
    finally:
        os.kill(stopped, signal.SIGCONT)


@pytest.mark.parametrize("workers", [1, 2])
def test_who_connects_while_it_starts_again_waits_and_is_served(
    start: Start, heard: Heard, listening: socket.socket, workers: int, tmp_path: Path
) -> None:
    names = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "imap", "NOTIFY_SOCKET": str(heard.path)}
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        clients = [socket.create_connection(listening.getsockname(), timeout=20) for _ in range(4)]
        process = start(workers, listening, **names)
        for client in clients:
            assert client.recv(4096).startswith(b"* OK")
            client.close()
        heard.until("READY=1")
        process.send_signal(end)
        process.wait(20)
        # Workers whose supervisor was killed still accept for a moment: they have gone once the lock is free.
        with next(tmp_path.rglob("lock")).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    port = listening.getsockname()[1]
    assert f"imap listens on 127.0.0.1:{port}" in log


def test_two_workers_share_what_comes_to_one_socket(
    start: Start, heard: Heard, listening: socket.socket, tmp_path: Path
) -> None:
    (tmp_path / "nt.py").write_text("raise SystemExit('imported from the current folder')")
    start(2, listening, LISTEN_FDS="1", LISTEN_FDNAMES="imap", NOTIFY_SOCKET=str(heard.path))
    heard.until("READY=1")
    clients = [socket.create_connection(listening.getsockname(), timeout=20) for _ in range(20)]
    for client in clients:
        assert client.recv(4096).startswith(b"* OK")
    deadline = time.monotonic() + 20
    held: list[int] = []
    while sum(held) < 20 and time.monotonic() < deadline:
        status = [sys.executable, "-P", "-m", "pillarbox", "status", "--json"]
        report = json.loads(subprocess.check_output(status, cwd=tmp_path))
        held = [worker["connections"].get("imap", 0) for worker in report["workers"]]
    assert sum(held) == 20
    assert min(held) >= 8, "both may look at the same moment, and one gives while the other keeps"
    for client in clients:
        client.close()


def test_a_socket_without_the_name_of_a_service_is_refused(
    start: Start, listening: socket.socket, tmp_path: Path
) -> None:
    process = start(1, listening, LISTEN_FDS="1", LISTEN_FDNAMES="web")
    assert process.wait(20) == 1
    assert "set FileDescriptorName= to one of smtp, " in (tmp_path / "log").read_text()


def test_sockets_for_another_process_are_not_ours() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "imap"}
    assert take_passed(environment) == {}
    assert environment == {}, "what we start must not think they are its own"


def test_an_abstract_socket_is_reached_and_a_deaf_one_hurts_nobody() -> None:
    name = f"pillarbox-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        environment = {"NOTIFY_SOCKET": f"@{name}"}
        manager = find_manager(environment)
        assert environment == {}
        manager.ready("x")
        assert listener.recv(100).startswith(b"READY=1\nSTATUS=x\n")
    manager.ready("y")
    manager.close()
    deaf = Manager("/nonexistent/notify")
    deaf.stopping()
    deaf.close()


CONFIGURED = Config(
    "mail.example.test", "/var/lib/pillarbox", listen=Listen(imaps=["0.0.0.0:993", "[::]:993"])
)


def test_a_unit_names_what_stands_where() -> None:
    names = UnitNames(Path("/opt/bin/pillarbox"), Path("/etc/pillarbox/pillarbox.toml"))
    text = service_unit(CONFIGURED, names)
    assert "ExecStart=/opt/bin/pillarbox --config /etc/pillarbox/pillarbox.toml serve\n" in text
    assert "User=pillarbox\n" in text
    assert "ReadWritePaths=/var/lib/pillarbox\n" in text
    assert "@PROGRAM" not in text
    assert names.notes(CONFIGURED) == []
    (note,) = UnitNames(Path("/home/ann/bin/pillarbox"), Path("/etc/x")).notes(CONFIGURED)
    assert note.startswith("/home/ann/bin/pillarbox is in a home folder, which the unit hides")
    hidden = Config("mail.example.test", "/var/tmp/x", sendmail=Sendmail("/home/ann/drop"))
    data, drop = names.notes(hidden)
    assert data.startswith("/var/tmp/x is in a folder for what is temporary, which the unit hides")
    assert drop.startswith("/home/ann/drop is in a home folder")
    for bad in ("/opt/my mail/pillarbox", "/opt/%h", "/opt/a\nExecStartPre=/bin/x"):
        with pytest.raises(Refused):
            service_unit(CONFIGURED, UnitNames(Path(bad), Path("/etc/x")))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_sandbox_of_the_unit_is_tight(tmp_path: Path) -> None:
    """`systemd-analyze security` says OK: below 2.5 of 10."""
    unit = tmp_path / "pillarbox.service"
    unit.write_text(service_unit(CONFIGURED, UnitNames(Path("/bin/true"), Path("/etc/hostname"))))
    (tmp_path / "pillarbox-imaps.socket").write_text(socket_unit("imaps", CONFIGURED.listen.imaps))
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=24", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    for name in ("pillarbox.service", "pillarbox-imaps.socket"):
        verified = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        ours = [line for line in verified.stderr.splitlines() if str(tmp_path) in line]
        assert not ours


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give capabilities"
)
def test_what_systemd_gives_to_its_user_is_given_up() -> None:
    """A port below 1024, and no capability afterwards (`User=` with `AmbientCapabilities=`)."""
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-systemd-"))  # where others may go
    folder.chmod(0o755)
    heard = Heard(folder)
    heard.path.chmod(0o666)
    (folder / "pillarbox.toml").write_text(
        CONFIG.format(workers=1).replace("127.0.0.1:0", "127.0.0.7:993")
    )
    data = folder / "data"
    data.mkdir()
    os.chown(data, 65534, 65534)
    capabilities = "+net_bind_service,+dac_read_search"
    process = subprocess.Popen(
        [
            *("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"),
            *(f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"),
            *(sys.executable, "-m", "pillarbox", "serve"),
        ],
        cwd=folder,
        env={**os.environ, "NOTIFY_SOCKET": str(heard.path)},
    )
    try:
        heard.until("READY=1")
        status = Path(f"/proc/{process.pid}/status").read_text()
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert f"{name}:\t{0:016x}\n" in status
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        heard.socket.close()
        shutil.rmtree(folder)
