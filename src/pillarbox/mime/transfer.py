"""Content-Transfer-Encoding: back to the octets that the sender had (RFC 2045 §6). Damage is skipped, never raised."""

from binascii import Error, a2b_base64, a2b_qp

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(octet for octet in range(256) if octet not in _ALPHABET)


def decode_base64(octets: bytes) -> bytes:
    """RFC 2045 §6.8: characters outside the alphabet are ignored; so are missing padding and an odd last character.

    `b"aGk"` -> `b"hi"`.
    """
    try:
        return a2b_base64(octets)
    except Error:
        digits = octets.translate(None, _NOT_BASE64)
        if len(digits) % 4 == 1:
            digits = digits[:-1]
        return a2b_base64(digits + b"==") if len(digits) % 4 else a2b_base64(digits)


def decode_transfer(octets: bytes, encoding: bytes) -> bytes:
    """`encoding` in lower case; 7bit, 8bit, binary and unknown ones are the identity."""
    if encoding == b"base64":
        return decode_base64(octets)
    if encoding == b"quoted-printable":
        return a2b_qp(octets)
    return octets


KNOWN_ENCODINGS = frozenset((b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable"))
"""RFC 2045 §6.1, in lower case."""


class TransferDecoder:
    """Decodes a body that comes in pieces, however it is cut: the octets are the same for any cutting."""

    __slots__ = ("_encoding", "_kept")

    def __init__(self, encoding: bytes) -> None:
        """`encoding` in lower case; all but base64 and quoted-printable are the identity."""
        self._encoding = encoding
        self._kept = b""

    def feed(self, octets: bytes) -> bytes:
        """What can be told by now."""
        if self._encoding == b"base64":
            digits = self._kept + octets.translate(None, _NOT_BASE64)
            whole = len(digits) & ~3
            self._kept = digits[whole:]
            return a2b_base64(digits[:whole])
        if self._encoding == b"quoted-printable":
            lines = self._kept + octets
            whole = lines.rfind(b"\n") + 1
            self._kept = lines[whole:]
            return a2b_qp(lines[:whole])
        return octets

    def finish(self) -> bytes:
        """The rest, after the last piece."""
        kept, self._kept = self._kept, b""
        return decode_transfer(kept, self._encoding)
