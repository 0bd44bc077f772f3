"""Framing of command lines: only CRLF ends a line (RFC 5321 §2.3.8).

A bare CR or LF stays inside the line, so that the grammar refuses it. Memory is bounded by the longest
line allowed plus what one read brought; an overlong line is dropped as it comes.
"""

from enum import Enum


class BadLine(Enum):
    """What `CommandLines.next_line` returns instead of a line that it does not give out."""

    TOO_LONG = "too long"
    ENDLESS = "endless"
    """Over `MAX_DROPPED_OCTETS`: whoever sends this does not speak SMTP."""


TOO_LONG = BadLine.TOO_LONG
ENDLESS = BadLine.ENDLESS

MAX_DROPPED_OCTETS = 1 << 20


class CommandLines:
    """The input buffer of an engine: lines come out of the front; mail data is taken whole."""

    __slots__ = ("_buffer", "_dropped", "_searched", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0  # everything before is consumed
        self._searched = 0  # no CRLF begins before
        self._dropped = 0  # octets of the present line that were dropped

    def __len__(self) -> int:
        """Octets that wait to be taken."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        if self._start == len(self._buffer):
            self._buffer = data
            self._searched = 0
        else:
            self._buffer = self._buffer[self._start :] + data
            self._searched -= self._start
        self._start = 0

    def next_line(self, limit: int) -> bytes | BadLine | None:
        """The next line without its CRLF, None if it is not complete. `limit` counts the CRLF."""
        if self._start == len(self._buffer):
            if self._start:
                self._buffer = b""
                self._start = self._searched = 0
            return None
        end = self._buffer.find(b"\r\n", self._searched)
        if end < 0:
            return self._partial(limit)
        line = self._buffer[self._start : end]
        self._start = self._searched = end + 2
        size = self._dropped + len(line) + 2
        self._dropped = 0
        if size <= limit:
            return line
        return TOO_LONG if size <= MAX_DROPPED_OCTETS else ENDLESS

    def _partial(self, limit: int) -> BadLine | None:
        # Consumed input goes now: an idle session shall hold none.
        self._buffer = self._buffer[self._start :]
        self._start = 0
        if self._dropped or len(self._buffer) > limit:
            # The last octet stays: it may be the CR of the line's end.
            self._dropped += len(self._buffer) - 1
            self._buffer = self._buffer[-1:]
        self._searched = max(0, len(self._buffer) - 1)
        return ENDLESS if self._dropped > MAX_DROPPED_OCTETS else None

    def take_up_to(self, size: int) -> bytes:
        """The next octets that wait, at most `size`, in one piece."""
        end = self._start + size
        if end >= len(self._buffer):
            return self.take()
        data = self._buffer[self._start : end]
        self._start = self._searched = end
        return data

    def take(self) -> bytes:
        """Everything that waits, in one piece."""
        data = self._buffer[self._start :]
        self.clear()
        return data

    def clear(self) -> None:
        self._buffer = b""
        self._start = self._searched = self._dropped = 0
