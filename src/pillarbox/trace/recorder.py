"""Where services tell what happened. Belongs to one event loop; costs about a microsecond an event.

Events are lines of JSON from here on: what waits for the writer is bounded in octets, and beyond that bound events are
dropped and counted. Bodies that are fetched one by one come together in one event a second for each session.
"""

import time
from collections.abc import Callable, Sequence

import msgspec

from pillarbox.trace.events import Dropped, Event, Fetched

MOST_OCTETS = 4 << 20
"""That wait for the writer."""
LARGEST_EVENT = 256 << 10
"""Octets; larger ones are dropped."""
MOST_FETCHED = 8_000
"""Ranges of UIDs that are gathered for the writer."""


MOST_RANGES = 2000
"""Of one event."""
MOST_EVENTS = 5
"""That are made of the ranges of one command; what is more is dropped."""


class Recorder:
    """Made off where nothing shall be recorded: then `add` does nothing."""

    __slots__ = (
        "_clock",
        "_dropped",
        "_encode",
        "_fetched",
        "_gathered",
        "_lines",
        "_octets",
        "is_on",
    )

    def __init__(self, *, is_on: bool = False, clock: Callable[[], float] = time.time) -> None:
        self.is_on = is_on
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._octets = 0
        self._dropped = 0
        self._fetched: dict[tuple[str, str], tuple[int, list[tuple[int, int]]]] = {}
        """By connection and place: since when, and what."""
        self._gathered = 0

    def now(self) -> int:
        """Microseconds since 1970."""
        return int(self._clock() * 1_000_000)

    def add(self, event: Event) -> None:
        """It happened now. Never raises, and waits for nothing."""
        if not self.is_on:
            return
        try:
            line = self._encode((int(self._clock() * 1_000_000), event))
        except UnicodeEncodeError:  # a lone surrogate, of a client that says what it likes
            self._dropped += 1
            return
        size = len(line)
        if size > LARGEST_EVENT or self._octets + size > MOST_OCTETS:
            self._dropped += 1
            return
        self._octets += size
        self._lines.append(line)

    def fetched(self, connection: str, place: str, ranges: Sequence[tuple[int, int]]) -> None:
        """The bodies of these messages went to a client."""
        if not self.is_on:
            return
        known = self._fetched.get((connection, place))
        if known is None:
            known = self._fetched[connection, place] = (self.now(), [])
        known[1].extend(ranges)
        self._gathered += len(ranges)
        if self._gathered > MOST_FETCHED:
            self._end_fetched()

    def _end_fetched(self) -> None:
        fetched, self._fetched = self._fetched, {}
        self._gathered = 0
        for (connection, place), (began, ranges) in fetched.items():
            self._add_fetched(connection, place, began, merged(ranges))

    def _add_fetched(
        self, connection: str, place: str, began: int, ranges: Sequence[tuple[int, int]]
    ) -> None:
        self.add_parts(ranges, lambda part: Fetched(connection, place, part, began))

    def add_parts(
        self,
        ranges: Sequence[tuple[int, int]],
        make: Callable[[list[tuple[int, int]]], Event],
    ) -> None:
        """An event for so many of the ranges at a time as fit into it, in order."""
        if not self.is_on:
            return
        for start in range(0, min(len(ranges), MOST_RANGES * MOST_EVENTS), MOST_RANGES):
            self.add(make(list(ranges[start : start + MOST_RANGES])))
        if len(ranges) > MOST_RANGES * MOST_EVENTS:
            self._dropped += 1

    @property
    def is_behind(self) -> bool:
        """Whether there is something for the writer."""
        return bool(self._lines or self._fetched or self._dropped)

    def take(self) -> tuple[list[bytes], int]:
        """The lines that wait, in order of time, and for how many events they stand; they are the caller's now."""
        self._end_fetched()
        dropped, self._dropped = self._dropped, 0
        lines, self._lines = self._lines, []
        self._octets = 0
        count = len(lines) + dropped
        if dropped:
            lines.append(self._encode((self.now(), Dropped(dropped))))
        return lines, count

    def lost(self, count: int) -> None:
        """So many of what was taken could not be written."""
        self._dropped += count


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Inclusive ranges in any order as ascending, disjoint ones: [(5, 5), (1, 2), (3, 3)] -> [(1, 3), (5, 5)]."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            if last > found[-1][1]:
                found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found
