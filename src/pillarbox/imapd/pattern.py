"""The wildcards of LIST and LSUB (RFC 3501 §6.3.8): `*` is any text, `%` any text without the separator.

A set of places in the pattern is one integer, moved on by each character of a name: the time is linear in the name,
whatever the pattern.
"""

import re

LONGEST_LITERAL = 4000
"""Characters of a pattern besides its wildcards; no name is as long."""

_WILDCARDS = re.compile(r"[*%]{2,}")


class Pattern:
    """A compiled pattern. Case counts; INBOX is the caller's business."""

    __slots__ = ("_any", "_end", "_literals", "_separator", "_stars", "_wildcards")

    def __init__(self, text: str, separator: str) -> None:
        # Neighbouring wildcards are one.
        text = _WILDCARDS.sub(lambda match: "*" if "*" in match[0] else "%", text)
        self._any = text == "*"
        self._separator = separator
        self._stars = self._wildcards = self._end = 0
        self._literals: dict[str, int] = {}
        if len(text) > 2 * LONGEST_LITERAL:
            return  # without an end it matches nothing
        for place, char in enumerate(text):
            bit = 1 << place
            if char in "*%":
                self._wildcards |= bit
                self._stars |= bit if char == "*" else 0
            else:
                self._literals[char] = self._literals.get(char, 0) | bit
        self._end = 1 << len(text)

    def matches(self, name: str) -> bool:
        """Whether the pattern matches the whole of a wire name."""
        if self._any:
            return True
        places = self._pass_wildcard(1)
        for char in name:
            staying = places & (self._stars if char == self._separator else self._wildcards)
            moving = places & self._literals.get(char, 0)
            places = self._pass_wildcard(staying | moving << 1)
            if not places:
                return False
        return bool(places & self._end)

    def _pass_wildcard(self, places: int) -> int:
        """A wildcard may match nothing; two never stand side by side."""
        return places | (places & self._wildcards) << 1
