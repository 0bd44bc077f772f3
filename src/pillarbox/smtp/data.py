"""Mail data as it streams: its end, transparency, line ends (RFC 5321 §4.1.1.4, §4.5.2).

Everything works on whole chunks; no message is ever held. Only CRLF.CRLF ends mail data, and only a dot
after CRLF is a transparency dot: any other reading of bare CR and LF would let a peer smuggle one
message inside another.
"""

from pillarbox.mime.lines import has_bare_cr_or_lf

_END = b"\r\n.\r\n"


class DataDecoder:
    """From the octets after DATA to the message: finds the end, removes transparency dots.

    The cuts between the chunks that come out never split a CRLF.
    """

    __slots__ = ("_held", "_virtual", "bare_cr_or_lf", "rest", "size")

    def __init__(self) -> None:
        # The line before the first one is the DATA command: its CRLF counts for a first line ".".
        self._held = b"\r\n"
        self._virtual = True
        self.rest: bytes | None = None
        """What came behind the end of mail data; None before the end."""
        self.bare_cr_or_lf = False
        """Whether a CR without LF or an LF without CR was seen."""
        self.size = 0
        """Octets of the message so far, as RFC 1870 §5 counts them: without transparency dots."""

    def feed(self, data: bytes) -> bytes:
        """The next piece of the message, maybe empty. At most 4 octets are held back. Not after the end.

        Example: `b"..a\\r\\n.\\r\\nQUIT\\r\\n"` -> `b".a\\r\\n"`, and `rest` is `b"QUIT\\r\\n"`.
        """
        octets = self._held + data
        dot = octets.find(b"\r\n.")
        end = octets.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self.rest = octets[end + len(_END) :]
            octets = octets[: end + 2]
        else:
            held = _held_back(octets)
            self._held = octets[len(octets) - held :]
            octets = octets[: len(octets) - held]
        if dot != end:
            octets = octets.replace(b"\r\n.", b"\r\n")  # RFC 5321 §4.5.2
        if not self.bare_cr_or_lf:
            self.bare_cr_or_lf = has_bare_cr_or_lf(octets)
        if self._virtual and octets:
            octets = octets[2:]
            self._virtual = False
        self.size += len(octets)
        return octets


def _held_back(octets: bytes) -> int:
    """Length of the longest end of `octets` that may be the beginning of CRLF.CRLF."""
    for length in (4, 3, 2, 1):
        if octets.endswith(_END[:length]):
            return length
    return 0


class LineEndNormalizer:
    """Makes every bare CR and every bare LF a CRLF, however the input is cut: what a submission server may
    mend (RFC 6409 §8), and nobody else (RFC 5321 §2.3.8)."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """A final CR is held back until it is known what follows it."""
        octets = self._held + data
        self._held = b"\r" if octets.endswith(b"\r") else b""
        if self._held:
            octets = octets[:-1]
        if not has_bare_cr_or_lf(octets):
            return octets
        return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def finish(self) -> bytes:
        """What is left at the end of the message: a held CR was bare."""
        return b"\r\n" if self._held else b""
