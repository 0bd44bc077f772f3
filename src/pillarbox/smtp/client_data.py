"""Mail data on its way out: transparency and the end of the message (RFC 5321 §4.1.1.4, §4.5.2)."""

from pillarbox.smtp.data import LineEndNormalizer


class DataEncoder:
    """From the message to the octets after DATA, whole chunks at a time, however the message is cut.

    Nothing leaves with a bare CR or LF, whatever the source of the message (RFC 5321 §2.3.8): each becomes a
    CRLF. That breaks signatures, so whoever signs mends before.
    """

    __slots__ = ("_at_line_start", "_lines")

    def __init__(self) -> None:
        self._lines = LineEndNormalizer()
        self._at_line_start = True  # behind the CRLF of the DATA command

    def feed(self, data: bytes) -> bytes:
        """The next octets to send, maybe none. Example: `b".a\\n.b"` -> `b"..a\\r\\n..b"`."""
        octets = self._lines.feed(data)
        if not octets:
            return b""
        dotted = octets.replace(b"\r\n.", b"\r\n..")
        if self._at_line_start and octets.startswith(b"."):
            dotted = b"." + dotted
        # No CRLF is cut: the normalizer holds a final CR back.
        self._at_line_start = octets.endswith(b"\n")
        return dotted

    def finish(self) -> bytes:
        """What is left, the end of the last line if it has none, and the final dot.

        The CRLF before the dot belongs to the message, so none is added behind one (RFC 5321 §4.1.1.4).
        """
        rest = self._lines.finish()
        if not rest and not self._at_line_start:
            rest = b"\r\n"
        return rest + b".\r\n"
