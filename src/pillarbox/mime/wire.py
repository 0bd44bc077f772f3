"""IMAP strings (RFC 3501 §4.3, §9): how octets of a message stand in a FETCH response.

Always a form that every IMAP4rev1 client reads: a quoted string is 7-bit and short, all else is a literal.
"""

import re

MAX_QUOTED = 1000
"""Longest quoted string in octets; some clients read lines into fixed buffers."""

_UNSAFE_IN_QUOTED = re.compile(rb'[\x00\r\n"\\]')
_NOT_QUOTABLE = re.compile(rb"[\x00\r\n]")


def string(octets: bytes) -> bytes:
    """A quoted string, or a literal for 8-bit octets, CR, LF, NUL or more than MAX_QUOTED octets.

    `b'a"b'` -> `b'"a\\\\"b"'`. NUL becomes 0x80: no IMAP string can carry it (RFC 3501 §9 CHAR8).
    """
    if octets.isascii() and len(octets) <= MAX_QUOTED:
        if _UNSAFE_IN_QUOTED.search(octets) is None:
            return b'"%b"' % octets
        if _NOT_QUOTABLE.search(octets) is None:
            return b'"%b"' % octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b"{%d}\r\n%b" % (len(octets), octets.replace(b"\0", b"\x80"))


def nstring(octets: bytes | None) -> bytes:
    """`string`, or NIL for None."""
    return b"NIL" if octets is None else string(octets)
