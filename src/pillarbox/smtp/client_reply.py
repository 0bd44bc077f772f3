"""Replies as a client reads them (RFC 5321 §4.2, RFC 2034 §4), and what EHLO tells (RFC 5321 §4.1.1.1).

Lenient where peers are known to be sloppy and nothing is lost by it: any text, no text, any second digit.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from pillarbox.smtp.lines import CommandLines
from pillarbox.smtp.reply import Reply

MAX_LINE = 4096
"""Octets of a line with its CRLF. RFC 5321 §4.5.3.1.5 allows 512; some peers put whole URLs there."""
MAX_LINES = 256
"""Lines of one reply. EHLO replies have some 20, and a chatty greeting not many more."""
MAX_TEXT = 16384
"""Octets of all lines of one reply."""

MAX_KNOWN_LINE = 64
"""Octets of a line that may be remembered."""

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_LIMIT = re.compile(r"([A-Z0-9_-]+)=([1-9][0-9]{0,5})")
_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class BadReply(Enum):
    """What `ReplyReader.next_reply` returns for input that is no reply; nothing after it makes sense."""

    GARBAGE = "not a reply"


GARBAGE = BadReply.GARBAGE


class ReplyReader:
    """The input buffer of a client engine: whole replies come out of the front."""

    __slots__ = ("_input", "_lines", "_size")

    def __init__(self) -> None:
        self._input = CommandLines()
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def holds_more(self) -> bool:
        """Whether there is input behind the last reply."""
        return bool(self._lines) or len(self._input) > 0

    def feed(self, data: bytes) -> None:
        self._input.feed(data)

    def clear(self) -> None:
        self._input.clear()
        self._lines = []
        self._size = 0

    def next_reply(self) -> Reply | BadReply | None:
        """The next whole reply, None if there is none yet."""
        while (line := self._input.next_line(MAX_LINE)) is not None:
            if not self._lines and isinstance(line, bytes) and len(line) <= MAX_KNOWN_LINE:
                reply = _short_reply(line)
                if reply is not None:
                    return reply
            match = _LINE.fullmatch(line) if isinstance(line, bytes) else None
            if match is None:
                return GARBAGE
            text = match[3] or b""
            self._lines.append(text)
            self._size += len(text)
            if len(self._lines) > MAX_LINES or self._size > MAX_TEXT:
                return GARBAGE
            if match[2] != b"-":
                # RFC 5321 §4.2.1: the code is the same on each line; where it is not, the last one counts.
                lines = self._lines
                self._lines = []
                self._size = 0
                return parse_reply(int(match[1]), lines)
        return None


@lru_cache(maxsize=256)
def _short_reply(line: bytes) -> Reply | None:
    """A reply of one line; None if it is none. Peers say the same few things to each message."""
    match = _LINE.fullmatch(line)
    if match is None or match[2] == b"-":
        return None
    return parse_reply(int(match[1]), [match[3] or b""])


def parse_reply(code: int, lines: list[bytes]) -> Reply:
    """`lines` are the texts behind the code. An enhanced code counts only if its class is that of `code`.

    Example: `250, [b"2.1.0 Ok"]` -> `Reply(250, "2.1.0", "Ok")`. What is not UTF-8, and control characters, become
    replacement characters and "?".
    """
    text = "\n".join(_CONTROL.sub("?", line.decode("utf-8", "replace")) for line in lines)
    match = _ENHANCED.match(text.partition("\n")[0])
    if match is None or int(match[1]) != code // 100:
        return Reply(code, "", text)
    enhanced = match[0]
    # RFC 2034 §4: the enhanced code stands on each line
    stripped = [
        line.removeprefix(enhanced).removeprefix(" ") if line.startswith(enhanced) else line
        for line in text.split("\n")
    ]
    return Reply(code, enhanced, "\n".join(stripped))


@dataclass(slots=True, frozen=True)
class Peer:
    """What the greeting of EHLO, LHLO or HELO told. After HELO there are no extensions."""

    name: str
    """Its name for itself, lower case; "" if it gave none. Our own name there means a loop."""
    extensions: dict[str, str] = field(default_factory=dict)
    """Upper-case keyword -> its parameters as they came, parted by single spaces, maybe ""."""

    def offers(self, keyword: str) -> bool:
        return keyword in self.extensions

    @property
    def size_limit_bytes(self) -> int | None:
        """RFC 1870 §4: None if there is no fixed limit."""
        value = self.extensions.get("SIZE", "")
        limit = int(value) if value.isascii() and value.isdigit() and len(value) <= 20 else 0
        return limit or None

    def limit(self, name: str) -> int | None:
        """What LIMITS says of `name`, such as RCPTMAX (RFC 9422 §3); None if it says nothing that makes sense."""
        for word in self.extensions.get("LIMITS", "").upper().split():
            match = _LIMIT.fullmatch(word)
            if match is not None and match[1] == name:
                return int(match[2])
        return None

    @property
    def mechanisms(self) -> list[str]:
        """SASL mechanisms, upper case (RFC 4954 §3)."""
        return self.extensions.get("AUTH", "").upper().split()


def parse_hello_reply(reply: Reply) -> Peer:
    """Example: text `"mx.example hello\\nSIZE 1000\\nPIPELINING"` has the extensions SIZE and PIPELINING."""
    first, *lines = reply.text.split("\n")
    extensions: dict[str, str] = {}
    for line in lines:
        keyword, *parameters = line.split()[:64] or [""]
        if keyword:
            extensions.setdefault(keyword.upper(), " ".join(parameters))
    return Peer((first.split() or [""])[0].lower(), extensions)
