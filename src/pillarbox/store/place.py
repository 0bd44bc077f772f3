"""Which process of a server this is: several workers may share one data folder.

The first to start recovers from an unclean stop and clears what the last run left, before any other opens a file. The
lock of the folder is held by whoever started them and by all of them: it is free once the last one is gone.
"""

from dataclasses import dataclass

MOST_WORKERS = 64
"""Several times fewer appends than `recovery.UIDS_SKIPPED` can then wait for a sync in one account
(`commit.MOST_UNITS_A_GROUP` each)."""


@dataclass(slots=True, frozen=True)
class Place:
    """One worker of `workers`; `number` counts from 1."""

    number: int = 1
    workers: int = 1
    is_first: bool = True
    """Nobody else has opened the data folder since the server began to start."""
    unusable: frozenset[int] = frozenset()
    """Accounts whose journal the first one could not replay."""
    lock: int | None = None
    """A descriptor that holds the folder's lock, where somebody else took it."""

    @property
    def has_duty(self) -> bool:
        """Whether it does what one worker does for all: keep house, deliver what is pending, take up what was
        dropped."""
        return self.number == 1


ALONE = Place()
"""The only process."""
