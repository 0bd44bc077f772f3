"""What `pillarbox doctor --watch` found, for the metrics: a small file in the data folder.

The command writes it after each round trip, and goes on where the last one ended, so counts do not fall; who tells the
metrics only reads. When it was written stands in it, so nobody takes old figures for new ones.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pillarbox.core.errors import Refused
from pillarbox.core.tally import Histogram

NAME = "canary.json"
LOCK_NAME = "canary.lock"
LARGEST_OCTETS = 1 << 16

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

    def note(self, now: float, times: dict[str, float], *, worked: bool) -> None:
        """A trip that ended now; of a stage that failed there is no time."""
        self.last_run = now
        if worked:
            self.last_success = now
            self.worked += 1
        else:
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
        return row if len(row) == len(none) else none


def read_canary(folder: Path) -> Canary:
    """Nothing where there is no file, or one that is no good. Blocks. Raises no OSError."""
    try:
        with (folder / NAME).open("rb") as file:
            return msgspec.json.decode(file.read(LARGEST_OCTETS), type=Canary)
    except (OSError, msgspec.DecodeError):
        return Canary()


def write_canary(folder: Path, canary: Canary) -> None:
    """At once, or not at all; it is not synced, for it may be lost. Blocks. Raises OSError."""
    new = folder / f"{NAME}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(msgspec.json.encode(canary))
    new.replace(folder / NAME)


@contextmanager
def only_canary(folder: Path) -> Iterator[None]:
    """While it lasts there is no other. Raises Refused, OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(folder / LOCK_NAME, flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another doctor --watch runs on {folder}: end it first") from None
        yield
    finally:
        os.close(descriptor)
