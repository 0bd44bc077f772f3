"""On which line of a TOML document each setting stands, for messages. The document is one that tomllib has read:
nothing is checked here. What stands within a list or a table in braces has the line on which that begins."""

import re
from collections.abc import Iterator

Place = tuple[str | int, ...]
"""Keys, and numbers of elements from 0: ("tls", "certificates", 0, "key")."""

_TOKEN = re.compile(
    r'''(?P<text>"""(?:[^"\\]|\\.|"(?!""))*(?:"{3,5})?|"(?:[^"\\\n]|\\.)*"?'''
    r"""|'''(?:[^']|'(?!''))*(?:'{3,5})?|'[^'\n]*'?)"""
    r"""|#[^\n]*|(?P<end>\n)|(?P<mark>[\[\]{}=.,])|(?P<bare>[^\s"'#\[\]{}=.,]+)""",
    re.DOTALL,
)
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"|\[([0-9]{1,6})\]|([^.\[\]"]+)', re.DOTALL)


def parse_place(text: str) -> Place:
    """Example: 'outbound.routes."example.com".tls' -> ("outbound", "routes", "example.com", "tls")."""
    return tuple(
        int(found[2]) if found[2] else found[1] or found[3] for found in _KEY.finditer(text)
    )


def line_of(lines: dict[Place, int], place: Place) -> int | None:
    """Of a setting, or of what it stands in; None: that is nowhere either."""
    while place:
        if place in lines:
            return lines[place]
        place = place[:-1]
    return None


def find_lines(text: str) -> dict[Place, int]:
    """Lines, from 1, by section and setting. Example: "[smtp]\\nmax = 1" -> {("smtp",): 1, ("smtp", "max"): 2}."""
    lines: dict[Place, int] = {}
    elements: dict[Place, int] = {}
    section: Place = ()
    for line, keys, brackets in _statements(text):
        if brackets:
            section = ()
            for number, key in enumerate(keys, 1):
                section = (*section, key)
                if brackets == 2 and number == len(keys):
                    elements[section] = elements.get(section, -1) + 1
                if section in elements:
                    section = (*section, elements[section])
            place = section
        else:
            place = (*section, *keys)
        for length in range(1, len(place) + 1):
            lines.setdefault(place[:length], line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, list[str], int]]:
    """(line, keys, in how many brackets they stand: 0 for a setting, 1 for a section, 2 for one of many)."""
    line, depth, begun = 1, 0, 1
    keys: list[str] = []
    brackets = 0
    is_value = False
    for token in _TOKEN.finditer(text):
        kind, found = token.lastgroup, token[0]
        if kind == "end" and depth == 0:
            if keys:
                yield begun, keys, brackets
            keys, brackets, is_value = [], 0, False
        elif kind == "mark" and is_value:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found, 0)
        elif kind == "mark":
            is_value = found == "="
            brackets += found == "["
        elif kind in ("text", "bare") and not is_value:
            begun = begun if keys else line
            keys.append(found.strip("\"'"))
        line += found.count("\n")
    if keys:
        yield begun, keys, brackets
