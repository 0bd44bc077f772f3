"""SORT: what a search found, in order (RFC 5256 §3)."""

from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from heapq import merge
from operator import itemgetter
from typing import Any, TypeVar, cast

from pillarbox.core.dates import epoch_of
from pillarbox.imap.syntax_search import Program, SortKey
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.display import display_key
from pillarbox.imapd.search import search
from pillarbox.store import messages

SLICE = 256
"""Messages whose keys are read at once."""
ENVELOPES_A_SLICE = 64
"""The same where each has an ENVELOPE, which a hostile message can make as long as 70 KiB."""
Item = TypeVar("Item")

RUN = 8192
"""Messages that are sorted at once: a few milliseconds."""

_COLUMNS = {
    "ARRIVAL": ("internaldate",),
    "CC": ("cc_key",),
    "DATE": ("sent", "internaldate"),
    "FROM": ("from_key",),
    "SIZE": ("size",),
    "SUBJECT": ("subject",),
    "TO": ("to_key",),
    "DISPLAYFROM": ("envelope",),  # RFC 5957 §4
    "DISPLAYTO": ("envelope",),
    "RELEVANCY": ("uid",),  # RFC 6203 §6
}
"""The columns of a sort key; strings are stored as `mime.fold.order_key` has them (RFC 5255 §4.2)."""


async def sort(
    context: SearchContext,
    criteria: Sequence[SortKey],
    program: Program,
    scores: Mapping[int, int] | None = None,
) -> Sequence[int]:
    """The UIDs that match, by `criteria`, equal ones in the order of the mailbox; messages that are gone are left out.
    `scores` are by UID, for RELEVANCY.

    Raises RemoteError and Unavailable as `search` does.
    """
    return await in_sorted_order(context, criteria, await search(context, program), scores)


async def in_sorted_order(
    context: SearchContext,
    criteria: Sequence[SortKey],
    uids: Sequence[int],
    scores: Mapping[int, int] | None = None,
) -> Sequence[int]:
    """`sort` for UIDs that ascend."""
    key = None
    if not scores:
        what = tuple((each.name, each.reverse) for each in criteria)
        key = context.orders.key(context.account, context.mailbox, what, uids)
        kept = context.orders.find(key)
        if kept is not None:
            return cast(Sequence[int], kept)
    found = await _in_order_of(context, criteria, uids, scores)
    context.orders.keep(key, array("I", found), 8 * len(found))
    return found


async def _in_order_of(
    context: SearchContext,
    criteria: Sequence[SortKey],
    uids: Sequence[int],
    scores: Mapping[int, int] | None,
) -> list[int]:
    columns = tuple(dict.fromkeys(name for key in criteria for name in _COLUMNS[key.name]))
    rows: list[tuple[Any, ...]] = []
    displays = tuple(dict.fromkeys(key.name for key in criteria if key.name in DISPLAYS))
    length = ENVELOPES_A_SLICE if displays else 0
    async for part in read_columns(context, uids, ("uid", *columns), length):
        rows += await _with_names(context, part, columns, displays) if displays else part
    columns = columns + displays
    # One stable sort a key, the last key first: the order of the mailbox is kept among equals.
    for key in reversed(criteria):
        rows = await _sorted(context, rows, _key_function(key.name, columns, scores), key.reverse)
    found = []
    rows.reverse()
    while rows:  # what is not needed any more goes in slices, too
        found += [row[0] for row in rows[: -RUN - 1 : -1]]
        del rows[-RUN:]
        await context.pause()
    return found


async def read_columns(
    context: SearchContext, uids: Sequence[int], columns: tuple[str, ...], length: int = 0
) -> AsyncIterator[list[tuple[Any, ...]]]:
    """Rows of messages by UID, in slices of `length` (0: the usual one); those that are gone are left out."""
    length = length or SLICE
    for start in range(0, len(uids), length):
        ranges = messages.to_ranges(uids[start : start + length])
        yield await context.store.read(
            context.account,
            lambda tx, ranges=ranges: messages.select(tx, context.mailbox, ranges, columns),  # type: ignore[misc]
        )
        await context.pause()


def sent_epoch(sent: int | None, internaldate: int) -> int:
    """The moment of sending, else of arrival (RFC 5256 §2.2), in epoch seconds."""
    return epoch_of(internaldate if sent is None else sent)


DISPLAYS = frozenset(("DISPLAYFROM", "DISPLAYTO"))


async def _with_names(
    context: SearchContext,
    rows: list[tuple[Any, ...]],
    columns: tuple[str, ...],
    displays: tuple[str, ...],
) -> list[tuple[Any, ...]]:
    """Rows with the names that DISPLAYFROM and DISPLAYTO sort by, and without the ENVELOPE that they are from."""
    place = 1 + columns.index("envelope")

    def add(row: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [display_key(row[place], key) for key in displays]
        return (*row[:place], None, *row[place + 1 :], *names)

    octets = sum(len(row[place]) for row in rows)
    return await context.store.compute_sized(octets, lambda: [add(row) for row in rows])


def _key_function(
    name: str, columns: tuple[str, ...], scores: Mapping[int, int] | None
) -> Callable[[tuple[Any, ...]], Any]:
    if name == "RELEVANCY":  # the most relevant one first
        return lambda row: -(scores or {}).get(row[0], 0)
    if name in DISPLAYS:
        return itemgetter(1 + columns.index(name))
    places = [1 + columns.index(column) for column in _COLUMNS[name]]
    if name == "DATE":
        sent, arrival = places
        return lambda row: sent_epoch(row[sent], row[arrival])
    (place,) = places
    if name == "ARRIVAL":
        return lambda row: epoch_of(row[place])
    return itemgetter(place)


def in_order(items: list[Item], key: Callable[[Item], Any]) -> list[Item]:
    """A stable sort for a thread: `list.sort` would keep all others from running until it is done."""
    if len(items) <= RUN:
        return sorted(items, key=key)
    runs = [sorted(items[start : start + RUN], key=key) for start in range(0, len(items), RUN)]
    return list(merge(*runs, key=key))


async def _sorted(
    context: SearchContext,
    rows: list[tuple[Any, ...]],
    key: Callable[[tuple[Any, ...]], Any],
    reverse: bool,
) -> list[tuple[Any, ...]]:
    """A stable sort that lets others have their turn."""
    if len(rows) <= RUN:
        return sorted(rows, key=key, reverse=reverse)
    runs = []
    for start in range(0, len(rows), RUN):
        runs.append(sorted(rows[start : start + RUN], key=key, reverse=reverse))
        await context.pause()
    merged: list[tuple[Any, ...]] = []
    for row in merge(*runs, key=key, reverse=reverse):
        merged.append(row)
        if len(merged) % RUN == 0:
            await context.pause()
    return merged
