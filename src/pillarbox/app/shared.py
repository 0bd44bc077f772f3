"""Memory that all workers of a server map: limits that hold for all of them together, who waits for hints, and figures
for `pillarbox status`. Pages that nobody uses cost nothing."""

import mmap
import os
from collections.abc import Mapping
from itertools import pairwise

from pillarbox.core import rate
from pillarbox.core.rate import Rate
from pillarbox.core.slots import Mark, SlotCounts, keyed_mark
from pillarbox.net.balance import NOW_OCTETS, passed_octets
from pillarbox.store.place import ALONE, Place

SERVICES = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")
FIGURES = (*SERVICES, "accepted", "stored", "sent", "pid", "started", "beat")
"""What a worker tells of itself: connections now by service, connections since its start, messages stored, recipients
at other hosts that got theirs, its process, when it started (epoch seconds), and when it told that (monotonic, ms)."""

ACCOUNT_SLOTS = 1 << 14
ADDRESS_SLOTS = 1 << 16
RATES = 3

_SECRET_OCTETS = 64
_FIGURES_OCTETS = 256


class Shared:
    """The memory as one process sees it."""

    def __init__(self, memory: mmap.mmap, place: Place = ALONE) -> None:
        self._place = place
        self.number = place.number
        octets = memoryview(memory)
        places = [0, *_ends(place.workers)]
        secret, self._figures, watches, behind, addresses, now, passed, *rates = (
            octets[start:end] for start, end in pairwise(places)
        )
        self.mark: Mark = keyed_mark(bytes(secret[:32]))
        """For keys of `addresses` and `rate`."""
        self.watches = SlotCounts(watches, ACCOUNT_SLOTS, place.number)
        """By account: how many listeners wait for hints."""
        self.behind = SlotCounts(behind, ACCOUNT_SLOTS, place.number)
        """By account: mail that a worker holds and that is not yet in the account's file."""
        self.addresses = SlotCounts(addresses, ADDRESS_SLOTS, place.number)
        """By client address: connections."""
        self.now, self.passed = now, passed
        """For `net.balance`."""
        self._own_blocks = [
            (block, len(block) // place.workers)
            for block in (self._figures, watches, behind, addresses, now)
        ]
        self._rates = rates

    def rate(self, index: int, per_minute: int) -> Rate:
        """One of RATES that hold for all workers."""
        return Rate(per_minute, self._rates[index], self.mark)

    def publish(self, figures: Mapping[str, int]) -> None:
        """What this worker tells of itself."""
        cells = self._figures.cast("Q")
        start = (self._place.number - 1) * (_FIGURES_OCTETS // 8)
        for index, name in enumerate(FIGURES):
            cells[start + index] = figures.get(name, 0)

    def figures(self) -> list[dict[str, int]]:
        """What each worker told last, in their order."""
        cells = self._figures.cast("Q")
        starts = range(0, len(cells), _FIGURES_OCTETS // 8)
        return [dict(zip(FIGURES, cells[start:], strict=False)) for start in starts]

    def forget(self, number: int) -> None:
        """A worker is no more: what it counted goes."""
        for block, size in self._own_blocks:
            start = (number - 1) * size
            block[start : start + size] = bytes(size)


def make_memory(workers: int) -> int:
    """A descriptor of new memory for so many workers."""
    descriptor = os.memfd_create("pillarbox", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _ends(workers)[-1])
    os.pwrite(descriptor, os.urandom(_SECRET_OCTETS), 0)
    return descriptor


def open_memory(descriptor: int) -> mmap.mmap:
    """Map it; the descriptor can be closed then."""
    return mmap.mmap(descriptor, 0)


def shared_alone() -> Shared:
    """For a server of one process."""
    return Shared(mmap.mmap(-1, _ends(1)[-1]))


def _ends(workers: int) -> list[int]:
    """Where each part ends: secret, figures, watches, mail behind, addresses, connections now and passed on, rates."""
    sizes = [
        _SECRET_OCTETS,
        workers * _FIGURES_OCTETS,
        workers * ACCOUNT_SLOTS * 2,
        workers * ACCOUNT_SLOTS * 2,
        workers * ADDRESS_SLOTS * 2,
        workers * NOW_OCTETS,
        workers * passed_octets(workers),
        *[rate.TABLE_OCTETS] * RATES,
    ]
    return [sum(sizes[: count + 1]) for count in range(len(sizes))]
