"""The log of a running server: a line for each event, the lines of one turn of the event loop in one write."""

import asyncio
import logging
import sys
import time
from contextlib import suppress

_FORMAT_STACK = logging.Formatter().formatException


class LineHandler(logging.Handler):
    """One line for each event, whatever strangers put into it; only the stack of a bug has more. What is logged on the
    event loop is written at its next turn, all else at once."""

    def __init__(self) -> None:
        super().__init__()
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
        message = record.getMessage()
        if not message.isprintable():
            message = message.encode("unicode_escape").decode("ascii")
        stack = f"{_FORMAT_STACK(record.exc_info)}\n" if record.exc_info else ""
        head = f"{self._moment}.{int(record.msecs):03d}Z {record.levelname} {record.name}"
        return f"{head}: {message}\n{stack}"

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._write("".join(lines))

    def _write(self, text: str) -> None:
        with suppress(OSError):  # nobody can be told
            sys.stderr.write(text)
            sys.stderr.flush()


def log_to_stderr(level: int = logging.INFO) -> None:
    """Of the process; for `serve` and `demo`."""
    # Lines name neither caller, thread nor process, so nobody looks them up (half the cost of a line).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger("pillarbox")
    root.handlers = [LineHandler()]
    root.setLevel(level)
    root.propagate = False
