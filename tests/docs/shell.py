"""Runs the shell lines of a page in a folder of its own, and compares what they print with what the page shows.

A page names paths and ports that a test must not touch; each is replaced by one in the folder, or by a free port,
before a line is run, and put back in what it prints.
"""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pages import ROOT, Block
from tests.ports import free_ports

NOBODY = 65534
TIMEOUT_S = 60
QUIET_S = 0.4
SHELL = ("bash", "-euo", "pipefail", "-c")
READY_S = 30

PATHS = (
    "/etc/pillarbox",
    "/var/lib/pillarbox",
    "/var/backups/pillarbox",
    "/var/spool/pillarbox",
    "/usr/sbin/sendmail",
    "/usr/local/bin/pillarbox",
)
PORTS = {
    "smtp": (25, 2525),
    "submission": (587, 2587),
    "submissions": (465, 2465),
    "imap": (143, 2143),
    "imaps": (993, 2993),
    "pop3": (110, 2110),
    "pop3s": (995, 2995),
    "metrics": (9090,),
    "lmtp": (24,),
}
"""How pages call the ports of a server."""

_COMMAND = """#!{python}
import sys
from pillarbox.cli import main
if "demo" in sys.argv[1:2]:
    from pillarbox.app import demo
    demo.PORTS = {ports}
sys.argv[0] = "pillarbox"
main()
"""

_MAKE = """#!/bin/sh
# What the Makefile says that `make run` does, with the command that is there already.
set -e
[ "$*" = run ]
{make} --no-print-directory -n -C {root} run | tail -1 | grep -qx '.venv/bin/pillarbox demo'
exec pillarbox demo
"""

_SHAPES = (
    (re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z| UTC)?)?"), "DATE"),
    (re.compile(r"\b\d{8}\b"), "DATE"),
    (re.compile(r"\b0[0-9A-Z]{15}\b"), "ID"),
    (re.compile(r"(?<= )\d+[smh](?= )"), "AGE"),
    (re.compile(r"\b(?:\d+|\d+\.\d+|\d+,\d+)( ?(?:ms|s|min|h|d|KiB|MiB|GiB|octets)\b)"), r"N\1"),
    (re.compile(r"\b(process|port) \d+"), r"\1 N"),
    # Of other hosts, which are played here
    (re.compile(r"(?<= \[)(?:127\.0\.0|192\.0\.2)\.\d+\]"), "ADDRESS]"),
    (re.compile(r"(?<=ADDRESS\]:)\d+"), "N"),
    (re.compile(r"^(\d+ +)\d{2,7}(?= )"), r"\1N"),  # a worker's process
    (re.compile(r"[ \t]+"), " "),
)
"""What differs from run to run."""


def rights() -> dict[str, Any]:
    """Of the commands: never root's."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


class Place:
    """A folder with a home, a `pillarbox` in its PATH, and what runs in it; commands run as no root's."""

    def __init__(self, folder: Path, *, is_demo: bool = False) -> None:
        self.folder = folder
        self._shown_port = -1 if is_demo else 0
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.ids: dict[str, str] = {}
        """Queue ids of pages, and what they are here."""
        self._running: list[tuple[Block, subprocess.Popen[bytes], Path]] = []
        self._started: list[subprocess.Popen[bytes]] = []
        programs = folder / "usr" / "local" / "bin"
        demo = {name: self.ports[name] for name in PORTS if name not in ("metrics", "lmtp")}
        self._write(programs / "pillarbox", _COMMAND.format(python=sys.executable, ports=demo))
        self._write(programs / "make", _MAKE.format(root=ROOT, make=shutil.which("make")))
        self._write(folder / ".venv" / "bin" / "pillarbox", '#!/bin/sh\nexec pillarbox "$@"\n')
        for path in PATHS:
            self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path("/etc/pillarbox").mkdir()
        for name in ("backups", "spool"):
            self.path(f"/var/{name}/pillarbox").mkdir()
        (folder / "output").mkdir()
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "300",
        }
        self.own()

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def path(self, shown: str) -> Path:
        """Where a path of a page is."""
        return self.folder / shown.removeprefix("/")

    def own(self) -> None:
        """Give the folder to the user who runs commands."""
        if os.geteuid() == 0:
            for each in (self.folder, *self.folder.rglob("*")):
                os.chown(each, NOBODY, NOBODY, follow_symlinks=False)

    def start(self, command: list[str], output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **rights(),
            )
        self._started.append(process)
        return process

    def run(self, text: str) -> tuple[int, str]:
        """Exit code and output (both streams) of lines for a shell."""
        done = subprocess.run(
            [*SHELL, text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            **rights(),
        )
        return done.returncode, done.stdout

    def run_at_terminal(self, text: str, typed: str) -> tuple[int, str]:
        """The same at a terminal: a line, or a last key, is typed when nothing was printed for a while."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["setsid", "--ctty", *SHELL, text],
            cwd=self.folder,
            env=self.environment | {"TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            **rights(),
        )
        os.close(theirs)
        keys = typed.encode().decode("unicode_escape").splitlines(keepends=True)
        printed, has_printed = b"", False
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            if select.select([ours], [], [], QUIET_S)[0]:
                try:
                    printed += os.read(ours, 65536)
                except OSError:  # the last program has closed it
                    break
                has_printed = True
            elif has_printed and keys:
                os.write(ours, keys.pop(0).encode())
                has_printed = False
        os.close(ours)
        return process.wait(TIMEOUT_S), printed.decode("utf-8", "replace")

    def here(self, text: str) -> str:
        """Lines of a page with paths, ports and queue ids of this place."""
        for path in PATHS:
            text = re.sub(rf"(?<![\w./]){path}(?!\w)", str(self.path(path)), text)
        for service, shown in PORTS.items():
            for port in shown:
                here = str(self.ports[service])
                text = re.sub(rf"(?<=[\w.\]]:){port}\b", here, text)
                text = re.sub(rf"(?m)^([Pp]ort +){port}$", rf"\g<1>{here}", text)
        for shown_id in re.findall(r"\b02H[0-9A-Z]{13}\b", text):
            text = text.replace(shown_id, self.ids[shown_id])
        text = re.sub(r"(?m)^([Hh]ost +)mail\.example\.org$", r"\1localhost", text)
        return text.replace("mail.example.org:", "127.0.0.1:")

    def shown(self, text: str) -> str:
        """What was printed, as a page would show it."""
        text = text.replace(str(self.folder / "etc"), "/etc").replace(
            str(self.folder / "var"), "/var"
        )
        for service, port in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(PORTS[service][self._shown_port]), text)
        return text.replace("\r\n", "\n")

    def play(self, block: Block) -> None:
        """Run a block as its marks say; AssertionError tells what was printed."""
        if "background" in block.marks:
            self._play_in_background(block)
            return
        typed = block.marks.get("typed")
        expected_code = int(block.marks.get("exit", "0"))
        commands = [(block.text, None)] if block.language == "sh" else dialogue(block.text)
        for command, output in commands:
            here = self.here(command)
            code, printed = self.run(here) if typed is None else self.run_at_terminal(here, typed)
            printed = self.shown(printed)
            assert code == expected_code, f"{block}: exit code {code} of\n{command}\n{printed}"
            if output is not None:
                assert fits(printed, output), f"{block}: another output of\n{command}\n{printed}"

    def _play_in_background(self, block: Block) -> None:
        ((command, output),) = dialogue(block.text)
        log = self.folder / "output" / f"{len(self._running)}"
        process = self.start(["bash", "-c", f"exec {self.here(command)}"], log)
        self._running.append((block, process, log))
        end = time.monotonic() + READY_S
        while not fits(self.shown(log.read_text()), output):
            assert process.poll() is None, f"{block}: {log.read_text()}"
            assert time.monotonic() < end, f"{block}: another output: {self.shown(log.read_text())}"
            time.sleep(0.05)

    def end(self) -> None:
        """Ctrl-C for all that runs, which must then end well."""
        failures = []
        for block, process, log in self._running:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(READY_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            if code:
                failures.append(f"{block}: ended with {code}: {log.read_text()}")
        for process in self._started:
            if process.poll() is None:  # what a failed test left
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not failures, "\n".join(failures)


def dialogue(text: str) -> list[tuple[str, str]]:
    """Each command of a console with what is shown of its output."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> ") and not found[-1][1]:
            found[-1] = (found[-1][0] + line[2:], "")
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def fits(printed: str, shown: str) -> bool:
    """Whether an output is as a page shows it: `...` is anything in a line, or any lines; dates, ids, sizes, and white
    space between words may differ."""
    pattern = ""
    for line in shown.splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in shape(line).split("...")) + r"\n"
    lines = "".join(f"{shape(line)}\n" for line in printed.splitlines())
    return re.fullmatch(pattern + r"\s*", lines) is not None


def shape(line: str) -> str:
    for pattern, instead in _SHAPES:
        line = pattern.sub(instead, line)
    return line.strip()
