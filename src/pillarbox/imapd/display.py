"""What DISPLAYFROM and DISPLAYTO sort by (RFC 5957 §3), taken from the ENVELOPE as it is stored. Pure."""

import re

from pillarbox.mime.fold import LONGEST_ORDERED, order_key
from pillarbox.mime.header import decode_ordered

_VALUE = re.compile(rb' ?(?:"((?:[^"\\]++|\\.)*+)"|\{([0-9]+)\}\r\n|(NIL)|(\()|(\)))', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

_LISTS_BEFORE = {"DISPLAYFROM": 0, "DISPLAYTO": 3}
"""Of addresses, in an ENVELOPE: from, sender, reply-to, to."""


def display_key(envelope: bytes, key: str) -> str:
    """The name of the first address, else `mailbox@host`, else `mailbox`, else `""`, as `order_key` has it."""
    reader = _Reader(envelope)
    reader.open()
    for _ in range(2):  # date and subject
        reader.string()
    for _ in range(_LISTS_BEFORE[key]):
        reader.skip_list()
    if not reader.open():
        return ""
    reader.open()
    name, _, mailbox, host = (reader.string() for _ in range(4))
    text, is_text = decode_ordered(name or b"")
    if not text and mailbox is not None:
        text, is_text = decode_ordered(mailbox if host is None else mailbox + b"@" + host)
    return order_key(text[:LONGEST_ORDERED], is_text=is_text)


class _Reader:
    """Reads what `mime.envelope` wrote."""

    __slots__ = ("_position", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._position = 0

    def _next(self) -> re.Match[bytes]:
        match = _VALUE.match(self._text, self._position)
        assert match is not None
        self._position = match.end() + int(match[2] or 0)
        return match

    def open(self) -> bool:
        """Pass over a bracket that opens; False: NIL stood here."""
        return self._next()[4] is not None

    def string(self) -> bytes | None:
        match = self._next()
        if match[2] is not None:
            return self._text[match.end() : self._position]
        return None if match[1] is None else _ESCAPED.sub(rb"\1", match[1])

    def skip_list(self) -> None:
        depth = 0
        while True:
            match = self._next()
            depth += (match[4] is not None) - (match[5] is not None)
            if not depth:
                return
