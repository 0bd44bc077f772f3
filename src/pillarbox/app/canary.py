"""What `pillarbox doctor --watch` found, for the metrics: a small file in the data folder.

The command writes it after each round trip, and goes on where the last one ended, so counts do not fall; who tells the
metrics only reads. When it was written stands in it, so nobody takes old figures for new ones.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pillarbox.core.errors import Refused
from pillarbox.core.tally import Histogram
from pillarbox.store.new_file import open_new

SERIES = "pillarbox-canary"
"""How the Message-IDs of its trips begin. What a trip that was cut off left behind, the next one removes."""

NAME = "canary.json"
LOCK_NAME = "canary.lock"
LARGEST_OCTETS = 1 << 16
MOST = 1e15
"""Of any figure: what is more, or no number, was not written here."""

STAGES = ("submission", "imap", "pop3", "removal")
LIMITS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Canary(msgspec.Struct):
    """All trips so far. Times are epoch seconds, 0 for never."""

    every_s: float = 0.0
    last_run: float = 0.0
    last_success: float = 0.0
    worked: int = 0
    failed: int = 0
    stages: dict[str, list[float]] = {}
    """By stage: how often it took how long, up to each of LIMITS_S and above, and the sum of all seconds."""
    account: str = ""
    """Whose trips they are, so that `explain` knows its sessions."""

    def note(self, now: float, times: dict[str, float], *, worked: bool) -> None:
        """A trip that ended now; of a stage that failed there is no time."""
        self.last_run = now
        if worked:
            self.last_success = now
            self.worked += 1
        else:
            # Whoever compares the two must see that it fails, also where the clock was set back.
            self.last_success = min(self.last_success, max(0.0, now - 1))
            self.failed += 1
        for stage, seconds in times.items():
            row = self.row(stage)
            histogram = Histogram(LIMITS_S)
            histogram.observe(seconds)
            added = (*histogram.counts, histogram.total)
            self.stages[stage] = [one + more for one, more in zip(row, added, strict=True)]

    def row(self, stage: str) -> list[float]:
        """Of a stage."""
        none = [0.0] * (len(LIMITS_S) + 2)
        row = self.stages.get(stage, none)
        is_good = len(row) == len(none) and all(0 <= number < MOST for number in row)
        return row if is_good else none

    def is_good(self) -> bool:
        """Whether it is what this command writes."""
        figures = (self.every_s, self.last_run, self.last_success, self.worked, self.failed)
        return all(0 <= number < MOST for number in figures)


def read_canary(folder: Path) -> Canary:
    """Nothing where there is no file, or one that is no good. Blocks. Raises no OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would be waited for
    try:
        with open(os.open(folder / NAME, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return Canary()
            canary = msgspec.json.decode(file.read(LARGEST_OCTETS), type=Canary)
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors, too
        return Canary()
    return canary if canary.is_good() else Canary()


def write_canary(folder: Path, canary: Canary) -> None:
    """At once, or not at all; it is not synced, for it may be lost. Blocks. Raises OSError."""
    new = folder / f"{NAME}.new"
    with open(open_new(new), "wb") as file:
        file.write(msgspec.json.encode(canary))
    new.replace(folder / NAME)


@contextmanager
def only_canary(folder: Path) -> Iterator[None]:
    """While it lasts there is no other. Raises Refused, OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / LOCK_NAME, flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another doctor --watch runs on {folder}: end it first") from None
        yield
    finally:
        os.close(descriptor)
