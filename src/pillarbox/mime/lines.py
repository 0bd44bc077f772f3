"""What the lines of a message may be on their way: ended by CRLF only, and not too long (RFC 5321 §2.3.8, §4.5.3.1.6).

All of it takes time in proportion to the octets, whatever is in them.
"""

LONGEST_LINE = 998
"""Octets without CRLF (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1)."""


def has_bare_cr_or_lf(octets: bytes) -> bool:
    """Whether some CR has no LF behind it, or some LF no CR before it."""
    return not octets.count(b"\n") == octets.count(b"\r") == octets.count(b"\r\n")


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
