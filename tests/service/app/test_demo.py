"""`pillarbox demo` as a person uses it: start it, paste its lines, stop it, start it again."""

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pillarbox.app import demo

FREE_PORTS = """
import sys
from pillarbox.app import demo, log
demo.PORTS = dict.fromkeys(demo.PORTS, 0)
log.log_to_stderr()
sys.exit(demo.run_demo())
"""


@contextmanager
def running(folder: Path) -> Iterator[list[str]]:
    """What the demo prints; at the end it gets a Ctrl-C and must stop with exit code 0."""
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", FREE_PORTS],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break
        try:
            yield printed
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(20)
            process.stdout.close()
    assert code == 0, (folder / "log").read_text()


def paste(line: str, typed: str = "") -> str:
    shown = subprocess.run(
        ["bash", "-c", line], input=typed, capture_output=True, text=True, timeout=30
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.mark.interop
@pytest.mark.skipif(
    not all(map(shutil.which, ("swaks", "curl", "openssl"))),
    reason="swaks, curl or openssl missing",
)
def test_every_printed_line_works_and_a_second_start_finds_the_same_mail(tmp_path: Path) -> None:
    with running(tmp_path) as printed:
        lines = [line for line in printed if re.match(r"swaks |curl |printf |openssl ", line)]
        assert len(lines) == 10
        assert any("so all of these are others" in line for line in printed)  # than PORTS
        shown = [paste(line, "a1 NOOP\na2 LOGOUT\n") for line in lines]
        assert "queued as" in shown[0]
        assert "queued as" in shown[2]
        assert shown[3].count(" FETCH ") == 8
        assert '"Hello again"' in shown[3]
        assert "Subject: Welcome to your mailbox" in shown[4]
        assert 'LIST (\\HasNoChildren \\Sent) "/" Sent' in shown[5]
        assert len(shown[6].split("\n")) >= 8
        assert "Subject: Welcome to your mailbox" in shown[7]
        assert "a4 OK Logout completed." in shown[8]
        assert "a2 OK Logout completed." in shown[9]
    with running(tmp_path) as printed:
        (line,) = [line for line in printed if line.endswith("/") and "pop3s://" in line]
        assert paste(line) == shown[6]


def test_a_port_that_another_program_has_is_no_port_of_the_demo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        taken, usual = other.getsockname()[1], free.getsockname()[1]
        free.close()
        monkeypatch.setattr(demo, "PORTS", {"smtp": usual, "imap": taken})
        assert demo.free_ports() == {"smtp": 0, "imap": 0}
        monkeypatch.setattr(demo, "PORTS", {"smtp": usual})
        assert demo.free_ports() == {"smtp": usual}


def test_the_demo_mail_is_made_once(tmp_path: Path) -> None:
    import poplib
    import ssl

    for _ in range(2):
        with running(tmp_path) as printed:
            port = int(re.search(r"pop3s (\d+)", "\n".join(printed))[1])
            ca_file = tmp_path / "pillarbox-demo" / "tls" / "ca.pem"
            client = poplib.POP3_SSL(
                "127.0.0.1", port, context=ssl.create_default_context(cafile=ca_file), timeout=10
            )
            client.user("alice")
            client.pass_("pillarbox")
            assert client.stat()[0] == 5
            client.quit()
