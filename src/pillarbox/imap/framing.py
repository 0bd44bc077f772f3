"""Stage 1 of parsing IMAP commands: lines and literals (RFC 3501 §2.2.1, §4.3, RFC 7888 §3).

A command is a line, or lines joined by literals. CRLF ends a line, and so does a bare LF, since people type into
`openssl s_client`. The framer knows no grammar and no limits for literals: at each literal's header it stops and
asks, and whatever its caller decides, it finds the start of the next command again.
"""

from dataclasses import dataclass
from enum import Enum

_HUGE = 10**18
"""What a literal's size is taken for if it has more digits than anyone means."""

_TAIL = 64
"""Octets kept of an overlong line, to see whether it ends in a literal's header."""


@dataclass(slots=True)
class Frame:
    """A complete command. In `text` each literal is its header as it came and LF, `{5}\\n`; LF occurs nowhere
    else. `literals` are their octets, in order."""

    text: bytes
    literals: list[bytes]


@dataclass(slots=True)
class LiteralHeader:
    """A line ended in `{size}` or, not synchronising, `{size+}`. `text` is the command so far, as in Frame.

    `literals` are those before it, `total` the octets of all, this one included. Before anything else is
    read, call one of `accept_literal`, `stream_literal`, `refuse_literal`.
    """

    text: bytes
    literals: list[bytes]
    size: int
    total: int
    synchronising: bool


@dataclass(slots=True)
class LineTooLong:
    """The line is over its limit; `text` is how the command begins. The rest is skipped, up to its end."""

    text: bytes


class _Reading(Enum):
    LINE = 1
    LITERAL = 2
    STREAM = 3
    SKIPPED_LITERAL = 4
    SKIPPED_LINE = 5


class Framer:
    """Cuts what is fed into commands."""

    __slots__ = (
        "_buffer",
        "_in_command",
        "_left",
        "_literal_octets",
        "_literals",
        "_reading",
        "_scanned",
        "_text",
    )

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # octets at the start of the buffer that hold no LF
        self._reading = _Reading.LINE
        self._left = 0  # octets of the present literal that are still to come
        self._in_command = True  # whether the line being skipped belongs to a command
        self._text = b""
        self._literals: list[bytes] = []
        self._literal_octets = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def buffered(self) -> int:
        """Octets fed and not consumed."""
        return len(self._buffer)

    def starts_with(self, prefix: bytes) -> bool:
        return self._buffer.startswith(prefix)

    def clear(self) -> None:
        """Forget everything fed."""
        self._buffer.clear()
        self._scanned = 0
        self._next_command()

    # Commands

    def next_command(self, limit: int) -> Frame | LiteralHeader | LineTooLong | None:
        """Of at most `limit` octets without its literals; None: more input is needed."""
        if not self._ready():
            return None
        line = self._take_line(max(0, limit - len(self._text)))
        if line is None:
            return None
        if isinstance(line, LineTooLong):
            line.text = self._text + line.text
            self._skip_line(in_command=True)
            return line
        header = _literal_header(line)
        if header is None:
            frame = Frame(self._text + line, self._literals)
            self._next_command()
            return frame
        self._left, synchronising = header
        self._text += line + b"\n"
        total = self._literal_octets + self._left
        return LiteralHeader(self._text, self._literals, self._left, total, synchronising)

    def accept_literal(self) -> None:
        """Make the literal part of the command's frame."""
        self._reading = _Reading.LITERAL
        self._literal_octets += self._left

    def stream_literal(self) -> None:
        """Let `take_chunk` have the literal; it leaves only its header in the frame."""
        self._reading = _Reading.STREAM

    def refuse_literal(self, synchronising: bool) -> None:
        """Drop the command. The octets of a literal that does not synchronise come all the same, and so does the
        rest of the command: they are skipped. Those of one that does are not sent (RFC 3501 §7.5)."""
        if synchronising:
            self._next_command()
        else:
            self._reading = _Reading.SKIPPED_LITERAL

    def refuse_rest(self) -> None:
        """Drop the command within a streamed literal: skip what is left of it."""
        self._reading = _Reading.SKIPPED_LITERAL

    def take_chunk(self) -> bytes | None:
        """What there is of the streamed literal, None if nothing; `b""` once, at its end."""
        if not self._left:
            self._reading = _Reading.LINE
            return b""
        buffer = self._buffer
        if not buffer:
            return None
        if len(buffer) <= self._left:
            chunk = bytes(buffer)
            buffer.clear()
        else:
            chunk = bytes(buffer[: self._left])
            del buffer[: self._left]
        self._left -= len(chunk)
        return chunk

    # Lines outside of commands

    def next_line(self, limit: int) -> bytes | LineTooLong | None:
        """A line of at most `limit` octets that is not a command, without its end; None: not yet complete."""
        if not self._ready():
            return None
        line = self._take_line(limit)
        if isinstance(line, LineTooLong):
            self._skip_line(in_command=False)
        return line

    # How it is done

    def _ready(self) -> bool:
        """Whether the buffer now starts at a line: consumes literals and all that is to be skipped."""
        while self._reading is not _Reading.LINE:
            match self._reading:
                case _Reading.SKIPPED_LINE:
                    done = self._skip_to_line_end()
                case _Reading.SKIPPED_LITERAL:
                    done = self._skip_literal()
                case _:
                    done = self._take_literal()
            if not done:
                return False
        return True

    def _take_literal(self) -> bool:
        if len(self._buffer) < self._left:
            return False
        self._literals.append(bytes(self._buffer[: self._left]))
        del self._buffer[: self._left]
        self._reading = _Reading.LINE
        return True

    def _skip_literal(self) -> bool:
        skipped = min(self._left, len(self._buffer))
        del self._buffer[:skipped]
        self._left -= skipped
        if self._left:
            return False
        self._skip_line(in_command=True)
        return True

    def _take_line(self, limit: int) -> bytes | LineTooLong | None:
        buffer = self._buffer
        end = buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(buffer)
            # One more octet than the limit can be the CR of an end of line that is still on its way.
            return LineTooLong(bytes(buffer[:limit])) if len(buffer) > limit + 1 else None
        length = end - 1 if end and buffer[end - 1] == 13 else end
        if length > limit:
            self._scanned = end
            return LineTooLong(bytes(buffer[:limit]))
        line = bytes(buffer[:length])
        del buffer[: end + 1]
        self._scanned = 0
        return line

    def _skip_line(self, in_command: bool) -> None:
        self._reading = _Reading.SKIPPED_LINE
        self._in_command = in_command

    def _skip_to_line_end(self) -> bool:
        """False: it has not come yet. After a command's line the next piece may have to be skipped, too."""
        buffer = self._buffer
        end = buffer.find(b"\n", self._scanned)
        if end < 0:
            del buffer[:-_TAIL]
            self._scanned = len(buffer)
            return False
        # RFC 7888 §3: the end of every line MUST be looked at
        header = None
        if self._in_command:
            header = _literal_header(bytes(buffer[max(0, end - _TAIL) : end]).removesuffix(b"\r"))
        del buffer[: end + 1]
        self._scanned = 0
        if header is None or header[1]:
            self._next_command()
        else:
            self._left = header[0]
            self._reading = _Reading.SKIPPED_LITERAL
        return True

    def _next_command(self) -> None:
        self._reading = _Reading.LINE
        self._left = 0
        self._text = b""
        self._literals = []
        self._literal_octets = 0


def _literal_header(line: bytes) -> tuple[int, bool] | None:
    """Size and whether it synchronises, if the line ends in a literal's header."""
    if not line.endswith(b"}"):
        return None
    synchronising = not line.endswith(b"+}")
    start = line.rfind(b"{")
    digits = line[start + 1 : -1 if synchronising else -2]
    if start < 0 or not digits.isdigit():
        return None
    return (int(digits) if len(digits) <= 18 else _HUGE), synchronising
