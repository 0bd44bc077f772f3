"""A server process: start, stop, refusals to start, changes while it runs."""

import json
import os
import poplib
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.app.run import run
from pillarbox.app.sockets import bind_all, bind_metrics
from pillarbox.app.workplace import Workplace
from pillarbox.config.load import load_config
from pillarbox.core.errors import Refused

CONFIG = """
hostname = "mail.example.test"
data_dir = "data"
[listen]
pop3 = ["127.0.0.1:{port}"]
[security]
allow_cleartext_login = true
"""


def pillarbox(folder: Path, *arguments: str, typed: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pillarbox", *arguments],
        cwd=folder,
        input=typed,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Process:
    """`pillarbox serve` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pillarbox", "serve"],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []

    def wait_until_ready(self) -> int:
        """The port of POP3."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if line.endswith("ready\n"):
                break
        return int(re.search(r"pop3 listens on 127.0.0.1:(\d+)", "".join(self.log))[1])

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=20)
        self.log.append(rest)
        return self.process.returncode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pillarbox.toml").write_text(CONFIG.format(port=0))
    pillarbox(tmp_path, "domain", "add", "example.test")
    pillarbox(
        tmp_path, "account", "add", "alice@example.test", "--password-stdin", typed="pillarbox\n"
    )
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Process]:
    process = Process(folder)
    yield process
    process.stop(signal.SIGKILL)


def log_in(port: int, user: str = "alice@example.test", password: str = "pillarbox") -> poplib.POP3:
    client = poplib.POP3("127.0.0.1", port, timeout=10)
    client.user(user)
    client.pass_(password)
    return client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it_politely(server: Process, number: int) -> None:
    port = server.wait_until_ready()
    client = log_in(port)
    assert server.stop(number) == 0
    assert client.file.readline().startswith(b"-ERR [SYS/TEMP]")
    assert server.log[-1].rstrip().endswith("stopped")


def test_cleartext_login_warns_at_every_start(server: Process) -> None:
    server.wait_until_ready()
    assert any("WARNING" in line and "allow_cleartext_login" in line for line in server.log)
    assert " WARNING " in server.log[0]


def test_every_log_line_is_one_event(server: Process) -> None:
    port = server.wait_until_ready()
    client = log_in(port)
    client.quit()
    server.stop()
    for line in "".join(server.log).splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ pillarbox\.\w+: ", line)
    assert "pillarbox.auth: login ok" in "".join(server.log)


def test_nobody_else_reads_the_data(server: Process, folder: Path) -> None:
    port = server.wait_until_ready()
    log_in(port).quit()
    for path in [folder / "data", *(folder / "data").rglob("*")]:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_second_server_on_the_same_data_refuses(server: Process, folder: Path) -> None:
    server.wait_until_ready()
    second = Process(folder)
    assert second.stop(0) == 1
    assert re.search(r"^pillarbox: another Pillarbox uses ", "".join(second.log), re.MULTILINE)


def test_a_taken_port_is_told_in_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (folder / "pillarbox.toml").write_text(CONFIG.format(port=port))
        server = Process(folder)
        assert server.stop(0) == 1
    assert server.log[-1].splitlines()[-1] == (
        f"pillarbox: cannot listen on 127.0.0.1:{port} (pop3): another program has this port (ss -ltnp tells which)"
    )
    assert "Traceback" not in server.log[-1]


def test_a_port_that_another_takes_while_we_start_is_told(folder: Path) -> None:
    """Both may bind it, for neither listens yet."""
    services = ["smtp", "metrics"]
    listen = "".join(f'{name} = ["127.0.0.1:0"]\n' for name in services)
    (folder / "pillarbox.toml").write_text(
        f'hostname = "mail.example.test"\ndata_dir = "data"\nworkers = 1\n[listen]\n{listen}'
    )
    config = load_config(folder / "pillarbox.toml")
    for service in services:
        sockets, metrics = bind_all(config)[0], bind_metrics(config)
        (ours,) = sockets[service] if service != "metrics" else metrics
        port = ours.getsockname()[1]
        with socket.create_server(("127.0.0.1", port)), pytest.raises(Refused) as refused:
            run(config, lambda _: None, workplace=Workplace(sockets=sockets, metrics=metrics))
        assert refused.value.text == (
            f"cannot listen on 127.0.0.1:{port} ({service}): another program has this port (ss -ltnp tells which)"
        )


def test_changes_count_at_once(server: Process, folder: Path) -> None:
    port = server.wait_until_ready()
    log_in(port).quit()
    pillarbox(
        folder, "account", "passwd", "alice@example.test", "--password-stdin", typed="something\n"
    )
    with pytest.raises(poplib.error_proto):
        log_in(port)
    log_in(port, password="something").quit()
    pillarbox(folder, "domain", "add", "other.test")
    pillarbox(folder, "account", "add", "b@other.test", "--password-stdin", typed="something\n")
    log_in(port, "b@other.test", "something").quit()


@pytest.mark.parametrize("command", [("disable",), ("remove", "--yes")])
def test_sessions_of_a_gone_account_end(
    server: Process, folder: Path, command: tuple[str, ...]
) -> None:
    port = server.wait_until_ready()
    client = log_in(port)
    started = time.monotonic()
    pillarbox(folder, "account", *command, "alice@example.test")
    assert client.file.readline().startswith(b"-ERR [SYS/TEMP]")
    assert time.monotonic() - started < 5
    with pytest.raises(poplib.error_proto):
        log_in(port)
    if command[0] == "remove":
        time.sleep(1.2)  # the server looks once a second
        assert not list((folder / "data" / "accounts").rglob("*.*"))
        assert "nothing" not in pillarbox(folder, "check")


def test_sighup_ends_nothing(server: Process) -> None:
    port = server.wait_until_ready()
    client = log_in(port)
    server.process.send_signal(signal.SIGHUP)
    client.noop()
    client.quit()
    assert server.stop() == 0
    assert any("after a restart" in line for line in "".join(server.log).splitlines())


def test_status_of_a_server_of_one_process(server: Process, folder: Path) -> None:
    config = folder / "pillarbox.toml"
    server.wait_until_ready()
    server.stop()
    config.write_text("workers = 1\n" + config.read_text())
    alone = Process(folder)
    port = alone.wait_until_ready()
    client = log_in(port)
    report = json.loads(pillarbox(folder, "status", "--json"))
    (worker,) = report["workers"]
    assert report["pid"] == worker["pid"] == alone.process.pid
    assert worker["connections"]["pop3"] == 1
    assert report["queue"] == {
        "messages": 0,
        "recipients": 0,
        "local_deliveries": 0,
        "for_mail_files": 0,
    }
    assert stat.S_IMODE((folder / "data" / "control").stat().st_mode) == 0o600
    client.quit()
    assert alone.stop() == 0
    assert not (folder / "data" / "control").exists()
