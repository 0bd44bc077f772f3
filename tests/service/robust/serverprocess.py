"""`pillarbox serve` as a process of its own, to be killed, starved and flooded."""

import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from tests.ports import free_ports

from pillarbox.app.status import ask
from pillarbox.auth.passwords import hash_password
from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.store.directory import Directory
from pillarbox.testing.loopwatch import Record

DOMAIN = "example.test"
PASSWORD = "password"


@cache
def credentials() -> tuple[str, str]:
    return hash_password(Secret(PASSWORD))


def lives(pid: int) -> bool:
    """Not so if only nobody has asked yet how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before or after it was opened
        return False


def _is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class ServerProcess:
    """One server with accounts user0, user1 and so on; lab mode, no TLS needed."""

    def __init__(
        self,
        folder: Path,
        accounts: int,
        extra: str = "",
        *,
        watched: bool = False,
        workers: int = 1,
        tls: bool = False,
        listen: str = "",
        head: str = "",
    ) -> None:
        """`extra`, `listen` and `head` are lines of the configuration: its last, of [listen], and its first. `watched`:
        with a `LoopWatch`, whose figures are in `record`; that is of one process. `tls`: `imaps` too."""
        self.folder = folder
        self.record: Record | None = None
        self.smtp, self.submission, self.imap, self.pop3, self.imaps = free_ports(5)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data").mkdir(exist_ok=True)
        directory = Directory(folder / "data" / "directory.db", clock=time.time)
        directory.add_domain(DOMAIN)
        for number in range(accounts):
            directory.add_account(f"user{number}@{DOMAIN}", *credentials())
        directory.close()
        (folder / "pillarbox.toml").write_text(f"""
hostname = "mail.{DOMAIN}"
data_dir = "data"
workers = {workers}
{head}
[listen]
smtp = ["127.0.0.1:{self.smtp}"]
submission = ["127.0.0.1:{self.submission}"]
imap = ["127.0.0.1:{self.imap}"]
pop3 = ["127.0.0.1:{self.pop3}"]
{f'imaps = ["127.0.0.1:{self.imaps}"]' if tls else ""}
{listen}
[security]
allow_cleartext_login = true
{extra}
""")
        if watched:
            self.record = Record(folder / "record")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, before: Callable[[], None] | None = None) -> None:
        """Returns when all ports answer. `before` runs in the new process (limits)."""
        self.spawn(before)
        for port in (self.smtp, self.submission, self.imap, self.pop3):
            self._wait_for(port)

    def spawn(self, before: Callable[[], None] | None = None) -> None:
        """Returns at once."""
        config = str(self.folder / "pillarbox.toml")
        if self.record is None:
            arguments = ["pillarbox", "serve", "--config", config]
        else:
            arguments = ["pillarbox.testing.loopwatch", config, str(self.folder / "record")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=(self.folder / "out").open("ab"),
            stderr=subprocess.STDOUT,
            preexec_fn=before,
        )
        weakref.finalize(self, self.process.kill)  # a test that failed leaves none

    def _wait_for(self, port: int) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((self.folder / "out").read_text()[-3000:]) from None
                time.sleep(0.02)

    def workers(self) -> list[int]:
        """Their processes, where there are several."""
        assert self.process is not None
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children]

    def wait_for_workers(self, killed: int = 0) -> list[int]:
        """Until all serve, and the one that was `killed` just now is known to be dead; their processes."""
        end = time.monotonic() + 60  # on a busy machine
        while True:
            with suppress(Refused):  # those of a supervisor that was killed may still answer
                pids = [worker["pid"] for worker in self.status()["workers"]]
                if all(pids) and killed not in pids:
                    return pids
            assert time.monotonic() < end, self.status()
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        return ask(self.folder / "data")

    def kill(self) -> None:
        """The one process, or the supervisor; returns when its workers have ended too."""
        assert self.process is not None
        workers = self.workers()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        while any(lives(pid) for pid in workers):
            time.sleep(0.001)
        # A thread in a sync outlives the others for a moment, and keeps the ports open: who connects is cut off then.
        while any(map(_is_open, (self.smtp, self.submission, self.imap, self.pop3))):
            time.sleep(0.001)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(40)

    def pss_kib(self) -> int:
        """Of all its processes."""
        assert self.process is not None
        total = 0
        for pid in (self.process.pid, *self.workers()):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(
                int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")
            )
        return total

    def descriptors(self) -> int:
        assert self.process is not None
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))
