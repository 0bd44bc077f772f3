"""What a server says, cut into lines for who looks on: without messages, without challenges of logins.

Octets come in pieces cut anywhere; what is kept of a line is bounded, and so is the number of lines that are shown of
one piece. All that is not shown is counted.
"""

import re
from collections.abc import Callable

from pillarbox.core.engine import Heard

LONGEST_SHOWN = 4096
"""Octets of a line."""
MOST_LINES = 200
"""Of one piece: a listing of thousands of lines must not keep others waiting."""

MOST_STEPS = 2000
"""Lines and literals that are looked at of one piece. Behind more of them, nothing is shown until the next command."""

_TAIL = 40
_LITERAL = re.compile(rb"\{([0-9]{1,18})\+?\}$")
_LITERAL_LINE = re.compile(rb"\{[0-9]{1,18}\+?\}\r?\n")
_END = b"\r\n.\r\n"


class Answers:
    """Hears a server's answers. `mask` gets each line, and what is said about a literal stands in it already.

    Example, with literals: b"* 1 FETCH (BODY[] {2}\\r\\nhi)\\r\\n" -> [b"* 1 FETCH (BODY[] <2 octets>)"].
    """

    __slots__ = (
        "_at_dot",
        "_bodies_behind",
        "_body",
        "_command",
        "_hidden_tag",
        "_is_lost",
        "_line",
        "_mask",
        "_size",
        "_skip",
        "_tail",
        "_with_literals",
        "missed",
    )

    def __init__(
        self,
        mask: Callable[[bytes], bytes],
        *,
        with_literals: bool = False,
        bodies_behind: tuple[bytes, ...] = (),
        is_lost: bool = False,
    ) -> None:
        """`bodies_behind` are the commands (POP3) whose positive answer is followed by a message up to a dot.
        `is_lost`: the beginning may be in the middle of something; what comes before the next command is not shown."""
        self._mask = mask
        self._with_literals = with_literals
        self._bodies_behind = bodies_behind
        self._is_lost = is_lost
        self.missed = 0
        """Lines that were not shown, until somebody sets it to 0."""
        self._line = b""  # the beginning of the present line
        self._size = 0  # its octets so far
        self._tail = b""  # its last octets
        self._skip = 0  # octets of a literal that are still to come
        self._command = b""
        self._hidden_tag = b""
        self._body = -1  # octets of the message that comes; -1: none does
        self._at_dot = b""  # its last octets, where its end may begin

    def heard(self, line: Heard) -> None:
        """The client said this, and what follows answers it."""
        self._command = line.text.split(b" ", 1)[0].upper()
        self._hidden_tag = line.hidden_tag
        if self._is_lost:
            self._is_lost = False
            self._begin_line()
            self._skip, self._body = 0, -1

    def feed(self, octets: bytes) -> list[bytes]:
        """The lines that are whole now, as they may be shown, without their ends."""
        shown: list[bytes] = []
        if self._is_lost:
            return shown
        at = steps = 0
        while at < len(octets):
            steps += 1
            if steps > MOST_STEPS:
                self.missed += octets.count(b"\n", at)
                self._is_lost = True
                break
            if self._skip:
                step = min(self._skip, len(octets) - at)
                self._skip -= step
                at += step
            elif self._body >= 0:
                at = self._pass_body(octets, at, shown)
            elif len(shown) >= MOST_LINES and self._body < 0:
                at = self._pass_lines(octets, at)
            else:
                at = self._take_line(octets, at, shown)
        return shown

    def _take_line(self, octets: bytes, at: int, shown: list[bytes]) -> int:
        end = octets.find(b"\n", at)
        self._grow(octets[at:] if end < 0 else octets[at:end])
        if end < 0:
            return len(octets)
        literal = self._literal_ahead()
        if literal is not None:
            self._line = self._line.removesuffix(b"\r")
            cut = self._line.rfind(b"{")
            if self._size <= LONGEST_SHOWN and cut >= 0:
                self._line = b"%b<%d octets>" % (self._line[:cut], literal)
                self._size = len(self._line)
            self._tail = b""
            self._skip = literal
            return end + 1
        line = self._line if self._size > LONGEST_SHOWN else self._line.removesuffix(b"\r")
        over = self._size - LONGEST_SHOWN
        if over > 0:
            line += b"<%d octets more>" % over
        self._begin_line()
        shown.append(self._masked(line))
        if self._command in self._bodies_behind and line.startswith(b"+OK"):
            self._body, self._at_dot, self._command = 0, b"\r\n", b""
        return end + 1

    def _masked(self, line: bytes) -> bytes:
        if self._hidden_tag and line.startswith(self._hidden_tag + b" "):
            line = b"<tag>" + line[len(self._hidden_tag) :]
        return self._mask(line)

    def _pass_body(self, octets: bytes, at: int, shown: list[bytes]) -> int:
        before = self._at_dot
        window = before + octets[at:]
        found = window.find(_END)
        if found < 0:
            self._body += len(octets) - at
            self._at_dot = window[-(len(_END) - 1) :]
            return len(octets)
        # The CRLF in front of the dot belongs to the message, and so may some of what came before.
        self._body += found + 2 - len(before)
        shown += [b"<%d octets of a message>" % self._body, b"."]
        self._body = -1
        return at + found + len(_END) - len(before)

    def _pass_lines(self, octets: bytes, at: int) -> int:
        """Up to a literal, or all there is: only counted."""
        found = _LITERAL_LINE.search(octets, at) if self._with_literals else None
        end = found.end() if found else octets.rfind(b"\n", at) + 1
        if end <= at:  # a line that is not whole
            self._grow(octets[at:])
            return len(octets)
        self.missed += octets.count(b"\n", at, end)
        self._begin_line()
        if found:
            header = _LITERAL.search(found[0].rstrip(b"\r\n"))
            assert header is not None
            self._skip = int(header[1])
            self.missed -= 1  # its line goes on
        return end

    def _begin_line(self) -> None:
        self._line = self._tail = b""
        self._size = 0

    def _grow(self, octets: bytes) -> None:
        if self._size < LONGEST_SHOWN:
            self._line += octets[: LONGEST_SHOWN - self._size]
        self._size += len(octets)
        self._tail = (self._tail + octets[-_TAIL:])[-_TAIL:]

    def _literal_ahead(self) -> int | None:
        if not self._with_literals:
            return None
        header = _LITERAL.search(self._tail.removesuffix(b"\r"))
        return int(header[1]) if header else None
