"""How often something may happen in a minute, for each of many (addresses, accounts): token buckets.

The buckets are a table of numbers that several processes may share; two that take from one bucket in the same
microsecond may count as one. Times are seconds of one clock, given by the caller, that does not go backwards.
"""

from pillarbox.core.slots import Mark, mark_of

SLOTS = 1 << 14
PROBES = 8
"""Slots that a key may have. When all are taken, it gets that of the key that was not seen for longest."""

_CELLS = 3  # of 8 octets: the key's mark, the tokens that were left, and when
TABLE_OCTETS = SLOTS * _CELLS * 8


class Rate:
    """`per_minute` at once, and as many in each minute after; 0: no limit."""

    __slots__ = ("_mark", "_marks", "_numbers", "per_minute")

    def __init__(
        self, per_minute: int, table: memoryview | None = None, mark: Mark = mark_of
    ) -> None:
        """`table` is TABLE_OCTETS of memory, zero at first; all that share it must have the same `mark`."""
        self.per_minute = per_minute
        octets = (memoryview(bytearray(TABLE_OCTETS)) if table is None else table).cast("B")
        self._marks = octets.cast("Q")
        self._numbers = octets.cast("d")
        self._mark = mark

    def take(self, key: str, now: float) -> bool:
        """Whether it may happen once more now; if so, it counts."""
        if not self.per_minute:
            return True
        mark = self._mark(key) or 1
        cell = self._find(mark)
        marks, numbers = self._marks, self._numbers
        tokens = float(self.per_minute)
        if marks[cell] == mark:
            passed = now - numbers[cell + 2]
            tokens = min(tokens, numbers[cell + 1] + passed * self.per_minute / 60)
        if tokens < 1:
            return False
        marks[cell] = mark
        numbers[cell + 1] = tokens - 1
        numbers[cell + 2] = now
        return True

    def _find(self, mark: int) -> int:
        """Where the bucket of a key is, or shall be."""
        marks, numbers = self._marks, self._numbers
        cells = [_CELLS * ((mark + step) % SLOTS) for step in range(PROBES)]
        for cell in cells:
            if marks[cell] == mark:
                return cell
        return min(cells, key=lambda cell: (marks[cell] != 0, numbers[cell + 2]))
