"""Sizes as people write them: "500M", "2G"."""

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,15})\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Octets: `"500M"` -> 524288000; a number alone is octets. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'"{text}" is not a size; it must look like 500M or 2G')
    return int(match[1]) * _UNITS[match[2].upper()]


def format_size(octets: int) -> str:
    """In the largest unit that leaves one digit before the point: 1536 -> "1.5K"."""
    for unit in ("T", "G", "M", "K"):
        if octets >= _UNITS[unit]:
            return f"{octets / _UNITS[unit]:.1f}".removesuffix(".0") + unit
    return str(octets)
