"""`pillarbox doctor --watch` as people run it, with a server as a process that tells its metrics."""

import imaplib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serverprocess import DOMAIN, PASSWORD, ServerProcess
from tests.ports import free_ports

from pillarbox.app.canary import read_canary

ANN = f"user0@{DOMAIN}"
WAIT_S = 20.0


class Watched(ServerProcess):
    """With metrics, and a certificate of the private CA."""

    def __init__(self, folder: Path) -> None:
        (self.http,) = free_ports(1)
        super().__init__(folder, 2, tls=True, listen=f'metrics = ["127.0.0.1:{self.http}"]')

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        (found,) = re.findall(rf"^{re.escape(name)} ([0-9.]+)$", text, re.MULTILINE)
        return float(found)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    server = Watched(tmp_path_factory.mktemp("watch"))
    server.start()
    yield server
    if server.process is not None and server.process.poll() is None:
        assert server.stop() == 0


def wait_until(is_so: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def command(folder: Path, *arguments: str) -> list[str]:
    config = str(folder / "pillarbox.toml")
    return [sys.executable, "-m", "pillarbox", "doctor", "--config", config, *arguments]


class Doctor:
    """The command, while it runs."""

    def __init__(self, folder: Path, *arguments: str, password: str = PASSWORD) -> None:
        self._out = folder / f"doctor-{time.monotonic_ns()}"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                command(folder, "--watch", "--round-trip", ANN, "--password-stdin", *arguments),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(f"{password}\n".encode())
        self.process.stdin.close()

    @property
    def text(self) -> str:
        return self._out.read_text()

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        assert "Traceback" not in self.text
        return code


@contextmanager
def watching(folder: Path, *arguments: str, password: str = PASSWORD) -> Iterator[Doctor]:
    doctor = Doctor(folder, *arguments, password=password)
    try:
        yield doctor
    finally:
        doctor.process.kill()
        doctor.process.wait()


def run(folder: Path, *arguments: str, given: str = "") -> tuple[int, str]:
    done = subprocess.run(
        command(folder, *arguments),
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def messages_of(server: ServerProcess) -> int:
    client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
    client.login(ANN, PASSWORD)
    count = int((client.select()[1][0] or b"0").decode())
    client.logout()
    return count


def test_each_trip_is_a_line_and_none_stays_in_the_mailbox(server: Watched) -> None:
    with watching(server.folder, "--every", "1") as doctor:
        wait_until(lambda: doctor.text.count("\n") >= 3)
        assert doctor.end() == 0
        for line in doctor.text.splitlines():
            assert re.fullmatch(
                rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\dZ  ok      {ANN}: submission \d+ ms, imap \d+ ms,"
                r" pop3 \d+ ms, removal \d+ ms",
                line,
            )
    assert messages_of(server) == 0


def test_the_metrics_tell_of_it(server: Watched) -> None:
    before = server.metric('pillarbox_canary_runs_total{result="worked"}')
    with watching(server.folder, "--every", "1", "--json") as doctor:
        wait_until(lambda: doctor.text.count("\n") >= 2)
        wait_until(lambda: server.metric("pillarbox_canary_interval_seconds") == 1)
        wait_until(
            lambda: server.metric('pillarbox_canary_runs_total{result="worked"}') >= before + 2
        )
        assert doctor.end(signal.SIGTERM) == 0
        lines = [json.loads(line) for line in doctor.text.splitlines()]
    assert all(line["worked"] and not line["changed"] for line in lines)
    assert list(lines[0]["milliseconds"]) == ["submission", "imap", "pop3", "removal"]
    last = server.metric("pillarbox_canary_last_run_timestamp_seconds")
    assert last == server.metric("pillarbox_canary_last_success_timestamp_seconds")
    assert abs(time.time() - last) < 30
    for stage in lines[0]["milliseconds"]:
        assert server.metric(f'pillarbox_canary_seconds_count{{stage="{stage}"}}') >= 2
    time.sleep(3)
    stale = server.metric("pillarbox_canary_last_run_timestamp_seconds")
    assert stale - last < 3, "nobody writes it any more, and that shows"


def test_what_a_trip_that_was_killed_left_is_removed_by_the_next(server: Watched) -> None:
    left = (
        f"From: {ANN}\r\nMessage-ID: <pillarbox-canary-0@mail.{DOMAIN}>\r\n"
        "Subject: pillarbox doctor: a test that removes itself\r\n\r\nx\r\n"
    )
    mine = f"From: {ANN}\r\nMessage-ID: <pillarbox-canary-0@x>\r\nSubject: mine\r\n\r\nx\r\n"
    client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
    client.login(ANN, PASSWORD)
    for text in (left, mine):
        client.append("INBOX", None, None, text.encode())
    with watching(server.folder, "--every", "1") as doctor:
        wait_until(lambda: "ok" in doctor.text)
        assert doctor.end() == 0
    client.select()
    assert client.search(None, "ALL")[1] == [b"1"]
    assert client.search(None, "SUBJECT", "mine")[1] == [b"1"]
    client.store("1", "+FLAGS", r"(\Deleted)")
    client.expunge()
    client.logout()


def test_a_change_is_said_loudly(tmp_path: Path) -> None:
    server = Watched(tmp_path)
    server.start()
    with watching(server.folder, "--every", "1") as doctor:
        wait_until(lambda: "  ok  " in doctor.text)
        assert server.stop() == 0
        wait_until(lambda: "FAILED" in doctor.text)
        lines = doctor.text.splitlines()
        loud = next(place for place, line in enumerate(lines) if "***" in line)
        assert f"*** MAIL FAILS NOW for {ANN}, after " in lines[loud]
        assert f"FAILED  {ANN} " in lines[loud + 1]  # at any stage: a trip may have been under way
        wait_until(lambda: doctor.text.count("FAILED") >= 2)
        assert "do: start the server: pillarbox serve" in doctor.text
        assert doctor.text.count("MAIL FAILS NOW") == 1
        assert read_canary(server.folder / "data").failed >= 1
        server.start()
        wait_until(lambda: "*** MAIL WORKS AGAIN" in doctor.text)
        assert server.metric('pillarbox_canary_runs_total{result="failed"}') >= 1
        assert doctor.end() == 0
    assert server.stop() == 0


def test_a_wrong_password_fails_each_time_and_at_the_end(server: Watched) -> None:
    with watching(server.folder, "--every", "1", password="wrong") as doctor:
        wait_until(lambda: "FAILED" in doctor.text)
        assert doctor.end() == 1
        assert f"FAILED  {ANN} submission: 535" in doctor.text
        assert "do: give the password of the account" in doctor.text


@pytest.mark.parametrize("is_right", [True, False])
def test_a_password_may_have_any_letters(tmp_path: Path, is_right: bool) -> None:
    password = "pässwörd-lang-1"
    server = Watched(tmp_path)
    server.start()
    done = subprocess.run(
        [
            *command(server.folder)[:3],
            *("account", "passwd", ANN, "--password-stdin"),
            *("--config", str(server.folder / "pillarbox.toml")),
        ],
        input=f"{password if is_right else 'another password'}\n",
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stderr == ""
    with watching(server.folder, "--every", "1", password=password) as doctor:
        wait_until(lambda: "  ok  " in doctor.text or "FAILED" in doctor.text)
        assert doctor.end() == (0 if is_right else 1), doctor.text
    assert ("  ok  " in doctor.text) == is_right
    assert server.stop() == 0


def test_where_there_is_only_pop3_nothing_stays_either(tmp_path: Path) -> None:
    server = Watched(tmp_path)
    server.start()
    left = (
        f"From: {ANN}\r\nMessage-ID: <pillarbox-canary-0@mail.{DOMAIN}>\r\n"
        "Subject: pillarbox doctor: a test that removes itself\r\n\r\nx\r\n"
    )
    client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
    client.login(ANN, PASSWORD)
    client.append("INBOX", None, None, left.encode())
    other = left.replace("itself", "itself [ticket 5]")
    client.append("INBOX", None, None, other.encode())
    client.logout()
    path = server.folder / "pillarbox.toml"
    text = path.read_text()
    path.write_text(re.sub(r"(?m)^imaps? = .*$", "", text))
    with watching(server.folder, "--every", "1") as doctor:
        wait_until(lambda: "  ok  " in doctor.text or "FAILED" in doctor.text)
        assert doctor.end() == 0, doctor.text
    path.write_text(text)
    assert messages_of(server) == 1, "the one that only looks like ours"
    assert server.stop() == 0


def test_it_ends_soon_though_a_trip_hangs(tmp_path: Path) -> None:
    server = Watched(tmp_path)
    server.start()
    with watching(server.folder, "--every", "1") as doctor:
        wait_until(lambda: "  ok  " in doctor.text)
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(2)
            began = time.monotonic()
            doctor.end()
            assert time.monotonic() - began < 10
        finally:
            server.process.send_signal(signal.SIGCONT)
    assert server.stop() == 0


def test_only_one_watches(server: Watched) -> None:
    with watching(server.folder, "--every", "1") as doctor:
        wait_until(lambda: "ok" in doctor.text)
        arguments = ("--watch", "--round-trip", ANN, "--password-stdin")
        code, error = run(server.folder, *arguments, given=f"{PASSWORD}\n")
        assert code == 1
        assert error == (
            f"pillarbox: another doctor --watch runs on {server.folder / 'data'}: end it first\n"
        )
        assert doctor.end() == 0


def test_wrong_arguments_are_told(server: Watched) -> None:
    trip = ("--round-trip", ANN, "--password-stdin")
    for arguments, words in (
        (("--watch",), "--watch goes with --round-trip"),
        (("--watch", "example.org", *trip), "--watch goes with --round-trip"),
        (("--watch", "--block-lists", *trip), "--watch goes with --round-trip"),
        (("--every", "5", *trip), "--every goes with --watch"),
        (("--watch", "--every", "0", *trip), "0.0 is not in the range"),
        (("--watch", "--every", "often", *trip), "'often' is not a valid float"),
        (("--watch", "--every", "nan", *trip), "it is no number"),
    ):
        code, error = run(server.folder, *arguments, given=f"{PASSWORD}\n")
        assert code == 2
        assert words in error


def test_a_missing_account_is_told(server: Watched) -> None:
    arguments = ("--watch", "--round-trip", f"nobody@{DOMAIN}", "--password-stdin")
    for given in (arguments, arguments[1:]):
        code, error = run(server.folder, *given, given=f"{PASSWORD}\n")
        assert (code, error) == (
            1,
            f"pillarbox: there is no account nobody@{DOMAIN}; see: pillarbox account list\n",
        )


def test_a_server_that_does_not_run_is_a_failed_trip(tmp_path: Path) -> None:
    server = Watched(tmp_path)
    server.start()
    assert server.stop() == 0
    with watching(server.folder, "--every", "1") as doctor:
        wait_until(lambda: "FAILED" in doctor.text)
        assert doctor.end() == 1
        assert f"FAILED  {ANN} submission: Connection refused\n" in doctor.text
        assert "do: start the server: pillarbox serve" in doctor.text


def test_figures_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    server = Watched(tmp_path)
    server.start()
    (server.folder / "data" / "canary.json.new").mkdir()
    with watching(server.folder, "--every", "1") as doctor:
        wait_until(lambda: "ok" in doctor.text)
        assert doctor.end() == 0
        assert "pillarbox: the metrics do not hear of this: " in doctor.text
    assert server.stop() == 0
