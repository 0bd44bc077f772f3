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
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pillarbox.testing.server import SERVICES, MailServer

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


STARTTLS = {
    "smtp": [b"EHLO test\r\n", b"STARTTLS\r\n"],
    "submission": [b"EHLO test\r\n", b"STARTTLS\r\n"],
    "imap": [b"1 STARTTLS\r\n"],
    "pop3": [b"STLS\r\n"],
}


def before_tls(server: MailServer, service: str) -> socket.socket:
    """A connection whose next octets are those of a TLS handshake."""
    connection = socket.create_connection((server.host, server.ports[service]), 10)
    if service in STARTTLS:
        connection.recv(1000)
        for line in STARTTLS[service]:
            connection.sendall(line)
            connection.recv(4000)
    return connection


def handshake(
    server: MailServer,
    service: str,
    context: ssl.SSLContext,
    session: ssl.SSLSession | None = None,
) -> tuple[bool, ssl.SSLSession | None]:
    """(whether the session was resumed, the one to resume the next time)"""
    with context.wrap_socket(
        before_tls(server, service), server_hostname="mail.example.test", session=session
    ) as tls:
        # The server's tickets come after the handshake (RFC 8446 §4.6.1): an answer, or the greeting, comes after them.
        if service in STARTTLS:
            tls.sendall(b"1 NOOP\r\n" if service == "imap" else b"NOOP\r\n")
        tls.recv(1000)
        return bool(tls.session_reused), tls.session


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(
    mailserver: MailServer, service: str, version: ssl.TLSVersion
) -> None:
    """RFC 9325 §3.4"""
    context = mailserver.client_context()
    context.minimum_version = context.maximum_version = version
    resumed, session = handshake(mailserver, service, context)
    assert not resumed
    assert session is not None
    assert session.has_ticket
    assert handshake(mailserver, service, context, session)[0]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),  # RFC 8996 §5
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:AES256-SHA256"),  # RFC 9325 §4.1: no RSA key transport
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA256"),  # no CBC
        (ssl.TLSVersion.TLSv1_2, "NULL:aNULL:@SECLEVEL=0"),
    ],
)  # fmt: skip
def test_old_versions_and_weak_ciphers_are_refused(
    mailserver: MailServer, service: str, version: ssl.TLSVersion, ciphers: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        handshake(mailserver, service, context)
