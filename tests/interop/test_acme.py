"""Certificates by ACME from Debian's pebble: each kind of challenge, renewal, and what is said when it fails."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from tests.ports import free_ports

from pillarbox.certs.pair import Pair, read_pair
from pillarbox.certs.renewal import acme_paths
from pillarbox.config.load import load_config

pytestmark = pytest.mark.skipif(
    not (shutil.which("pebble") and shutil.which("pebble-challtestsrv")),
    reason="pebble is not installed (make interop-deps)",
)

CONFIG = """
hostname = "mail.example.test"
data_dir = "data"
workers = {workers}
[listen]
imaps = ["127.0.0.1:0"]
[tls]
acme = true
acme_directory = "https://localhost:{port}/dir"
acme_ca_file = "pebble-ca.pem"
acme_contact = "postmaster@example.org"
"""


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


class Pebble:
    """A CA that asks names at 127.0.0.1, by a DNS server that the tests fill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.http_port, self.tls_port, self.dns_port, *others = free_ports(7)
        self.management_port, other, self.elsewhere = others
        ca = trustme.CA()
        issued = ca.issue_cert("localhost", "127.0.0.1")
        ca.cert_pem.write_to_path(folder / "pebble-ca.pem")
        issued.cert_chain_pems[0].write_to_path(folder / "pebble.pem")
        issued.private_key_pem.write_to_path(folder / "pebble-key.pem")
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{other}",
            "certificate": str(folder / "pebble.pem"),
            "privateKey": str(folder / "pebble-key.pem"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
        }
        (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
        dns = f"127.0.0.1:{self.dns_port}"
        self._processes = [
            subprocess.Popen(
                ["pebble-challtestsrv", "-dns01", dns, "-defaultIPv6", "", "-http01", "", "-https01", "",
                 "-tlsalpn01", "", "-management", f"127.0.0.1:{self.management_port}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ),
            subprocess.Popen(
                ["pebble", "-strict", "-config", str(folder / "pebble.json"), "-dnsserver", dns],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                # No random delays and refusals, but for the nonces of which RFC 8555 §6.5 warns.
                env={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "20", "PEBBLE_AUTHZREUSE": "0"},
            ),
        ]  # fmt: skip
        wait_for(self.port)
        wait_for(self.management_port)

    def configure(self, more: str, workers: int = 1) -> None:
        text = CONFIG.format(port=self.port, workers=workers) + more
        (self.folder / "pillarbox.toml").write_text(text)

    @property
    def pair(self) -> Pair:
        return read_pair(acme_paths(load_config(self.folder / "pillarbox.toml")))

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(10)


@pytest.fixture
def pebble(tmp_path: Path) -> Iterator[Pebble]:
    pebble = Pebble(tmp_path)
    yield pebble
    pebble.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pillarbox", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout

    return run


Run = Callable[..., tuple[int, str]]


def test_http_01(pebble: Pebble, run: Run) -> None:
    """RFC 8555 §8.3"""
    pebble.configure(
        f'acme_listen = ["127.0.0.1:{pebble.http_port}"]\nacme_names = ["mail.example.test", "imap.example.test"]'
    )
    code, said = run("tls", "renew")
    assert code == 0, said
    first = pebble.pair
    assert set(first.names) == {"mail.example.test", "imap.example.test"}
    assert run("tls", "status")[0] == 0
    for name in ("acme.pem", "acme-account-key.pem"):
        assert (pebble.folder / "data" / "tls" / name).stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", pebble.http_port), 1)
    account_key = (pebble.folder / "data" / "tls" / "acme-account-key.pem").read_bytes()
    assert run("tls", "renew")[0] == 0
    assert pebble.pair == first, "it is not due"
    before = first.paths[0].read_bytes()
    assert run("tls", "renew", "--force")[0] == 0
    assert first.paths[0].read_bytes() != before
    assert (pebble.folder / "data" / "tls" / "acme-account-key.pem").read_bytes() == account_key


def test_tls_alpn_01(pebble: Pebble, run: Run) -> None:
    """RFC 8737 §3"""
    pebble.configure(
        f'acme_challenge = "tls-alpn-01"\nacme_listen = ["127.0.0.1:{pebble.tls_port}"]\n'
        'acme_names = ["mail.example.test", "imap.example.test"]'
    )
    code, said = run("tls", "renew")
    assert code == 0, said
    assert set(pebble.pair.names) == {"mail.example.test", "imap.example.test"}


HOOK = """#!{python}
import json, sys, urllib.request
what, name, value = sys.argv[1:]
body = {{"host": name + ".", "value": value}}
path = "set-txt" if what == "add" else "clear-txt"
urllib.request.urlopen("http://127.0.0.1:{port}/" + path, json.dumps(body).encode()).read()
open("{log}", "a").write(what + " " + name + "\\n")
"""


def test_dns_01_has_wildcards(pebble: Pebble, run: Run) -> None:
    """RFC 8555 §8.4"""
    hook, log = pebble.folder / "hook", pebble.folder / "hook.log"
    hook.write_text(HOOK.format(python=sys.executable, port=pebble.management_port, log=log))
    hook.chmod(0o700)
    pebble.configure(
        f'acme_challenge = "dns-01"\nacme_hook = "{hook}"\nacme_dns_wait = "0s"\n'
        'acme_names = ["*.example.test", "example.test"]'
    )
    code, said = run("tls", "renew")
    assert code == 0, said
    assert set(pebble.pair.names) == {"*.example.test", "example.test"}
    lines = log.read_text().splitlines()
    assert lines == ["add _acme-challenge.example.test"] * 2 + ["remove _acme-challenge.example.test"] * 2  # fmt: skip


def test_a_failure_is_told_in_one_line_and_the_old_certificate_stays(
    pebble: Pebble, run: Run
) -> None:
    good = f'acme_listen = ["127.0.0.1:{pebble.http_port}"]'
    pebble.configure(good)
    assert run("tls", "renew")[0] == 0
    before = pebble.pair
    pebble.configure(
        f'acme_listen = ["127.0.0.1:{pebble.elsewhere}"]'
    )  # where the CA does not look
    code, said = run("tls", "renew", "--force")
    assert code == 1, said
    assert said.startswith("pillarbox: no certificate by ACME: mail.example.test: ")
    assert said.count("\n") == 1
    assert pebble.pair == before
    code, said = run("tls", "status")
    assert code == 1
    assert "the last order by ACME failed on" in said
    pebble.configure(good)
    assert run("tls", "renew", "--force")[0] == 0
    pebble.close()
    code, said = run("tls", "renew", "--force")
    assert code == 1
    assert said.count("\n") == 1


@pytest.fixture
def open_folder(pebble: Pebble) -> Path:
    """Where the server's user may go, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-acme-"))
    folder.chmod(0o755)
    shutil.copy(pebble.folder / "pebble-ca.pem", folder)
    (folder / "pebble-ca.pem").chmod(0o644)
    pebble.folder = folder
    return folder


@pytest.mark.parametrize("user", ["", "nobody"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_gets_its_certificate_by_itself(
    pebble: Pebble, open_folder: Path, workers: int, user: str
) -> None:
    """It starts with that of the private CA, and goes over to the other in all workers, also when it has become a user
    who may not bind the port of the challenge."""
    if user and os.geteuid():
        pytest.skip("only root becomes somebody else")
    pebble.configure(f'acme_listen = ["127.0.0.1:{pebble.http_port}"]', workers)
    config = open_folder / "pillarbox.toml"
    config.write_text(f'user = "{user}"\n' + config.read_text())
    process = subprocess.Popen(
        [sys.executable, "-m", "pillarbox", "serve"],
        cwd=pebble.folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    port = 0
    for line in process.stderr:
        if "imaps listens on" in line:
            port = int(line.rpartition(":")[2])
        if line.endswith("ready\n"):
            break
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def issuer() -> bool:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as connection,
            context.wrap_socket(connection, server_hostname="mail.example.test") as tls,
        ):
            return b"Pebble" in (tls.getpeercert(binary_form=True) or b"")

    deadline = time.monotonic() + 40
    try:
        while not (is_changed := all(issuer() for _ in range(12))) and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
        shutil.rmtree(open_folder)
    assert is_changed, log
    assert log.count("ordering a certificate") <= 1, "one worker does it for all"
