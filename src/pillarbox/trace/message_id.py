"""The Message-ID of a message, as it is looked for."""

import re

_FIELD = re.compile(rb"^message-id[ \t]*:[ \t\r\n]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)

_USUAL = b"\nMessage-ID:"

LOOKED_THROUGH = 32 << 10
"""Octets in which a field that is written in another way is looked for: that is slow."""
LONGEST = 500
"""Characters."""


def find_message_id(header: bytes) -> str:
    """Of a header block, with angle brackets; "" if it has none.

    Example: b"Message-ID: <1@a.example>\\r\\n\\r\\n" -> "<1@a.example>".
    """
    start = header.find(_USUAL)  # as nearly all write it: the pattern is slow
    if start >= 0:
        start += len(_USUAL)
        value = header[start : header.find(b"\r", start)].strip()
        if value:
            return value.decode("utf-8", "replace")[:LONGEST]
    match = _FIELD.search(header, 0, LOOKED_THROUGH)
    return match[1].strip().decode("utf-8", "replace")[:LONGEST] if match is not None else ""
