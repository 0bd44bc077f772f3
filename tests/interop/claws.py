"""Claws Mail on a display of its own (Xvfb), driven by its own command line; its files are written beforehand."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

COMMAND_S = 20.0
WAIT_S = 20.0

_KINDS = {"pop3": 0, "imap": 3}
_SECURITY = {"plain": 0, "tls": 1, "starttls": 2}

_ACCOUNT = """[Account: 1]
account_name=Test
is_default=1
name=User
address={address}
protocol={kind}
receive_server=localhost
smtp_server=localhost
user_id={address}
smtp_user_id={address}
use_smtp_auth=1
smtp_auth_method=16
ssl_imap={security}
ssl_pop={security}
ssl_smtp={security}
set_imapport=1
imap_port={port}
set_popport=1
pop_port={port}
inbox=#mh/Mailbox/inbox
remove_mail=1
message_leave_time=0
set_smtpport=1
smtp_port={smtp}
receive_at_get_all=1
filter_on_receive=1
set_sent_folder={is_imap}
sent_folder=#imap/Test/Sent
set_queue_folder=1
queue_folder=#mh/Mailbox/queue
"""

_COMMON = """[Common]
work_offline=0
receive_dialog_mode=2
no_receive_error_panel=1
"""

# The IMAP account has no folders here, so the program asks the server for them.
_FOLDERS = """<?xml version="1.0" encoding="UTF-8"?>
<folderlist>
  <folder type="mh" name="Mailbox" path="{path}">
    <folderitem type="inbox" name="inbox" path="inbox" />
    <folderitem type="outbox" name="sent" path="sent" />
    <folderitem type="draft" name="draft" path="draft" />
    <folderitem type="queue" name="queue" path="queue" />
    <folderitem type="trash" name="trash" path="trash" />
  </folder>
</folderlist>
"""

# What the program itself puts before a message in its queue.
_QUEUED = """AF:
NF:0
PS:10
SRH:1
SFN:
DSR:
MID:
CFG:
PT:0
S:{sender}
RQ:
SSV:localhost
NSV:
SSH:
R:<{recipient}>
MAID:1
SCF:#imap/Test/Sent
X-Claws-End-Special-Headers: 1
"""


class Claws:
    """One running program with its files in `folder`; `rules` are lines of its filter (matcherrc)."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str,
        password: str,
        ports: dict[str, int],
        transport: str,
        certificate: bytes,
        rules: str = "",
    ) -> None:
        """`ports` of smtp and of imap or pop3; the password has no spaces, which its file cannot hold in the clear;
        the server's certificate is in DER."""
        self._config = folder / "claws"
        self._mail = folder / "mail"
        protocol = "imap" if "imap" in ports else "pop3"
        (self._config / "certs").mkdir(parents=True)
        for name in ("inbox", "sent", "draft", "queue", "trash"):
            (self._mail / name).mkdir(parents=True)
        self._write(
            "accountrc",
            _ACCOUNT.format(
                address=address,
                security=_SECURITY[transport],
                kind=_KINDS[protocol],
                is_imap=int(protocol == "imap"),
                port=ports[protocol],
                smtp=ports["smtp"],
            ),
        )
        self._write("passwordstorerc", f"[account:1]\nrecv {password}\nsend {password}\n")
        self._write("clawsrc", _COMMON)
        self._write("folderlist.xml", _FOLDERS.format(path=self._mail))
        self._write("matcherrc", f"[filtering]\n{rules}")
        for port in ports.values():  # a certificate that it does not know, it asks about
            (self._config / f"certs/localhost.{port}.cert").write_bytes(certificate)
        # Its socket is in here; a socket's path has at most 108 bytes.
        self._runtime = Path(tempfile.mkdtemp(prefix="claws-"))
        self._log = (folder / "claws.log").open("wb")
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._environment = {
                "HOME": str(folder),
                "PATH": os.environ["PATH"],
                "LC_ALL": "C.UTF-8",
                "XDG_RUNTIME_DIR": str(self._runtime),
                "DBUS_SESSION_BUS_ADDRESS": "disabled:",
                "NO_AT_BRIDGE": "1",
                "DISPLAY": self._start_display(),
            }
            self._start(*self._program, "--online")
            self._wait_for("its socket", lambda: any(self._runtime.glob("claws-mail/*")))
            self._wait_for(
                "the folders",
                lambda: protocol == "pop3" or "Trash" in self.status(),
            )
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> "Claws":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._end()

    def run(self, *command: str) -> str:
        """What the running program answers to a command; it has not always done by then what it was told."""
        done = subprocess.run(
            [*self._program, *command],
            stdout=subprocess.PIPE,
            stderr=self._log,
            timeout=COMMAND_S,
            env=self._environment,
        )
        assert done.returncode == 0, self.log()
        return done.stdout.decode()

    def status(self) -> dict[str, tuple[int, int, int]]:
        """New, unread and all messages, as the program knows them, of each folder of the account."""
        lines = re.findall(
            r"^ *(\d+) +(\d+) +(\d+) #imap/Test/(.*)$", self.run("--status-full"), re.MULTILINE
        )
        return {name: (int(new), int(unread), int(total)) for new, unread, total, name in lines}

    def queue(self, message: str, sender: str, recipient: str) -> None:
        """Put a message (with LF) where the program looks for what is to be sent."""
        octets = _QUEUED.format(sender=sender, recipient=recipient) + message
        (self._mail / "queue" / "1").write_text(octets)

    def fetched(self) -> list[str]:
        """What came by POP3 is in files here."""
        return sorted(path.read_text() for path in (self._mail / "inbox").glob("[0-9]*"))

    def log(self) -> str:
        """What was said on the wire, without literals, and what the program said of it."""
        path = self._config / "claws.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def _program(self) -> tuple[str, ...]:
        return ("claws-mail", "--alternate-config-dir", str(self._config))

    def _write(self, name: str, text: str) -> None:
        (self._config / name).write_text(text)

    def _start_display(self) -> str:
        """Xvfb chooses a number that nobody has, and says it once it listens."""
        reader, writer = os.pipe()
        with open(reader, "rb") as told:
            try:
                self._start(
                    "Xvfb", "-displayfd", str(writer), "-nolisten", "tcp", pass_fds=(writer,)
                )
            finally:
                os.close(writer)
            number = told.readline().decode().strip()
        assert number, "Xvfb did not start"
        return f":{number}"

    def _start(self, *command: str, pass_fds: tuple[int, ...] = ()) -> None:
        environment = getattr(self, "_environment", {"PATH": os.environ["PATH"]})
        self._processes.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
            )
        )

    def _wait_for(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not is_so():
            assert self._processes[-1].poll() is None, Path(self._log.name).read_text()
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.log()}"
            time.sleep(0.1)

    def _end(self) -> None:
        """The program first, then its display."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()
        shutil.rmtree(self._runtime)


def is_installed() -> bool:
    return all(shutil.which(name) is not None for name in ("claws-mail", "Xvfb"))
