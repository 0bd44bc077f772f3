"""The log of a running server: a line for each event, the lines of one turn of the event loop in one write.

Lines are text, or JSON objects with a field for each value. What is about a message begins with "id=" and its queue id;
what is about a session, with its id and the client's address. Whoever writes such lines writes them so.
"""

import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from pillarbox.core.said import Said, SaidAddresses
from pillarbox.net.connection import SESSION

_FORMAT_STACK = logging.Formatter().formatException

_OF_SESSIONS = frozenset(
    f"pillarbox.{name}" for name in ("net", "smtpd", "imapd", "pop3d", "auth", "delivery")
)
"""What logs there within the answer to an event, is about its session."""

_VALUE = re.compile(r"%[sdr]|%\.\d+f")
_NAME = re.compile(r"(\w+)=<?$")
_FIELDS = {"id": "queue_id", "connection": "session"}
"""Names in JSON, where they are others than in text."""


def _names(template: str) -> list[tuple[int, str]]:
    """Which argument of a line's template is what: "%s %s: id=%s" has (0, "session"), (1, "client"),
    (2, "queue_id")."""
    found = []
    if template.startswith("%s %s: "):
        found += [(0, "session"), (1, "client")]
    for index, value in enumerate(_VALUE.finditer(template)):
        if named := _NAME.search(template, 0, value.start()):
            found.append((index, _FIELDS.get(named[1], named[1])))
    return found


class JsonLines:
    """Formats records as JSON objects: time, level, logger, pid, message, and what the line has names for."""

    def __init__(self) -> None:
        self._names: dict[str, list[tuple[int, str]]] = {}
        """By template: there are as many as there are places that log."""
        self._pid = os.getpid()

    def format(self, record: logging.LogRecord, moment: str) -> str:
        line: dict[str, Any] = {
            "time": moment,
            "level": record.levelname,
            "logger": record.name,
            "pid": self._pid,
        }
        session = SESSION.get() if record.name in _OF_SESSIONS else ""
        if session:
            line["session"] = session
        names = self._names.get(record.msg)
        if names is None:
            names = self._names[record.msg] = _names(record.msg)
        arguments = record.args
        if isinstance(arguments, tuple):
            for index, name in names:
                value = arguments[index]
                if isinstance(value, Said | SaidAddresses):
                    value = value.text
                line[name] = value if isinstance(value, int | float) else str(value)
        line["message"] = record.getMessage()
        if record.exc_info:
            line["stack"] = _FORMAT_STACK(record.exc_info)
        try:
            return msgspec.json.encode(line).decode() + "\n"
        except UnicodeEncodeError:  # a lone surrogate: octets of a peer that were no UTF-8
            return json.dumps(line) + "\n"


def _text(record: logging.LogRecord, moment: str) -> str:
    message = record.getMessage()
    if not message.isprintable():
        message = message.encode("unicode_escape").decode("ascii")
    stack = f"{_FORMAT_STACK(record.exc_info)}\n" if record.exc_info else ""
    return f"{moment} {record.levelname} {record.name}: {message}\n{stack}"


class LineHandler(logging.Handler):
    """One line for each event, whatever strangers put into it; only the stack of a bug has more (in text). What is
    logged on the event loop is written at its next turn, all else at once."""

    def __init__(self, line_of: Callable[[logging.LogRecord, str], str] = _text) -> None:
        """`line_of` makes a line of a record and its time."""
        super().__init__()
        self._line_of = line_of
        self._lines: list[str] = []
        self._second = -1
        self._moment = ""
        """The second, formatted: thousands of lines share it."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the lock: appending to a list is atomic, and so is a write of lines."""
        line = self.format(record)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write(line)
            return True
        if not self._lines:
            loop.call_soon(self.flush)
        self._lines.append(line)
        return True

    def format(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return self._line_of(record, f"{self._moment}.{int(record.msecs):03d}Z")

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._write("".join(lines))

    def _write(self, text: str) -> None:
        with suppress(OSError):  # nobody can be told
            sys.stderr.write(text)
            sys.stderr.flush()


def log_to_stderr(kind: str = "text") -> None:
    """Of the process; for `serve` and `demo`. `kind` is that of `log_format` in the configuration."""
    # Lines name neither caller, thread nor process, so nobody looks them up (half the cost of a line).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger("pillarbox")
    root.handlers = [LineHandler(JsonLines().format if kind == "json" else _text)]
    root.setLevel(logging.INFO)
    root.propagate = False
