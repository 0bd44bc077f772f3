"""What the lines of a message may be on their way: ended by CRLF only, and not too long (RFC 5321 §2.3.8, §4.5.3.1.6).

All of it takes time in proportion to the octets, whatever is in them.
"""

LONGEST_LINE = 998
"""Octets without CRLF (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1)."""


_FEW_OCTETS = 16 * 1024
"""So many are looked through by the way that is fast for lines of usual length, whatever is in them."""
_NO_LINE_ENDS = bytes(octet for octet in range(256) if octet not in b"\r\n")


def count_octet(octets: bytes, octet: bytes, start: int = 0) -> int:
    """How often a message has a CR or an LF from `start` on; `octet` is one of them."""
    if len(octets) > _FEW_OCTETS:
        return octets.count(octet, start)
    if start:
        octets = octets[start:]
    # bytes.count stops at each hit: to take them all out is two to five times as fast where they are 20 octets apart
    # or more, but ten times as slow where there is nothing else.
    return len(octets) - len(octets.replace(octet, b""))


def has_bare_cr_or_lf(octets: bytes) -> bool:
    """Whether some CR has no LF behind it, or some LF no CR before it."""
    if len(octets) > _FEW_OCTETS:
        ends = len(octets.translate(None, _NO_LINE_ENDS))
    else:
        ends = count_octet(octets, b"\n") + count_octet(octets, b"\r")
    return ends != 2 * octets.count(b"\r\n")


def has_long_line(octets: bytes) -> bool:
    """Whether some line has over LONGEST_LINE octets; lines end with CRLF. Looks at some octets of each line only."""
    start, size, reach = 0, len(octets), LONGEST_LINE + 2
    while size - start > LONGEST_LINE:
        end = octets.rfind(b"\n", start, start + reach)
        if end < 0:
            rest = octets[start : start + reach + 1].removesuffix(b"\r")
            return len(rest) > LONGEST_LINE
        start = end + 1
    return False


def is_clean(octets: bytes) -> bool:
    """Whether octets can go by DATA as they are, if 8-bit characters may: no bare CR or LF, no long line, no NUL."""
    return not (b"\0" in octets or has_bare_cr_or_lf(octets) or has_long_line(octets))
