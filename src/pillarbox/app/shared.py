"""Memory that all workers of a server map: limits that hold for all of them together, who waits for hints, proofs of
logins and marks of those that failed, and figures for `pillarbox status`. Pages that nobody uses cost nothing."""

import mmap
import os
import struct
import time
from array import array
from collections.abc import Mapping, Sequence
from itertools import pairwise

from pillarbox.auth import proofs
from pillarbox.auth.proofs import Proofs
from pillarbox.core import rate
from pillarbox.core.rate import Rate
from pillarbox.core.slots import Mark, SlotCounts, keyed_mark
from pillarbox.core.tally import MOST_SLOW, ROW_CELLS, SERVICES, SlowCommand
from pillarbox.net.balance import NOW_OCTETS, passed_octets
from pillarbox.store import run
from pillarbox.store.place import ALONE, Place

FIGURES = (*SERVICES, "pid", "started", "beat", "sqlite_octets")
"""What a worker tells of its present: connections by service, its process, when it started (epoch seconds), when it
told that (monotonic, ms), and what SQLite has in memory there. Its counts (`core.tally`) stand behind that."""

ACCOUNT_SLOTS = 1 << 14
ADDRESS_SLOTS = 1 << 16
RATES = 3

_SECRET_OCTETS = 64
_ROW_OCTETS = (len(FIGURES) + ROW_CELLS) * 8
_SLOW = struct.Struct("<ddQ40s")
_SLOW_OCTETS = MOST_SLOW * _SLOW.size


class Shared:
    """The memory as one process sees it."""

    def __init__(self, memory: mmap.mmap, place: Place = ALONE) -> None:
        self._place = place
        self.number = place.number
        octets = memoryview(memory)
        places = [0, *_ends(place.workers)]
        secret, rows, self._slow, watches, behind, addresses, now, passed, *others = (
            octets[start:end] for start, end in pairwise(places)
        )
        self._proofs, self.failures, *rates = others
        self._rows: memoryview[float] = rows.cast("d")
        self._secret = bytes(secret[32:])
        self.mark: Mark = keyed_mark(bytes(secret[:32]))
        """For keys of `addresses`, `failures` and `rate`."""
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
            for block in (self._slow, watches, behind, addresses, now)
        ]
        self._base = self._row(place.number)[len(FIGURES) :].tolist()
        self._rates = rates

    def rate(self, index: int, per_minute: int) -> Rate:
        """One of RATES that hold for all workers."""
        return Rate(per_minute, self._rates[index], self.mark)

    def proofs(self) -> Proofs:
        """Of logins, for all workers."""
        return Proofs(self._secret, self._proofs, time.monotonic)

    def publish(
        self, figures: Mapping[str, int], counts: Sequence[float], slow: Sequence[SlowCommand]
    ) -> None:
        """What this worker tells of itself: its present, its counts since it started, its slowest commands. A worker
        goes on where its predecessor ended, so that no count of a server ever falls."""
        row = [float(figures.get(name, 0)) for name in FIGURES]
        row += [base + count for base, count in zip(self._base, counts, strict=True)]
        self._row(self.number)[:] = memoryview(array("d", row))
        octets = b"".join(
            _SLOW.pack(one.ended, one.seconds, one.account, one.what.encode()[:40]) for one in slow
        )
        start = (self.number - 1) * _SLOW_OCTETS
        self._slow[start : start + _SLOW_OCTETS] = octets.ljust(_SLOW_OCTETS, b"\0")

    def _row(self, number: int) -> "memoryview[float]":
        cells = _ROW_OCTETS // 8
        return self._rows[(number - 1) * cells : number * cells]

    def figures(self) -> list[dict[str, int]]:
        """What each worker told last of its present, in their order; all zero: it does not serve."""
        return [
            dict(zip(FIGURES, map(int, self._row(number)), strict=False))
            for number in range(1, self._place.workers + 1)
        ]

    def counts(self) -> list[float]:
        """A row of `core.tally`: all workers together, those that ended included."""
        rows = [
            self._row(number)[len(FIGURES) :].tolist()
            for number in range(1, self._place.workers + 1)
        ]
        return [sum(column) for column in zip(*rows, strict=True)]

    def slow(self) -> list[SlowCommand]:
        """The slow commands of all workers."""
        entries = (_SLOW.unpack(entry) for entry in _pieces(self._slow))
        return [
            SlowCommand(ended, seconds, account, what.rstrip(b"\0").decode("utf-8", "replace"))
            for ended, seconds, account, what in entries
            if ended
        ]

    def forget(self, number: int) -> None:
        """A worker is no more: what it held and did goes; what it counted in all stays."""
        present = self._row(number)[: len(FIGURES)]
        present[:] = memoryview(array("d", bytes(len(present) * 8)))
        for block, size in self._own_blocks:
            start = (number - 1) * size
            block[start : start + size] = bytes(size)


def _pieces(entries: memoryview) -> list[memoryview]:
    return [entries[start : start + _SLOW.size] for start in range(0, len(entries), _SLOW.size)]


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
    memory = mmap.mmap(-1, _ends(1)[-1])
    memory[:_SECRET_OCTETS] = os.urandom(_SECRET_OCTETS)
    return Shared(memory)


def _ends(workers: int) -> list[int]:
    """Where each part ends: secret, rows of numbers, slow commands, watches, mail behind, addresses, connections now
    and passed on, proofs of logins, marks of failed ones, rates."""
    sizes = [
        _SECRET_OCTETS,
        workers * _ROW_OCTETS,
        workers * _SLOW_OCTETS,
        workers * ACCOUNT_SLOTS * 2,
        workers * ACCOUNT_SLOTS * 2,
        workers * ADDRESS_SLOTS * 2,
        workers * NOW_OCTETS,
        workers * passed_octets(workers),
        proofs.TABLE_OCTETS,
        run.MARKS_OCTETS,
        *[rate.TABLE_OCTETS] * RATES,
    ]
    return [sum(sizes[: count + 1]) for count in range(len(sizes))]
