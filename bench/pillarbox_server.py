"""Pillarbox as the benchmark runs it: `pillarbox serve` with a configuration file, nothing special."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from bench.load import DOMAIN
from bench.peer import SINK_DNS_PORT, SINK_PORT
from bench.process import Tree, make_certificate, wait_for_port

SMTP_PORT = 13525
IMAP_PORT = 13143
POP3_PORT = 13110
IMAPS_PORT = 13993
SUBMISSION_PORT = 13587


class PillarboxServer:
    """One running server with `accounts` accounts, user0 and so on, password "password"."""

    imaps = ("127.0.0.1", IMAPS_PORT)

    def __init__(
        self,
        folder: Path,
        accounts: int,
        *,
        workers: int = 0,
        trusts_load: bool = False,
        dkim: bool = False,
        sync_delay_ms: int = 0,
    ) -> None:
        """`trusts_load`: the load may send to other hosts, without a login. `sync_delay_ms`: see `bench.slow_disk`."""
        self._sync_delay_ms = sync_delay_ms
        self._workers = workers
        processes = workers or os.cpu_count() or 1
        self.name = "Pillarbox" if processes == 1 else f"Pillarbox, {processes} workers"
        if dkim:
            self.name += ", DKIM (RSA and Ed25519)"
        self.folder = folder
        self._trusted = '["127.0.0.1"]' if trusts_load else "[]"
        self._dkim = dkim
        self._accounts = accounts
        self._process: subprocess.Popen[bytes] | None = None
        self.smtp = ("127.0.0.1", SMTP_PORT)
        self.imap = ("127.0.0.1", IMAP_PORT)
        self.pop3 = ("127.0.0.1", POP3_PORT)
        self.submission = ("127.0.0.1", SUBMISSION_PORT)

    def start(self) -> None:
        """Makes the accounts and starts the server; returns when all ports answer."""
        from pillarbox.auth.passwords import hash_password
        from pillarbox.core.secret import Secret
        from pillarbox.outbound.signing import add_keys
        from pillarbox.store.directory import Directory

        self.folder.mkdir(parents=True)
        data = self.folder / "data"
        data.mkdir()
        directory = Directory(data / "directory.db", clock=time.time)
        directory.add_domain(DOMAIN)
        hashed = hash_password(Secret("password"))
        for number in range(self._accounts):
            directory.add_account(f"user{number}@{DOMAIN}", *hashed)
        if self._dkim:
            add_keys(directory, DOMAIN, int(time.time()))
        directory.close()
        self.configure()
        self.start_again()

    def configure(self) -> None:
        """Writes the configuration."""
        make_certificate(self.folder)
        (self.folder / "pillarbox.toml").write_text(f"""
hostname = "mail.{DOMAIN}"
data_dir = "data"
workers = {self._workers}
[listen]
smtp = ["127.0.0.1:{self.smtp[1]}"]
imap = ["127.0.0.1:{self.imap[1]}"]
imaps = ["127.0.0.1:{self.imaps[1]}"]
pop3 = ["127.0.0.1:{self.pop3[1]}"]
submission = ["127.0.0.1:{self.submission[1]}"]
[tls]
certificate = "cert.pem"
key = "key.pem"
[outbound]
mx_port = {SINK_PORT}
[dns]
servers = ["127.0.0.1:{SINK_DNS_PORT}"]
[smtp]
trusted_networks = {self._trusted}
[security]
allow_cleartext_login = true
connections_per_address = 5000
""")

    def start_again(self) -> None:
        """With what is there."""
        slow = self._sync_delay_ms
        environment = {**os.environ, "SYNC_DELAY_MS": str(slow)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled, too
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bench.slow_disk" if slow else "pillarbox",
                "serve",
                "--config",
                str(self.folder / "pillarbox.toml"),
            ],
            stdout=(self.folder / "out").open("wb"),
            stderr=subprocess.STDOUT,
            env=environment,
        )
        for port in (SMTP_PORT, IMAP_PORT, POP3_PORT):
            wait_for_port(port)

    def restart(self) -> None:
        self.stop()
        self.start_again()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(40)

    def stop_and_count(self) -> float:
        """Stop cleanly; the CPU seconds of all its processes over their whole life."""
        assert self._process is not None
        self._process.terminate()
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime

    def trees(self) -> list[Tree]:
        """Whose CPU and memory counts."""
        assert self._process is not None
        return [Tree(self._process.pid)]

    def is_quiet(self) -> bool:
        """Whether the queue is empty; local mail is where it belongs before its 250."""
        path = self.folder / "data" / "queue.db"
        queue = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return not queue.execute("SELECT EXISTS (SELECT 1 FROM outgoing_message)").fetchone()[0]
        finally:
            queue.close()
