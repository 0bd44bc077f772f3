"""The server that pages about example.org are tried on: its accounts, its mail, and what happened to it."""

import json
import os
import shutil
import signal
import smtplib
import ssl
import subprocess
import time
from pathlib import Path

from shell import READY_S, Place
from small_dns import SmallDns

PASSWORD = "a long password"
CLIENT = "192.0.2.7"

CONFIGURATION = """
hostname = "mail.example.org"
data_dir = "{data}"

[listen]
{listen}

[smtp]
xclient_from = ["127.0.0.1"]

[outbound]
mx_port = {closed}

[dns]
servers = ["{dns}"]
"""

SETUP = """
umask 077
echo '{password}' > password
cp password first-password
pillarbox domain add example.org
for name in alice bob helper spare; do
    pillarbox account add $name@example.org --password-stdin < password
done
pillarbox alias add postmaster@example.org alice@example.org
"""

ZONE = {
    ("example.com", "MX"): ["10 mx1.example.com.", "20 mx2.example.com."],
    ("mx1.example.com", "A"): ["127.0.0.8"],
    ("mx2.example.com", "A"): ["127.0.0.9"],
    ("mail.example.org", "A"): ["127.0.0.1"],
    ("1.0.0.127.in-addr.arpa", "PTR"): ["mail.example.org."],
    ("example.org", "MX"): ["10 mail.example.org."],
    ("example.org", "TXT"): ['"v=spf1 mx -all"'],
}
"""The hosts of example.com do not answer at the port that is configured."""


class Server:
    """`pillarbox serve` in a place, and what it needs beside."""

    def __init__(self, place: Place, dns: SmallDns) -> None:
        self.place = place
        self.data = place.path("/var/lib/pillarbox")
        self.config = place.path("/etc/pillarbox/pillarbox.toml")
        place.environment["PILLARBOX_CONFIG"] = str(self.config)
        listen = "\n".join(f'{name} = ["127.0.0.1:{port}"]' for name, port in place.ports.items())
        text = CONFIGURATION.format(data=self.data, listen=listen, closed=1, dns=dns.address)
        self.config.write_text(text)
        self.config.chmod(0o644)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self.place.folder / "output" / "server"
        self._process = self.place.start(["pillarbox", "serve"], log)
        end = time.monotonic() + READY_S
        while "pillarbox.app: ready\n" not in log.read_text():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGTERM)
            code = self._process.wait(READY_S)
            self._process = None
            assert code == 0, (self.place.folder / "output" / "server").read_text()

    def fill(self) -> None:
        """At the first start: mail that came in, and mail that waits."""
        context = ssl.create_default_context(cafile=self.data / "tls" / "ca.pem")
        with smtplib.SMTP("127.0.0.1", self.place.ports["smtp"], timeout=20) as client:
            client.ehlo()
            client.docmd("XCLIENT", f"ADDR={CLIENT}")
            client.ehlo()
            client.sendmail(
                "bob@example.com",
                "alice@example.org",
                "From: Bob <bob@example.com>\r\nMessage-ID: <20261127.1@example.com>\r\nSubject: Hello\r\n\r\nHi\r\n",
            )
        with smtplib.SMTP_SSL(
            "127.0.0.1", self.place.ports["submissions"], timeout=20, context=context
        ) as client:
            client.login("alice@example.org", PASSWORD)
            client.sendmail(
                "alice@example.org",
                "bob@example.com",
                "From: alice@example.org\r\nSubject: Waits\r\n\r\nHi\r\n",
            )
        end = time.monotonic() + READY_S
        while not any(each["attempts"] for each in self.waiting()):
            assert time.monotonic() < end, (
                self.waiting(),
                (self.place.folder / "output" / "server").read_text(),
            )
            time.sleep(0.2)
        time.sleep(1.2)  # what happened is written once a second

    def waiting(self) -> list[dict[str, object]]:
        code, printed = self.place.run("pillarbox queue list --json")
        assert code == 0, printed
        return json.loads(printed)


def make_template(place: Place, dns: SmallDns) -> tuple[Path, str]:
    """A data folder to copy, and the queue id of the mail that waits."""
    server = Server(place, dns)
    place.own()
    code, printed = place.run(SETUP.format(password=PASSWORD))
    assert code == 0, printed
    server.start()
    server.fill()
    (waiting,) = server.waiting()
    server.stop()
    return place.folder, str(waiting["queue_id"])


def copy(template: Path, place: Place, dns: SmallDns) -> Server:
    """A server of its own with all that the template has."""
    server = Server(place, dns)
    shutil.copytree(template / "var" / "lib" / "pillarbox", server.data)
    for name in ("password", "first-password"):
        shutil.copy(template / name, place.folder)
    place.own()
    return server
