"""Modified UTF-7, the wire form of mailbox names (RFC 3501 §5.1.3).

Encoding gives the one canonical form. Decoding accepts superfluous shifts and encoded printable ASCII too,
since such names mean only one thing; CREATE asks `is_canonical` before it makes a new name.
"""

import binascii
import re

_ENCODABLE = re.compile(r"[^\x20-\x7e]+|&")
_SHIFTED = re.compile(rb"&([^-]*)(-?)")
_BASE64 = re.compile(rb"[A-Za-z0-9+,]+")
_PRINTABLE = re.compile(rb"[\x20-\x7e]*")


def encode_utf7(name: str) -> bytes:
    """`"Entw\\u00fcrfe & mehr"` -> `b"Entw&APw-rfe &- mehr"`.

    A lone surrogate, which has no wire form, becomes U+FFFD.
    """
    if name.isascii() and name.isprintable() and "&" not in name:
        return name.encode("ascii")
    return _ENCODABLE.sub(_shift_in, name).encode("ascii")


def _shift_in(match: re.Match[str]) -> str:
    run = match[0]
    if run == "&":
        return "&-"
    utf16 = run.encode("utf-16-be", "surrogatepass")
    utf16 = utf16.decode("utf-16-be", "replace").encode("utf-16-be")
    base64 = binascii.b2a_base64(utf16, newline=False)
    return "&" + base64.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"


def decode_utf7(wire: bytes) -> str:
    """The name, or ValueError: 8-bit or control octets, a shift without end, bad base64 or bad UTF-16."""
    if _PRINTABLE.fullmatch(wire) is None:
        raise ValueError("a mailbox name in modified UTF-7 is printable ASCII")
    if b"&" not in wire:
        return wire.decode("ascii")
    pieces: list[str] = []
    position = 0
    for match in _SHIFTED.finditer(wire):
        pieces.append(wire[position : match.start()].decode("ascii"))
        pieces.append(_shift_out(match))
        position = match.end()
    pieces.append(wire[position:].decode("ascii"))
    return "".join(pieces)


def _shift_out(match: re.Match[bytes]) -> str:
    base64, end = match.groups()
    if not end:
        raise ValueError('"&" without the "-" that ends it')
    if not base64:
        return "&"
    if _BASE64.fullmatch(base64) is None or len(base64) % 4 == 1:
        raise ValueError("bad base64 in modified UTF-7")
    padding = b"=" * (-len(base64) % 4)
    octets = binascii.a2b_base64(base64.replace(b",", b"/") + padding)
    return octets.decode("utf-16-be")  # UnicodeDecodeError is a ValueError


def is_canonical(wire: bytes) -> bool:
    """Whether this is how we would write the name (RFC 3501 §5.1.3: SHOULD be verified for CREATE)."""
    try:
        return encode_utf7(decode_utf7(wire)) == wire
    except ValueError:
        return False
