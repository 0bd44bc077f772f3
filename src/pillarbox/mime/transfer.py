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
