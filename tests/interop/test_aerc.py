"""aerc, driven by keys in a terminal: it lists, marks, moves and copies mail by IMAP."""

import fcntl
import imaplib
import os
import pty
import select
import shutil
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

MESSAGES = tuple(
    b"From: carol@example.net\r\nSubject: letter-%s\r\n\r\nHello\r\n" % word
    for word in (b"alpha", b"beta", b"gamma")
)
WAIT_S = 60.0


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._shown = b""
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            os.execvpe(command[0], command, environment)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))

    def _read(self, seconds: float) -> bool:
        """False at the end."""
        if select.select([self._terminal], [], [], seconds)[0]:
            try:
                self._shown += os.read(self._terminal, 65536)
            except OSError:
                return False
        return True

    def wait_until(self, is_so: Callable[[bytes], bool]) -> None:
        """Asks with what was shown since the last keys; who does not read it on stops the program."""
        deadline = time.monotonic() + WAIT_S
        while not is_so(self._shown):
            assert time.monotonic() < deadline, self._shown[-3000:]
            assert self._read(0.2), self._shown[-3000:]

    def rest(self) -> None:
        """Until it has shown nothing for half a second: what it shows, and takes the next keys for, comes behind what
        it told the server to do."""
        deadline = time.monotonic() + 3
        while select.select([self._terminal], [], [], 0.5)[0] and time.monotonic() < deadline:
            assert self._read(0), self._shown[-3000:]

    def type(self, keys: str) -> None:
        self._shown = b""
        os.write(self._terminal, keys.encode())

    def end(self) -> int:
        deadline = time.monotonic() + WAIT_S
        while self._read(0.2):
            if time.monotonic() > deadline:
                os.kill(self.process, 9)
                break
        os.close(self._terminal)
        return os.waitpid(self.process, 0)[1]


def test_aerc_moves_copies_and_deletes(user, tmp_path: Path) -> None:
    if shutil.which("aerc") is None:
        pytest.skip("aerc is not installed")
    user.receive(*MESSAGES)
    folder = tmp_path / ".config" / "aerc"
    folder.mkdir(parents=True)
    name, password = user.address.replace("@", "%40"), user.password.replace(" ", "%20")
    accounts = folder / "accounts.conf"
    accounts.write_text(
        f"[test]\nsource = imaps://{name}:{password}@localhost:{user.port('imap', 'tls')}\n"
        f"default = INBOX\nfrom = {user.address}\ncache-headers = false\n"
    )
    accounts.chmod(0o600)
    terminal = Terminal(
        ["aerc"],
        {
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
            "SSL_CERT_FILE": str(user.ca_file),
        },
    )
    with imaplib.IMAP4_SSL(
        "localhost", user.port("imap", "tls"), ssl_context=user.server.client_context()
    ) as client:
        client.login(user.address, user.password)
        terminal.wait_until(lambda shown: all(message.split()[3] in shown for message in MESSAGES))
        terminal.type(":select 0\r:move Archive\r")  # the newest is on top
        assert wait_for_mail(terminal, client, "Archive", 1) == [b"Subject: letter-gamma"]
        terminal.type(":select 0\r:copy Sent\r")
        assert wait_for_mail(terminal, client, "Sent", 1) == [b"Subject: letter-beta"]
        terminal.type(":select -1\r:delete\r")
        assert wait_for_mail(terminal, client, "INBOX", 1) == [b"Subject: letter-beta"]
        terminal.type(":quit\r")
        assert terminal.end() == 0


def wait_for_mail(
    terminal: Terminal, client: imaplib.IMAP4, mailbox: str, count: int
) -> list[bytes]:
    """The Subject fields in a mailbox once it has so many messages."""
    wanted = b"%d)" % count
    terminal.wait_until(
        lambda _: client.status(mailbox, "(MESSAGES)")[1][0].rpartition(b" ")[2] == wanted
    )
    terminal.rest()
    client.select(mailbox, readonly=True)
    _, rows = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    return [row[1].strip() for row in rows if isinstance(row, tuple)]
