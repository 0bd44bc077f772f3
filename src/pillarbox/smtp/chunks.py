"""BDAT: mail data in chunks of a declared size (RFC 3030 §2). No dot is transparent here, and none ends anything."""

import re
from dataclasses import dataclass

from pillarbox.mime.lines import has_bare_cr_or_lf
from pillarbox.smtp.reply import Reply

_BDAT = re.compile(rb"([0-9]{1,20})(?: +((?i:LAST)))?")


@dataclass(slots=True)
class Chunk:
    """A chunk that is coming in."""

    size: int
    left: int
    """Octets that have not come yet."""
    is_last: bool
    refusal: Reply | None = None
    """Its octets are dropped, and then this is said (RFC 3030 §2)."""


def parse_chunk(argument: bytes) -> Chunk | None:
    """The argument of BDAT. Example: `b"86 LAST"`."""
    match = _BDAT.fullmatch(argument)
    if match is None:
        return None
    size = int(match[1])
    return Chunk(size, size, match[2] is not None)


class ChunkDecoder:
    """From the octets of all chunks of a message to the message. The cuts between the pieces that come out never
    split a CRLF."""

    __slots__ = ("_held", "bare_cr_or_lf", "size")

    def __init__(self) -> None:
        self._held = b""
        self.bare_cr_or_lf = False
        """Whether a CR without LF or an LF without CR was seen."""
        self.size = 0
        """Octets of the message so far."""

    def feed(self, data: bytes) -> bytes:
        """The next piece of the message, maybe empty: a final CR is held back."""
        self.size += len(data)
        octets = self._held + data
        self._held = b"\r" if octets.endswith(b"\r") else b""
        if self._held:
            octets = octets[:-1]
        if not self.bare_cr_or_lf:
            self.bare_cr_or_lf = has_bare_cr_or_lf(octets)
        return octets

    def finish(self) -> bytes:
        """What is left at the end of the message: a held CR was bare."""
        if self._held:
            self.bare_cr_or_lf = True
        held, self._held = self._held, b""
        return held
