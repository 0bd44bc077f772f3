"""The Message-ID of a message, as it is looked for."""

import re

_FIELD = re.compile(rb"^message-id[ \t]*:[ \t\r\n]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)

LONGEST = 500
"""Characters."""


def find_message_id(header: bytes) -> str:
    """Of a header block, with angle brackets; "" if it has none.

    Example: b"Message-ID: <1@a.example>\\r\\n\\r\\n" -> "<1@a.example>".
    """
    start = header.find(b"\nMessage-ID:") + 1  # as nearly all write it: the pattern is slow
    match = _FIELD.match(header, start) if start else _FIELD.search(header)
    if match is None:
        return ""
    return match[1].strip().decode("utf-8", "replace")[:LONGEST]
