"""What the log was told lately, so that it is not told the same again and again."""

from collections.abc import Hashable

MOST_KNOWN = 1000
"""Things that were told; of more, nothing is said before the time of others is over."""


class Lately:
    """One line on a thing in `pause_s` seconds."""

    __slots__ = ("_pause_s", "_until")

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._until: dict[Hashable, float] = {}

    def may_tell(self, thing: Hashable, now: float) -> bool:
        """Whether there was no line on it lately; then there is one now."""
        if now < self._until.get(thing, now):
            return False
        self._until.pop(thing, None)
        if len(self._until) >= MOST_KNOWN:
            self._until = {each: until for each, until in self._until.items() if now < until}
            if len(self._until) >= MOST_KNOWN:
                return False
        self._until[thing] = now + self._pause_s
        return True
