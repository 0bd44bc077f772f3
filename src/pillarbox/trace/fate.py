"""What became of messages that were filed: followed from mailbox to mailbox by what was told of UIDs. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from pillarbox.trace.events import Copied, Expunged, Fetched, Flagged, Ranges
from pillarbox.trace.reader import Entry

Spot = tuple[str, int]
"""A place (`events.place_of`) and a UID."""

MOST_FETCHES = 100
"""That are kept of one message: only the first of each client matters."""


@dataclass(slots=True)
class Fate:
    """`entries` in order of time; `now`: where the message is as far as is known, and the mailbox's name."""

    entries: list[Entry] = field(default_factory=list)
    now: dict[Spot, str] = field(default_factory=dict)

    @property
    def places(self) -> set[str]:
        """Where it is now."""
        return {place for place, _ in self.now}


@dataclass(slots=True)
class _Copy:
    name: str
    is_gone: bool = False
    flags: set[str] = field(default_factory=set)


def follow(starts: Mapping[Spot, str], entries: Iterable[Entry]) -> Fate:
    """`starts`: where it was filed, and the mailbox's name. `entries` are all that is known of these places and of
    those that it came to, in order of time; others are passed over. UIDs are never used again, so it does not matter
    when exactly it came: workers tell of the same second in any order."""
    fate = Fate()
    copies = {spot: _Copy(name) for spot, name in starts.items()}
    fetches = 0
    for entry in entries:
        event = entry.event
        if not isinstance(event, Flagged | Fetched | Copied | Expunged):
            continue
        touched = [
            (spot, copy)
            for spot, copy in copies.items()
            if spot[0] == event.place and position(event.ranges, spot[1]) >= 0
        ]
        if not touched:
            continue
        match event:
            case Flagged():
                changes = [_changes(copy.flags, event) for _, copy in touched]
                if not any(changes):
                    continue
            case Fetched():
                fetches += 1
                if fetches > MOST_FETCHES:
                    continue
            case Copied():
                for (_, uid), copy in touched:
                    there = (event.target, event.first_uid + position(event.ranges, uid))
                    copies[there] = _Copy(event.mailbox, flags=set(copy.flags))
        fate.entries.append(entry)
        if isinstance(event, Expunged) or (isinstance(event, Copied) and event.moved):
            for _, copy in touched:
                copy.is_gone = True
    fate.now = {spot: copy.name for spot, copy in copies.items() if not copy.is_gone}
    return fate


def position(ranges: Ranges, uid: int) -> int:
    """How many numbers of ascending ranges come before `uid`; -1 if it is in none.

    Example: ([(2, 3), (7, 9)], 8) -> 3.
    """
    at = bisect_right(ranges, uid, key=itemgetter(0)) - 1
    if at < 0 or uid > ranges[at][1]:
        return -1
    before = sum(last - first + 1 for first, last in ranges[:at])
    return before + uid - ranges[at][0]


def _changes(flags: set[str], event: Flagged) -> bool:
    """Change the flags that a copy is known to have; whether that made a difference."""
    old, said = set(flags), set(event.flags)
    if event.mode == "+":
        flags |= said
    elif event.mode == "-":
        flags -= said
    else:
        flags.clear()
        flags |= said
    return flags != old
