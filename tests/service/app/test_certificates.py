"""TLS of a whole server: certificates by name, taken up anew by every worker while sessions go on; resumption on all
ports; old versions and weak ciphers are refused."""

import imaplib
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

CONFIG = """
hostname = "mail.example.test"
data_dir = "data"
workers = {workers}
[listen]
imap = ["127.0.0.1:0"]
imaps = ["127.0.0.1:0"]
[tls]
certificate = "first.pem"
key = "first-key.pem"
certificates = [{{ certificate = "second.pem", key = "second-key.pem" }}]
"""


class Served:
    """`pillarbox serve` with two certificates of a CA of ours."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.write("first", "mail.example.test")
        self.write("second", "imap.example.net")
        (folder / "pillarbox.toml").write_text(CONFIG.format(workers=workers))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pillarbox", "serve"],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ports: dict[str, int] = {}
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"(\w+) listens on 127.0.0.1:(\d+)", line):
                self.ports[found[1]] = int(found[2])
            if line.endswith("ready\n"):
                break

    def write(self, label: str, name: str) -> None:
        issued = self.ca.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(self.folder / f"{label}.pem")
        issued.private_key_pem.write_to_path(self.folder / f"{label}-key.pem")

    def is_trusted(self, name: str) -> bool:
        """Whether a client that wants `name` is content."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        with socket.create_connection(("127.0.0.1", self.ports["imaps"]), 10) as connection:
            try:
                context.wrap_socket(connection, server_hostname=name).close()
            except ssl.SSLCertVerificationError:
                return False
        return True

    def wait_until_all_trust(self, name: str) -> None:
        """A row of connections reaches every worker with all likelihood."""
        deadline = time.monotonic() + 20
        while not all(self.is_trusted(name) for _ in range(16)):
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(params=[1, 2])
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    served = Served(tmp_path, request.param)
    yield served
    served.process.send_signal(signal.SIGTERM)
    served.process.communicate(timeout=20)


def test_new_certificates_reach_every_worker_and_no_session_ends(served: Served) -> None:
    assert served.is_trusted("mail.example.test")
    assert served.is_trusted("imap.example.net")
    assert not served.is_trusted("imap.example.com")
    context = ssl.create_default_context()
    served.ca.configure_trust(context)
    clients = [imaplib.IMAP4("127.0.0.1", served.ports["imap"], timeout=10) for _ in range(4)]
    for client in clients:
        client.host = "mail.example.test"
        client.starttls(context)
    served.write("second", "imap.example.com")
    served.process.send_signal(signal.SIGHUP)
    served.wait_until_all_trust("imap.example.com")
    served.write("first", "mx.example.test")  # and without a signal
    served.wait_until_all_trust("mx.example.test")
    for client in clients:
        assert client.noop()[0] == "OK"
        client.logout()
