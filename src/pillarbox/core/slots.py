"""Counts by key that all workers of a server see, in memory that they share: each worker writes its own only.

A key has a slot by its mark. Two keys may fall into one slot and are counted together then, which is seldom while they
are far fewer than the slots; nobody can aim at that who does not know the secret.
"""

from collections.abc import Callable
from hashlib import blake2b

Mark = Callable[[str], int]
"""64 bits for a key."""


def keyed_mark(secret: bytes) -> Mark:
    """The same for all that know `secret`, and for nobody else."""

    def mark(key: str) -> int:
        return int.from_bytes(
            blake2b(key.encode("utf-8", "replace"), digest_size=8, key=secret).digest(), "little"
        )

    return mark


mark_of = keyed_mark(b"")
"""For one process alone, where nobody has an interest in the marks."""


class SlotCounts:
    """`table` is an array of small numbers: `slots` for each worker, in their order."""

    __slots__ = ("_others", "_own", "_table")

    def __init__(self, table: memoryview, slots: int, number: int) -> None:
        """`number` is that of this worker, from 1 on; the size of `table` tells how many there are."""
        self._table = table.cast("B").cast("H")
        starts = range(0, len(self._table), slots)
        self._own = (number - 1) * slots
        self._others = {
            index + 1: start for index, start in enumerate(starts) if start != self._own
        }

    def add(self, slot: int, change: int) -> None:
        """To the count of this worker; +1 or -1."""
        self._table[self._own + slot] = max(0, min(0xFFFF, self._table[self._own + slot] + change))

    def of_others(self, slot: int) -> int:
        """What all others have counted."""
        table = self._table
        return sum(table[start + slot] for start in self._others.values())

    def holders(self, slot: int) -> list[int]:
        """Numbers of the others that have counted anything."""
        table = self._table
        return [number for number, start in self._others.items() if table[start + slot]]
