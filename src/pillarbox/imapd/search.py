"""SEARCH: which messages of a view match a program (RFC 3501 §6.4.4).

The view is walked in slices. A program becomes a tree of steps; each takes the candidates of a slice and returns those
that match. Steps that look at narrow rows go before those that read text, and text is read only for the candidates
that are left. Strings match as substrings of decoded text, by i;unicode-casemap (RFC 5255 §4.2, RFC 5051). A message
that is gone, but not yet for this client, matches no key that has to look at it, and so every NOT of one.
"""

import json
from array import array
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, Final

from pillarbox.core import flags as flag
from pillarbox.core.dates import epoch_of, local_day
from pillarbox.core.errors import RemoteError
from pillarbox.imap.seqset import SeqSet, clipped, number_slices, uid_slices
from pillarbox.imap.syntax_search import And, Filter, Fuzzy, Key, Not, Or, Program
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.objectid import number_of
from pillarbox.imapd.program import folded_text, loosened, needed_texts
from pillarbox.mime import searched
from pillarbox.store import keywords, messages
from pillarbox.store.content import FIELD_CODES, PIECE_OCTETS
from pillarbox.store.tx import Tx

NARROW_SLICE = 1000
"""Messages in a slice where only narrow rows are read."""
FIELDS_SLICE = 512
"""Where single columns or common fields are."""
WIDE_SLICE = 256
"""Where texts are."""
MOST_OCTETS = 1 << 20
"""Of text in one read, unless a single message has more."""
WORK_A_TURN = 20_000
"""After so much work (`_Cost`) others have their turn: a program may have thousands of keys."""
FLAGS_SLICE = 10_000
"""Messages in a slice of which only the UIDs of those are read that match."""
FEW_FIELDS = 200
"""With fewer messages, their fields are read as soon as an index is asked."""
NARROWED_SLICE = 20_000
"""Messages that are asked at once whether they have one of some contents."""
MOST_NARROWING = 5000
"""Hits in the index; with more, each slice is narrowed when it is looked at."""
READ_AT_ONCE = 32
"""So few messages are read without asking the index about them."""
FEW = 4
"""If a slice has this many times more messages than there are candidates, only these are read."""


class _Cost(IntEnum):
    """What a step reads, and about how much work that is for each candidate."""

    NOTHING = 1
    ROW = 2
    SENT = 4
    FIELDS = 16
    TEXT = 32


_Row = tuple[int, int, int, int, int]
"""The narrow columns of a message, in the order of the numbers below, behind its UID."""
_FLAGS: Final = 1
_DATE: Final = 2
_SIZE: Final = 3
_MODSEQ: Final = 4
_ROW = ("uid", "flags", "internaldate", "size", "modseq")

_RowTest = Callable[[_Row], bool]
_DayTest = Callable[[int, int], bool]
_Texts = list[tuple[int, bytes]]
"""Octets of messages or header blocks, by UID."""


class _Slice:
    """Consecutive messages of the view, and what was read of them."""

    __slots__ = ("_length", "_ranges", "_rows", "_work", "context")

    def __init__(self, context: SearchContext, uids: "array[int]") -> None:
        self.context = context
        self._length = len(uids)
        is_sparse = uids[-1] - uids[0] >= FEW * len(uids)
        self._ranges = messages.to_ranges(uids) if is_sparse else [(uids[0], uids[-1])]
        self._rows: dict[int, _Row] | None = None
        self._work = 0

    async def run(self, step: "_Step", candidates: set[int]) -> set[int]:
        """Those of the candidates that match."""
        self._work += len(candidates) * step.cost
        if self._work > WORK_A_TURN:
            self._work = 0
            await self.context.pause()
        return await step.match(self, candidates)

    async def rows(self) -> dict[int, _Row]:
        """By UID, read once; messages that are gone are missing."""
        if self._rows is None:
            self._rows = {row[0]: row for row in await self.columns(*_ROW)}
        return self._rows

    async def keywords(self) -> dict[int, tuple[bytes, ...]]:
        """Of each flags value in the slice, in lower case."""
        values = {row[_FLAGS] for row in (await self.rows()).values()}

        def work(tx: Tx) -> dict[int, tuple[bytes, ...]]:
            names_of = keywords.names_of
            return {flags: tuple(map(bytes.lower, names_of(tx, flags))) for flags in values}

        return await self.context.store.read(self.context.account, work)

    async def columns(self, *names: str) -> list[tuple[Any, ...]]:
        """Of all messages of the slice, by UID."""
        context = self.context
        return await context.store.read(context.account, lambda tx: self._select(tx, names))

    def _select(self, tx: Tx, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
        return messages.select(tx, self.context.mailbox, self._ranges, names)

    async def columns_of(self, candidates: set[int], *names: str) -> list[tuple[Any, ...]]:
        """Of the candidates, and perhaps of others."""
        if len(candidates) * FEW < self._length:
            return await self._select_some(sorted(candidates), names)
        return await self.columns(*names)

    async def likely(self, candidates: set[int], wanted: str) -> set[int]:
        """Those of the candidates that may have a folded text in them, by the index."""
        if len(candidates) <= READ_AT_ONCE:
            return candidates
        hits = await self.context.hits(wanted)
        if hits is None:
            return candidates
        return {
            uid
            for uid, content in await self.columns_of(candidates, "uid", "content")
            if uid in candidates and hits.may_have(content)
        }

    async def headers(self, candidates: set[int]) -> AsyncIterator[_Texts]:
        """Header blocks in groups of about MOST_OCTETS."""
        sizes = dict(await self.columns_of(candidates, "uid", "header_size"))
        for group in _grouped(candidates, sizes):
            yield [
                (uid, header) for uid, header in await self._select_some(group, ("uid", "header"))
            ]

    async def wholes(self, candidates: set[int]) -> AsyncIterator[_Texts]:
        """Whole messages in groups of about MOST_OCTETS."""
        sizes = dict(await self.columns_of(candidates, "uid", "size"))
        columns = ("uid", "header", "body", "content", "size")
        for group in _grouped(candidates, sizes):
            texts: _Texts = []
            for uid, header, body, content, size in await self._select_some(group, columns):
                octets = header + (body or b"")
                if len(octets) < size:
                    octets += await self._rest(content, len(octets) - len(header))
                texts.append((uid, octets))
            yield texts

    async def _select_some(
        self, uids: list[int], columns: tuple[str, ...]
    ) -> list[tuple[Any, ...]]:
        context, ranges = self.context, messages.to_ranges(uids)
        return await context.store.read(
            context.account, lambda tx: messages.select(tx, context.mailbox, ranges, columns)
        )

    async def _rest(self, content: int, start: int) -> bytes:
        """A long body from octet `start` on, read piece by piece."""
        context = self.context
        pieces: list[bytes] = []
        while True:
            await context.pause()
            piece = await context.store.read(
                context.account,
                lambda tx, start=start: messages.body(tx, content, start, PIECE_OCTETS),  # type: ignore[misc]
            )
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            start += len(piece)


def _grouped(candidates: set[int], sizes: dict[int, int]) -> Iterator[list[int]]:
    """Ascending UIDs, as many in a group as MOST_OCTETS allows; those without a size are left out."""
    group: list[int] = []
    octets = 0
    for uid in sorted(candidates & sizes.keys()):
        if group and octets + sizes[uid] > MOST_OCTETS:
            yield group
            group, octets = [], 0
        group.append(uid)
        octets += sizes[uid]
    if group:
        yield group


@dataclass(slots=True)
class _Step:
    """One node of a program, ready to run."""

    cost: _Cost
    match: Callable[[_Slice, set[int]], Awaitable[set[int]]]


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
    step = _compile(program, context)
    if step.cost == _Cost.FIELDS and len(uids) < FEW_FIELDS:
        context.go_without_index()
    elif step.cost >= _Cost.FIELDS and await context.has_index():
        uids = await _narrowed(context, program)
    size = _slice_for(step.cost)
    found = array("I")
    for start in range(0, len(uids), size):
        part = uids[start : start + size]
        matched = await step.match(_Slice(context, part), set(part))
        found.extend(sorted(matched))
        await context.pause()
    return found


def _slice_for(cost: _Cost) -> int:
    if cost <= _Cost.ROW:
        return NARROW_SLICE
    return FIELDS_SLICE if cost <= _Cost.FIELDS else WIDE_SLICE


def _is_all(program: Program) -> bool:
    """Whether it is ALL, as it mostly is with SORT and THREAD."""
    if isinstance(program, And):
        return all(map(_is_all, program.keys))
    return isinstance(program, Key) and program.name == "ALL"


def _wanted_flags(program: Program) -> tuple[int, int] | None:
    """(mask, value), where all that a program asks of flags is that those of the mask have just this value."""
    if isinstance(program, Key):
        return _FLAG_TESTS.get(program.name)
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


async def _narrowed(context: SearchContext, program: Program) -> "array[int]":
    """The messages in which all texts may be that the program needs, by the index."""
    uids = context.uids
    needed = needed_texts(program)
    hits = await context.hits(*needed) if needed else None
    if hits is None or len(hits.contents) > MOST_NARROWING:
        return uids
    left = array("I")
    contents = json.dumps(sorted(hits.contents))
    for start in range(0, len(uids), NARROWED_SLICE):
        part = uids[start : start + NARROWED_SLICE]
        found = await context.store.read(
            context.account,
            partial(
                messages.of_contents,
                mailbox=context.mailbox,
                uid_range=(part[0], part[-1]),
                contents=contents,
                above=hits.up_to,
            ),
        )
        left.extend(_among(part, found))
        await context.pause()
    return left


# The tree


def _compile(program: Program, context: SearchContext) -> _Step:
    match program:
        case And():
            return _all_of([_compile(key, context) for key in program.keys])
        case Or():
            return _either([_compile(program.left, context), _compile(program.right, context)])
        case Not():
            return _none_of(_compile(program.key, context))
        case Fuzzy():
            return _compile(loosened(program), context)
        case Filter():
            raise AssertionError("a filter that was not looked up")
        case Key():
            return _compile_key(program, context)


def _by_cost(step: _Step) -> _Cost:
    return step.cost


def _all_of(steps: list[_Step]) -> _Step:
    steps.sort(key=_by_cost)

    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        for step in steps:
            if not candidates:
                break
            candidates = await part.run(step, candidates)
        return candidates

    return _Step(steps[-1].cost, match)


def _either(steps: list[_Step]) -> _Step:
    first, second = sorted(steps, key=_by_cost)

    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        found = await part.run(first, candidates)
        rest = candidates - found
        return found | await part.run(second, rest) if rest else found

    return _Step(second.cost, match)


def _none_of(step: _Step) -> _Step:
    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        return candidates - await part.run(step, candidates)

    return _Step(step.cost, match)


def _compile_key(key: Key, context: SearchContext) -> _Step:
    name: str = key.name
    argument: Any = key.argument
    if name in _FLAG_TESTS:
        return _row_step(_flags_test(*_FLAG_TESTS[name]))
    if name in _ROW_TESTS:
        return _row_step(_ROW_TESTS[name](argument))
    if name in _SENT_TESTS:
        return _sent_step(_SENT_TESTS[name], argument)
    match name:
        case "KEYWORD" | "UNKEYWORD":
            return _keyword_step(argument, is_set=name == "KEYWORD")
        case "ALL":
            return _uid_step(lambda part, uid: True)
        case "RECENT":
            return _uid_step(lambda part, uid: part.context.recent(uid))
        case "OLD":
            return _uid_step(lambda part, uid: not part.context.recent(uid))
        case "NEW":
            return _all_of([_compile_key(Key(each), context) for each in ("RECENT", "UNSEEN")])
        case "SEQUENCE" | "UID":
            return _set_step(argument, context, is_uid=name == "UID")
        case "BODY" | "TEXT":
            return _text_step(folded_text(key), with_header=name == "TEXT")
        case "OLDER" | "YOUNGER":
            return _row_step(_within(name, int(context.store.clock()) - argument))
        case "SAVEDATESUPPORTED":  # RFC 8514 §4.3
            return _uid_step(lambda part, uid: True)
        case "SAVEDBEFORE" | "SAVEDON" | "SAVEDSINCE":
            return _saved_step(_SENT_TESTS[name.replace("SAVED", "SENT")], argument)
        case "EMAILID" | "THREADID":
            column = "content" if name == "EMAILID" else "thread"
            wanted = number_of(argument, name[0].replace("E", "M"), context.account)
            return _column_step(column, lambda value: value == wanted)
        case "HEADER":
            return _field_step(argument[0], folded_text(key))
        case _:  # BCC, CC, FROM, SUBJECT, TO
            return _field_step(name, folded_text(key))


# Keys that need no text


def _uid_step(test: Callable[[_Slice, int], bool]) -> _Step:
    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        return {uid for uid in candidates if test(part, uid)}

    return _Step(_Cost.NOTHING, match)


def _set_step(numbers: SeqSet, context: SearchContext, *, is_uid: bool) -> _Step:
    uids = context.uids
    if numbers.saved:
        numbers, is_uid = context.saved, True
    if context.clips_numbers and not is_uid:
        numbers = clipped(numbers, len(uids))
    try:
        positions = uid_slices(numbers, uids) if is_uid else number_slices(numbers, len(uids))
    except ValueError as error:  # RFC 3501 §9 seq-number
        raise RemoteError(f"No such message: {error}") from None
    firsts = [uids[part[0]] for part in positions]
    lasts = [uids[part[-1]] for part in positions]

    def test(_part: _Slice, uid: int) -> bool:
        index = bisect_right(firsts, uid) - 1
        return index >= 0 and uid <= lasts[index]

    return _uid_step(test)


def _row_step(test: _RowTest) -> _Step:
    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        rows = await part.rows()
        return {uid for uid in candidates if uid in rows and test(rows[uid])}

    return _Step(_Cost.ROW, match)


_FLAG_TESTS: dict[str, tuple[int, int]] = {
    "ANSWERED": (flag.ANSWERED, flag.ANSWERED),
    "DELETED": (flag.DELETED, flag.DELETED),
    "DRAFT": (flag.DRAFT, flag.DRAFT),
    "FLAGGED": (flag.FLAGGED, flag.FLAGGED),
    "SEEN": (flag.SEEN, flag.SEEN),
    "UNANSWERED": (flag.ANSWERED, 0),
    "UNDELETED": (flag.DELETED, 0),
    "UNDRAFT": (flag.DRAFT, 0),
    "UNFLAGGED": (flag.FLAGGED, 0),
    "UNSEEN": (flag.SEEN, 0),
}
"""(mask, value): the flags of the mask have this value."""


def _flags_test(mask: int, value: int) -> _RowTest:
    return lambda row: row[_FLAGS] & mask == value


def _keyword_step(name: str, *, is_set: bool) -> _Step:
    wanted = name.lower().encode()

    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        rows = await part.rows()
        good = {
            flags for flags, names in (await part.keywords()).items() if (wanted in names) is is_set
        }
        return {uid for uid in candidates if uid in rows and rows[uid][_FLAGS] in good}

    return _Step(_Cost.ROW, match)


# RFC 3501 §6.4.4: dates are compared without time and zone, as they stand in the date.
_ROW_TESTS: dict[str, Callable[[Any], _RowTest]] = {
    "BEFORE": lambda day: lambda row: local_day(row[_DATE]) < day,
    "ON": lambda day: lambda row: local_day(row[_DATE]) == day,
    "SINCE": lambda day: lambda row: local_day(row[_DATE]) >= day,
    "LARGER": lambda octets: lambda row: row[_SIZE] > octets,
    "SMALLER": lambda octets: lambda row: row[_SIZE] < octets,
    # RFC 7162 §3.1.5
    "MODSEQ": lambda modseq: lambda row: row[_MODSEQ] >= modseq,
}

_SENT_TESTS: dict[str, _DayTest] = {
    "SENTBEFORE": lambda sent, day: sent < day,
    "SENTON": lambda sent, day: sent == day,
    "SENTSINCE": lambda sent, day: sent >= day,
}


def _sent_step(test: _DayTest, day: int) -> _Step:
    """A message without a usable Date field matches none of them."""

    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        return {
            uid
            for uid, sent in await part.columns("uid", "sent")
            if uid in candidates and sent is not None and test(local_day(sent), day)
        }

    return _Step(_Cost.SENT, match)


def _within(name: str, moment: int) -> _RowTest:
    """RFC 5032 §2; `moment` in epoch seconds."""
    if name == "OLDER":
        return lambda row: epoch_of(row[_DATE]) <= moment
    return lambda row: epoch_of(row[_DATE]) >= moment


def _saved_step(test: _DayTest, day: int) -> _Step:
    """RFC 8514 §4.3; days are those of UTC."""
    return _column_step("savedate", lambda saved: test(saved // 86_400, day))


def _column_step(name: str, test: Callable[[Any], bool]) -> _Step:
    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        return {
            uid
            for uid, value in await part.columns("uid", name)
            if uid in candidates and test(value)
        }

    return _Step(_Cost.SENT, match)


# Keys that look into text


def _field_step(name: str, wanted: str) -> _Step:
    """Messages that have the field, if it contains `wanted` (RFC 3501 §6.4.4 HEADER: all of them if that is empty)."""
    field = name.lower().encode("ascii", "replace")
    code = FIELD_CODES.get(field)

    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        found: set[int] = set()
        candidates = await part.likely(candidates, wanted)
        unknown = candidates
        if code is not None:
            rows = await part.columns_of(candidates, "uid", "shape", "fields")
            fields, unknown = _of_shapes(rows, candidates, code)
            octets = sum([len(raw) for _, raw in fields])
            found = await part.context.store.compute_sized(
                octets, lambda: searched.fields_with(fields, wanted)
            )
        if unknown:
            async for blocks in part.headers(unknown):
                octets = sum([len(block) for _, block in blocks])
                found |= await part.context.store.compute_sized(
                    octets, partial(searched.blocks_with, blocks, field, wanted)
                )
                await part.context.pause()
        return found

    return _Step(_Cost.FIELDS, match)


def _of_shapes(
    rows: list[tuple[Any, ...]], candidates: set[int], code: int
) -> tuple[_Texts, set[int]]:
    """The raw fields with a code (`store.content`) of the candidates, from their shapes and fields, and those of the
    candidates that do not have these apart."""
    texts: _Texts = []
    unknown: set[int] = set()
    last, place, is_repeated = None, -1, False
    for uid, shape, fields in rows:
        if uid not in candidates:
            continue
        if shape is None:
            unknown.add(uid)
            continue
        if shape != last:  # most are like the one before
            last, place = shape, shape.find(code)
            is_repeated = shape.count(code) > 1
        if place < 0:
            continue
        raws = fields.split(b"\0", place + 1)
        texts.append((uid, raws[place]))
        if is_repeated:
            more = zip(shape[place + 1 :], raws[-1].split(b"\0"), strict=True)
            texts += [(uid, raw) for each, raw in more if each == code]
    return texts, unknown


def _text_step(wanted: str, *, with_header: bool) -> _Step:
    async def match(part: _Slice, candidates: set[int]) -> set[int]:
        found: set[int] = set()
        candidates = await part.likely(candidates, wanted)
        async for wholes in part.wholes(candidates):
            octets = sum([len(whole) for _, whole in wholes])
            found |= await part.context.store.compute_sized(
                octets, partial(_containing, wholes, wanted, with_header=with_header)
            )
            await part.context.pause()
        return found

    return _Step(_Cost.TEXT, match)


def _containing(wholes: _Texts, wanted: str, *, with_header: bool) -> set[int]:
    contains = searched.contains
    return {uid for uid, octets in wholes if contains(octets, wanted, with_header=with_header)}
