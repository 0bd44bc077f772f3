"""Spans of time as people write them."""

import re

_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> int:
    """Seconds. Raises ValueError with what is wrong.

    Example: "90m" -> 5400; s, m, h and d are the units.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" must look like 30s, 90m, 4h or 5d')
    return int(match[1]) * _UNITS_S[match[2]]


def parse_span(text: str) -> int:
    """Likewise, of a time that lasts: at least a second."""
    span_s = parse_duration(text)
    if not span_s:
        raise ValueError(f'"{text}" is no time at all; it must look like 30s, 90m, 4h or 5d')
    return span_s
