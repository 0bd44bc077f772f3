"""Framing of command lines: LF ends a line, and a CR before it belongs to the end.

DEVIATES: RFC 1939 §3 wants CRLF; people type into `openssl s_client`, which sends LF alone. Memory is
bounded by the longest line allowed plus what one read brought; an overlong line is dropped as it comes.
"""

from enum import Enum


class BadLine(Enum):
    """What `CommandLines.next_line` returns instead of a line that it does not give out."""

    TOO_LONG = "too long"
    ENDLESS = "endless"
    """Over `MAX_DROPPED_OCTETS`: whoever sends this does not speak POP3."""


TOO_LONG = BadLine.TOO_LONG
ENDLESS = BadLine.ENDLESS

MAX_DROPPED_OCTETS = 1 << 16


class CommandLines:
    """The input buffer of an engine."""

    __slots__ = ("_buffer", "_dropped", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0  # everything before is consumed
        self._dropped = 0  # octets of the present line that were dropped

    def __len__(self) -> int:
        """Octets that wait to be taken."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer[self._start :] + data
        self._start = 0

    def next_line(self, limit: int) -> bytes | BadLine | None:
        """The next line without its end, None if it is not complete. `limit` counts the end as CRLF."""
        end = self._buffer.find(b"\n", self._start)
        if end < 0:
            return self._partial(limit)
        line = self._buffer[self._start : end].removesuffix(b"\r")
        size = self._dropped + end + 1 - self._start
        self._start = end + 1
        if self._dropped == 0 and len(line) + 2 <= limit:
            return line
        self._dropped = 0
        return ENDLESS if size > MAX_DROPPED_OCTETS + 1 else TOO_LONG

    def _partial(self, limit: int) -> BadLine | None:
        # Consumed input goes now: an idle session shall hold none.
        self._buffer = self._buffer[self._start :]
        self._start = 0
        if self._dropped or len(self._buffer) > limit:
            self._dropped += len(self._buffer)
            self._buffer = b""
        return ENDLESS if self._dropped > MAX_DROPPED_OCTETS else None

    def clear(self) -> None:
        self._buffer = b""
        self._start = self._dropped = 0
