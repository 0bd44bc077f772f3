"""Comments of structured fields (RFC 5322 §3.2.2)."""

import re

_DELIMITER = re.compile(rb"[()]|\\.", re.DOTALL)
# Text and quoted strings, in which a parenthesis means nothing.
_TEXT = rb'(?:[^"(\\]++|\\.?|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))'
# Text, whole comments without others in them, and the beginning of any other.
_PIECE = re.compile(_TEXT + rb"++|\((?:[^()\\]++|\\.)*+\)|\(", re.DOTALL)


def comment_end(value: bytes, start: int) -> int:
    """Offset after the comment whose parenthesis opens at `start`; comments nest, and one that is never closed goes
    to the end of the value."""
    depth = 0
    for match in _DELIMITER.finditer(value, start):
        delimiter = match[0]
        if delimiter == b"(":
            depth += 1
        elif delimiter == b")":
            depth -= 1
            if depth == 0:
                return match.end()
    return len(value)


def remove_comments(value: bytes) -> bytes:
    """Each comment outside of quoted strings becomes a space: `b"1 (one)"` -> `b"1  "`."""
    if b"(" not in value:
        return value
    pieces = _PIECE.findall(value)
    if b"(" not in pieces:
        return b"".join([b" " if piece[0] == 40 else piece for piece in pieces])
    pieces = []
    position = 0
    while position < len(value):
        for match in _PIECE.finditer(value, position):
            piece = match[0]
            position = match.end()
            if piece == b"(":  # of a comment with others in it, or without an end
                position = comment_end(value, match.start())
                pieces.append(b" ")
                break
            pieces.append(b" " if piece[0] == 40 else piece)
    return b"".join(pieces)
