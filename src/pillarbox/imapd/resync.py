"""What a client lacks since a mod-sequence that it knows (RFC 7162 §3.1.4.1, §3.2.5, §3.2.6). In slices throughout.

What came or changed is found in time that grows with the answer, not with the mailbox; expunges are never forgotten.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from pillarbox.imap.syntax_select import Resync
from pillarbox.imapd.client import Client
from pillarbox.imapd.telling import UIDS_A_SLICE
from pillarbox.imapd.view import View
from pillarbox.store import changes
from pillarbox.store.changes import Place, Ranges
from pillarbox.store.tx import Tx


async def vanished_since(client: Client, modseq: int, wanted: Sequence[tuple[int, int]]) -> Ranges:
    """Which UIDs of `wanted` (ascending, disjoint ranges) were expunged above `modseq`, but for those that the client's
    view still has."""
    found = await _all_since(client, changes.vanished_since, modseq)
    return without(intersect(found, wanted), client.selected.view)


_Look = Callable[[Tx, int, int, Place | None], tuple[Ranges, Place | None]]


async def _all_since(client: Client, look: _Look, modseq: int) -> Ranges:
    """What `look` (of `store.changes`) finds, slice by slice; ascending and disjoint."""
    mailbox = client.selected.mailbox
    found: Ranges = []
    place: Place | None = None
    while True:

        def work(tx: Tx, place: Place | None = place) -> tuple[Ranges, Place | None]:
            return look(tx, mailbox, modseq, place)

        part, place = await client.read_selected(work)
        found += part
        if place is None:
            return changes.merge(found)
        await client.pause()


async def changed_since(client: Client, modseq: int) -> list[int]:
    """UIDs of the messages that came, or whose flags changed, above `modseq`, ascending."""
    selected = client.selected
    came: list[int] = []
    below = selected.view.uidnext
    more = True
    while more:

        def newest(tx: Tx, below: int = below) -> tuple[list[int], bool]:
            return changes.came_since(tx, selected.mailbox, modseq, below)

        part, more = await client.read_selected(newest)
        came += part
        if part:
            below = part[-1]
        if more:
            await client.pause()
    came.reverse()
    return [*await _flagged(client, modseq, below), *came]


async def _flagged(client: Client, modseq: int, below: int) -> list[int]:
    """Those below a UID."""
    selected = client.selected
    flagged = await _all_since(client, changes.flagged_since, modseq)
    rest = intersect(flagged, [(1, below - 1)])
    found: list[int] = []
    while rest:

        def look(tx: Tx, rest: Ranges = rest) -> tuple[list[int], Ranges]:
            rows, left = changes.flags_since(tx, selected.mailbox, rest, modseq)
            return [row[0] for row in rows], left

        uids, rest = await client.read_selected(look)
        found += uids
        if rest:
            await client.pause()
    return found


def known_up_to(view: View, resync: Resync) -> int:
    """The highest UID of the pairs in `resync` that are so in the view: the client knows of all expunges up to there
    (RFC 7162 §3.2.5.2). 0: none is. A pair that is not so any more is followed by no other that is."""
    sizes = list(accumulate(last - first + 1 for first, last in resync.numbers))
    uid_sizes = list(accumulate(last - first + 1 for first, last in resync.their_uids))
    good, bad = 0, (sizes[-1] if sizes else 0) + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        number = _at(resync.numbers, sizes, middle)
        if view.number(_at(resync.their_uids, uid_sizes, middle)) == number:
            good = middle
        else:
            bad = middle
    return _at(resync.their_uids, uid_sizes, good) if good else 0


def _at(ranges: Sequence[tuple[int, int]], sizes: list[int], place: int) -> int:
    """The number at a place, from 1, in ranges of which `sizes` are the sums."""
    index = bisect_left(sizes, place)
    return ranges[index][1] - (sizes[index] - place)


def intersect(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> Ranges:
    """What two lists of ascending, disjoint, inclusive ranges have in common."""
    found: Ranges = []
    place = 0
    for first, last in one:
        while place < len(other) and other[place][1] < first:
            place += 1
        index = place
        while index < len(other) and other[index][0] <= last:
            found.append((max(first, other[index][0]), min(last, other[index][1])))
            index += 1
    return found


def subtract(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> Ranges:
    """What the ranges of `one` have and those of `other` have not; both ascending and disjoint."""
    found: Ranges = []
    place = 0
    for first, last in one:
        while place < len(other) and other[place][1] < first:
            place += 1
        index = place
        while index < len(other) and other[index][0] <= last:
            if first < other[index][0]:
                found.append((first, other[index][0] - 1))
            first = other[index][1] + 1
            index += 1
        if first <= last:
            found.append((first, last))
    return found


def without(ranges: Ranges, view: View) -> Ranges:
    """Ranges of UIDs, cut where the view has one."""
    uids = view.uids
    found: Ranges = []
    for first, last in ranges:
        start = bisect_left(uids, first)
        for uid in uids[start : bisect_right(uids, last, start)]:
            if first < uid:
                found.append((first, uid - 1))
            first = uid + 1
        if first <= last:
            found.append((first, last))
    return found


def slices(ranges: Ranges) -> list[Ranges]:
    """In parts that one response tells."""
    return [ranges[start : start + UIDS_A_SLICE] for start in range(0, len(ranges), UIDS_A_SLICE)]
