"""Header fields that the server writes itself (RFC 5322 §2.2.3, RFC 2047 §2, §5)."""

import re
from binascii import b2a_base64

MAX_LINE = 78
"""Characters of a line without CRLF (RFC 5322 §2.1.1); only a single longer word exceeds it."""

_NAME = re.compile(r"[!-9;-~]{1,76}")
_WORD = re.compile(r"(?<! ) *[^ ]+")  # begins at the first space only: else many are quadratic
_ENCODED_PAYLOAD = 42
"""Octets in an encoded word: 56 of base64 and 12 around them are within the 75 of RFC 2047 §2."""


def format_field(name: str, value: str) -> bytes:
    """A whole field with its CRLF, folded at spaces; words that are not ASCII become encoded words in UTF-8.

    `("Subject", "ä")` -> `b"Subject: =?utf-8?B?w6Q=?=\\r\\n"`. For unstructured values, and for structured ones that
    are ASCII. Raises ValueError for a bad name, and for control characters in the value: no field can be smuggled in.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError("bad field name")
    if any(char < " " or char == "\x7f" for char in value.replace("\t", " ")):
        raise ValueError("control character in a field value")
    lines = []
    line = f"{name}:"
    for word in _words(value.replace("\t", " ").strip(" ")):
        if len(line) + len(word) > MAX_LINE and line.strip(" "):
            lines.append(line)
            line = ""
        line += word
    lines.append(line)
    return "\r\n".join(lines).encode("ascii") + b"\r\n"


def encode_words(text: str) -> bytes:
    """A text as encoded words only, one on a line, as where a phrase is wanted (RFC 2047 §5).

    `"ä b"` -> `b"=?utf-8?B?w6QgYg==?="`.
    """
    return "\r\n".join(_encode_words(f" {text}")).strip().encode("ascii")


def _words(value: str) -> list[str]:
    """Words with the spaces before them, at least one; neighbours that need encoding are encoded together, since
    white space between encoded words is not text (RFC 2047 §6.2)."""
    words: list[str] = []
    run = ""
    for word in _WORD.findall(" " + value):
        if word.isascii() and "=?" not in word:
            words += _encode_words(run)
            run = ""
            words.append(word)
        else:
            run += word
    return words + _encode_words(run)


def _encode_words(run: str) -> list[str]:
    """`run` starts with one space that is a separator and no text; each piece has whole characters (RFC 2047 §5)."""
    pieces: list[bytes] = []
    piece = b""
    for char in run[1:]:
        octets = char.encode("utf-8", "replace")
        if len(piece) + len(octets) > _ENCODED_PAYLOAD:
            pieces.append(piece)
            piece = b""
        piece += octets
    if piece:
        pieces.append(piece)
    return [
        f" =?utf-8?B?{b2a_base64(octets, newline=False).decode('ascii')}?=" for octets in pieces
    ]
