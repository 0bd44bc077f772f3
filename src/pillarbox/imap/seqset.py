"""Sequence sets: message numbers or UIDs as ranges (RFC 3501 §9, sequence-set).

A parsed set is normal: ranges sorted, disjoint and not adjacent, and all that was said with `*` in one number,
because `*` is known only when the set meets a mailbox. Cost grows with the number of ranges, never with their length.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_NUMBER = 0xFFFFFFFF
"""RFC 3501 §9 nz-number: unsigned, 32 bits."""

MAX_RANGES = 10_000
"""Our limit for the ranges of one set, before they are merged."""

_SEQUENCE_SET = re.compile(
    rb"(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?"
    rb"(?:,(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?)*"
)


@dataclass(slots=True, frozen=True)
class SeqSet:
    """`ranges` are inclusive pairs (first, last). `star` is 0, or the set also holds `star:*`; a lone `*` is
    `MAX_NUMBER:*`, for `n:*` always holds the largest number, even if that is below n (RFC 3501 §9, seq-range).
    `saved`: the set is `$`, what a SEARCH saved last (RFC 5182 §2.1), and holds nothing else.
    """

    ranges: tuple[tuple[int, int], ...]
    star: int = 0
    saved: bool = False

    def resolve(self, largest: int) -> Sequence[tuple[int, int]]:
        """The ranges when `*` is `largest` (0: there is none), sorted, disjoint, not adjacent, not clipped."""
        if not self.star or not largest:
            return self.ranges
        last = (min(self.star, largest), largest)
        return merge_ranges([*self.ranges, last]) if self.ranges else (last,)


SAVED = SeqSet((), saved=True)


def parse_seqset(text: bytes) -> SeqSet:
    """`b"5:3,7,10:*"` -> `SeqSet(((3, 5), (7, 7)), star=10)`. ValueError says what is wrong with it."""
    if _SEQUENCE_SET.fullmatch(text) is None:
        raise ValueError("not a sequence set")
    if text.count(b",") >= MAX_RANGES:
        raise ValueError(f"more than {MAX_RANGES} ranges in a sequence set")
    ranges: list[tuple[int, int]] = []
    star = 0
    for item in text.split(b","):
        left, colon, right = item.partition(b":")
        first = MAX_NUMBER if left == b"*" else int(left)
        last = first if not colon else MAX_NUMBER if right == b"*" else int(right)
        if first > last:
            first, last = last, first
        if last > MAX_NUMBER:
            raise ValueError("a number in a sequence set is over 32 bits")
        if b"*" in item:
            star = min(star or MAX_NUMBER, first)
        else:
            ranges.append((first, last))
    return SeqSet(merge_ranges(ranges) if len(ranges) > 1 else tuple(ranges), star)


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Inclusive ranges in any order, made sorted, disjoint and not adjacent."""
    merged: list[tuple[int, int]] = []
    low, high = 0, -1
    for first, last in sorted(ranges):
        if first <= high + 1 and merged:
            if last > high:
                high = last
                merged[-1] = (low, high)
        else:
            low, high = first, last
            merged.append((low, high))
    return tuple(merged)


def clipped(numbers: SeqSet, exists: int) -> SeqSet:
    """Message numbers without those above `exists`."""
    ranges = tuple((first, min(last, exists)) for first, last in numbers.resolve(exists))
    return SeqSet(tuple((first, last) for first, last in ranges if first <= last))


def number_slices(numbers: SeqSet, exists: int) -> list[range]:
    """Message numbers as ranges of 0-based positions in a mailbox of `exists` messages.

    ValueError if a number is above `exists`, as `*` is in an empty mailbox: the answer to that is BAD
    (RFC 3501 §9, seq-number).
    """
    largest = numbers.ranges[-1][1] if numbers.ranges else 1
    if numbers.star != MAX_NUMBER:
        largest = max(largest, numbers.star)
    if largest > exists:
        raise ValueError(f"the mailbox has {exists} messages")
    return [range(first - 1, last) for first, last in numbers.resolve(exists)]


def uid_slices(uids_wanted: SeqSet, uids: Sequence[int]) -> list[range]:
    """UIDs as ranges of 0-based positions in `uids`, which ascend (`array("I")` is best).

    UIDs that do not exist are passed over, without an error (RFC 3501 §6.4.8). Empty ranges are left out.
    """
    if not uids:
        return []
    slices: list[range] = []
    start = 0
    for first, last in uids_wanted.resolve(uids[-1]):
        start = bisect_left(uids, first, start)
        end = bisect_right(uids, last, start)
        if end > start:
            slices.append(range(start, end))
            start = end
    return slices


class Runs:
    """Numbers in any order as a sequence set, made a part at a time: runs that ascend by one become ranges
    (RFC 5267 §3.2). After all parts, `rest` gives what is left."""

    __slots__ = ("_first", "_last", "_separator")

    def __init__(self) -> None:
        self._first = self._last = 0
        self._separator = b""

    def add(self, numbers: Iterable[int]) -> bytes:
        """The text for what came, but for the last run, which may go on."""
        done: list[tuple[int, int]] = []
        first, last = self._first, self._last
        for number in numbers:
            if number == last + 1 and last:
                last = number
                continue
            if last:
                done.append((first, last))
            first = last = number
        self._first, self._last = first, last
        return self._format(done)

    def rest(self) -> bytes:
        """The text of the last run; empty where there were no numbers."""
        return self._format([(self._first, self._last)] if self._last else [])

    def _format(self, ranges: list[tuple[int, int]]) -> bytes:
        if not ranges:
            return b""
        text = self._separator + format_ranges(ranges)
        self._separator = b","
        return text


def format_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Inclusive ranges as they are: `[(1, 3), (5, 5)]` -> `b"1:3,5"`."""
    return b",".join(
        b"%d" % first if first == last else b"%d:%d" % (first, last) for first, last in ranges
    )


def format_seqset(numbers: Iterable[int]) -> bytes:
    """Strictly ascending numbers, compact: `[1, 2, 3, 5]` -> `b"1:3,5"`; none: `b""`."""
    ranges: list[tuple[int, int]] = []
    first = last = 0
    for number in numbers:
        if number == last + 1 and last:
            last = number
            continue
        if last:
            ranges.append((first, last))
        first = last = number
    if last:
        ranges.append((first, last))
    return format_ranges(ranges)
