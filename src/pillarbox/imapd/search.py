"""SEARCH: which messages of a view match a program (RFC 3501 §6.4.4).

The view is walked in slices. A program becomes a tree of steps; each takes the candidates of a slice and returns those
that match. Steps that look at narrow rows go before those that read text, and text is read only for the candidates
that are left. Strings match as substrings of decoded text, by i;unicode-casemap (RFC 5255 §4.2, RFC 5051). A message
that is gone, but not yet for this client, matches no key that has to look at it, and so every NOT of one.
"""

import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import partial

from pillarbox.imap.syntax_search import And, Key, Program
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.program import needed_texts
from pillarbox.imapd.search_slice import Cost, Slice
from pillarbox.imapd.search_steps import FLAG_TESTS, compiled
from pillarbox.store import messages

NARROW_SLICE = 1000
"""Messages in a slice where only narrow rows are read."""
FIELDS_SLICE = 512
"""Where single columns or common fields are."""
WIDE_SLICE = 256
"""Where texts are."""
FLAGS_SLICE = 10_000
"""Messages in a slice of which only the UIDs of those are read that match."""
FEW_FIELDS = 200
"""With fewer messages, their fields are read as soon as an index is asked."""
MOST_NARROWING = 5000
"""Hits in the index and contents that it does not know yet, and messages that have these; with more, each slice is
narrowed when it is looked at."""
NARROWING_SLICE = 1000
"""Hits of which the messages are looked up at once."""


async def search(context: SearchContext, program: Program) -> "array[int]":
    """The UIDs that match, ascending.

    Raises RemoteError for message numbers that do not exist, and Unavailable.
    """
    uids = context.uids
    if _is_all(program):
        return uids
    wanted = _wanted_flags(program)
    if wanted is not None:
        return await _with_flags(context, *wanted)
    step = compiled(program, context)
    if step.cost == Cost.FIELDS and len(uids) < FEW_FIELDS:
        context.go_without_index()
    elif step.cost >= Cost.FIELDS and await context.has_index():
        uids = await _narrowed(context, program)
    size = _slice_for(step.cost)
    found = array("I")
    for start in range(0, len(uids), size):
        part = uids[start : start + size]
        matched = await step.match(Slice(context, part), set(part))
        found.extend(sorted(matched))
        await context.pause()
    return found


def _slice_for(cost: Cost) -> int:
    if cost <= Cost.ROW:
        return NARROW_SLICE
    return FIELDS_SLICE if cost <= Cost.FIELDS else WIDE_SLICE


def _is_all(program: Program) -> bool:
    """Whether it is ALL, as it mostly is with SORT and THREAD."""
    if isinstance(program, And):
        return all(map(_is_all, program.keys))
    return isinstance(program, Key) and program.name == "ALL"


def _wanted_flags(program: Program) -> tuple[int, int] | None:
    """(mask, value), where all that a program asks of flags is that those of the mask have just this value."""
    if isinstance(program, Key):
        return FLAG_TESTS.get(program.name)
    if not isinstance(program, And):
        return None
    mask = value = 0
    for key in program.keys:
        wanted = _wanted_flags(key)
        if wanted is None or (wanted[1] ^ value) & mask & wanted[0]:  # or set and not set at once
            return None
        mask, value = mask | wanted[0], value | wanted[1]
    return mask, value


async def _with_flags(context: SearchContext, mask: int, value: int) -> "array[int]":
    """The messages that have them."""
    uids, found = context.uids, array("I")
    for start in range(0, len(uids), FLAGS_SLICE):
        part = uids[start : start + FLAGS_SLICE]
        work = partial(
            messages.with_flags,
            mailbox=context.mailbox,
            uid_range=(part[0], part[-1]),
            mask=mask,
            value=value,
        )
        found.extend(_among(part, await context.store.read(context.account, work)))
        await context.pause()
    return found


def _among(part: "array[int]", found: list[int]) -> list[int]:
    """Those of ascending UIDs that are in a part of what is searched, which need not be all of the mailbox."""
    if part[-1] - part[0] < len(part):
        return found
    return sorted(set(part).intersection(found))


def _few_among(uids: "array[int]", few: Iterable[int]) -> list[int]:
    """The same without a look at each of those that are searched."""
    places = [(bisect_left(uids, uid), uid) for uid in few]
    return [uid for place, uid in places if place < len(uids) and uids[place] == uid]


async def _narrowed(context: SearchContext, program: Program) -> "array[int]":
    """The messages in which all texts may be that the program needs, by the index."""
    uids = context.uids
    needed = needed_texts(program)
    hits = await context.hits(*needed) if needed else None
    if hits is None or len(hits.contents) + hits.unknown > MOST_NARROWING:
        return uids
    look_up = partial(_look_up, context, mailbox=context.mailbox, most=MOST_NARROWING + 1)
    found: list[int] = []
    if hits.unknown:
        found += await look_up(messages.of_contents_above, above=hits.up_to)
    contents = sorted(hits.contents)
    for start in range(0, len(contents), NARROWING_SLICE):
        part = json.dumps(contents[start : start + NARROWING_SLICE])
        found += await look_up(messages.of_contents, contents=part)
        if len(found) > MOST_NARROWING:  # copies share a content
            return uids
    return array("I", _few_among(uids, sorted(set(found))))


async def _look_up(
    context: SearchContext, query: Callable[..., list[int]], **values: int | str
) -> list[int]:
    found = await context.store.read(context.account, partial(query, **values))
    await context.pause()
    return found
