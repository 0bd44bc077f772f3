"""Evolution's mail library in a process of its own (camel.py): each call is a line of JSON there, and one back."""

import json
import os
import queue
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

PYTHON = "/usr/bin/python3"
CALL_S = 20.0

_CHECK = """
import gi
gi.require_version("Camel", "1.2")
from gi.repository import Camel
Camel.provider_init()
Camel.provider_get("imapx")
Camel.provider_get("smtp")
Camel.Folder.get_uids, Camel.Folder.search_by_expression
"""


class Evolution:
    """One running library with its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        runtime = folder / "runtime"
        runtime.mkdir(mode=0o700)
        self._log_path = folder / "evolution.log"
        self._log = self._log_path.open("wb")
        self._process = subprocess.Popen(
            [PYTHON, "-I", str(Path(__file__).with_name("camel.py")), str(folder / "camel")],
            env={
                "HOME": str(folder),
                "PATH": os.environ["PATH"],
                "LC_ALL": "C.UTF-8",
                "XDG_RUNTIME_DIR": str(runtime),
                "DBUS_SESSION_BUS_ADDRESS": "disabled:",
                "GSETTINGS_BACKEND": "memory",
                "CAMEL_DEBUG": "imapx:io",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> "Evolution":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.kill()  # whatever it waits for
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            pipe.close()

    def call(self, name: str, *arguments: Any) -> Any:
        """What a method of `Account` (camel.py) returns."""
        self._process.stdin.write(json.dumps((name, arguments)).encode() + b"\n")
        self._process.stdin.flush()
        line = self._answers.get(timeout=CALL_S)
        assert line, f"it ended: {self.log()[-2000:]}"
        told = json.loads(line)
        assert "failed" not in told, (told, self.log()[-2000:])
        return told["value"]

    def log(self) -> str:
        """What was said on the wire, but logins."""
        return self._log_path.read_text(errors="replace")

    def _read(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")


def is_installed() -> bool:
    """With what camel.py uses, which newer versions may not have."""
    if not Path(PYTHON).exists():
        return False
    return (
        subprocess.run(
            [PYTHON, "-I", "-c", _CHECK], stderr=subprocess.DEVNULL, timeout=60
        ).returncode
        == 0
    )
