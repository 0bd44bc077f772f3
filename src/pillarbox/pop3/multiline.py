"""Multi-line responses: byte-stuffing, line ends, octet counts (RFC 1939 §3, §11).

A message is sent with every bare LF as CRLF and with a final CRLF: clients that end lines at LF would
otherwise take a stored LF.LF for the end of the response. Counts are of what is sent, without stuffing.
"""

END = b".\r\n"


def with_crlf(octets: bytes) -> bytes:
    """A whole message with the line ends that are sent; its length is the octet count of RFC 1939 §11.

    Example: `b"a\nb"` -> `b"a\r\nb\r\n"`.
    """
    if octets.count(b"\n") != octets.count(b"\r\n"):
        octets = _mend_bare_lf(octets)
    return octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"


def _mend_bare_lf(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def stuff(octets: bytes) -> bytes:
    """Lines that all end with CRLF, ready to send, without `END`. Example: `b".a\r\n"` -> `b"..a\r\n"`."""
    octets = octets.replace(b"\r\n.", b"\r\n..")
    return b"." + octets if octets.startswith(b".") else octets


class Stuffer:
    """`stuff(with_crlf(...))` for a message that comes in pieces."""

    __slots__ = ("_held", "_in_line")

    def __init__(self) -> None:
        self._held = b""  # a final CR: whether it belongs to a CRLF is not known yet
        self._in_line = False

    def feed(self, piece: bytes) -> bytes:
        octets = self._held + piece
        self._held = b"\r" if octets.endswith(b"\r") else b""
        if self._held:
            octets = octets[:-1]
        if not octets:
            return b""
        octets = _mend_bare_lf(octets)
        at_line_start = not self._in_line
        self._in_line = not octets.endswith(b"\n")
        octets = octets.replace(b"\r\n.", b"\r\n..")
        return b"." + octets if at_line_start and octets.startswith(b".") else octets

    def finish(self) -> bytes:
        """What is left at the end of the message, without `END`."""
        return self._held + b"\r\n" if self._held or self._in_line else b""


def first_lines(body: bytes, count: int) -> bytes:
    """The first `count` lines of a message's body, for TOP (RFC 1939 §7): all of it if it has fewer."""
    if count > body.count(b"\n"):
        return body
    end = 0
    for _ in range(count):
        end = body.find(b"\n", end) + 1
    return body[:end]
