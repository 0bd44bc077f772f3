"""BODY from BODYSTRUCTURE: the same without extension data (RFC 3501 §7.4.2). Pure.

The store keeps BODYSTRUCTURE alone, since hardly a client asks for BODY.
"""

import re

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"|\{([0-9]+)\}\r\n|[^ ()"{]++', re.DOTALL)
_BRACKETS = re.compile(rb'[()]|"(?:[^"\\]++|\\.)*+"|\{([0-9]+)\}\r\n', re.DOTALL)

_BASIC_FIELDS = 7
"""type, subtype, parameters, id, description, encoding, octets"""


def body_of(bodystructure: bytes) -> bytes:
    """`b'("text" "plain" NIL NIL NIL "7bit" 9 1 NIL NIL NIL NIL)'` ->
    `b'("text" "plain" NIL NIL NIL "7bit" 9 1)'`."""
    return _Reader(bodystructure).body()


class _Reader:
    """Reads what `mime.bodystructure` wrote, which is at most MAX_DEPTH levels deep."""

    __slots__ = ("_position", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._position = 0

    def body(self) -> bytes:
        """The body at the cursor, which then stands behind it."""
        self._position += 1
        if self._text.startswith(b"(", self._position):
            parts = []
            while self._text.startswith(b"(", self._position):
                parts.append(self.body())
            short = b"(%b %b)" % (b"".join(parts), self._value())
        else:
            short = b"(%b)" % b" ".join(self._single_part())
        while not self._text.startswith(b")", self._position):
            self._value()
        self._position += 1
        return short

    def _single_part(self) -> list[bytes]:
        values = [self._value() for _ in range(_BASIC_FIELDS)]
        kind = values[0].lower(), values[1].lower()
        if kind[0] == b'"text"':
            values.append(self._value())
        elif kind in ((b'"message"', b'"rfc822"'), (b'"message"', b'"global"')):
            if not self._text.startswith(b" (", self._position):
                return values  # a message that was not looked into
            values.append(self._value())
            self._position += 1
            values.append(self.body())
            values.append(self._value())
        return values

    def _value(self) -> bytes:
        """A string, number, NIL or list, without the space before it."""
        text = self._text
        if text.startswith(b" ", self._position):
            self._position += 1
        start = self._position
        if not text.startswith(b"(", start):
            match = _STRING.match(text, start)
            assert match is not None
            self._position = match.end() + int(match[1] or 0)
            return text[start : self._position]
        depth = 0
        while True:
            match = _BRACKETS.search(text, self._position)
            assert match is not None
            self._position = match.end() + int(match[1] or 0)
            depth += {b"(": 1, b")": -1}.get(match[0], 0)
            if not depth:
                return text[start : self._position]
