"""The keys of SEARCH, and programs of them, as steps: each takes candidates of a slice and returns those that match."""

from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from typing import Any

from pillarbox.core import flags as flag
from pillarbox.core.dates import epoch_of, local_day
from pillarbox.core.errors import RemoteError
from pillarbox.imap.seqset import SeqSet, clipped, number_slices, uid_slices
from pillarbox.imap.syntax_search import And, Filter, Fuzzy, Key, Not, Or, Program
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.objectid import number_of
from pillarbox.imapd.program import folded_text, loosened
from pillarbox.imapd.search_slice import (
    DATE,
    FLAGS,
    MODSEQ,
    SIZE,
    Cost,
    DayTest,
    RowTest,
    Slice,
    Step,
    Texts,
)
from pillarbox.mime import searched
from pillarbox.store.content import FIELD_CODES

MOST_TEXTS_A_STEP = 8
"""A program may have thousands, and others have their turn between steps."""


def compiled(program: Program, context: SearchContext) -> Step:
    """A program, ready to run. Raises RemoteError for message numbers that do not exist."""
    match program:
        case And():
            return _all_of(_compile_all(program.keys, context))
        case Or():
            return _either([compiled(program.left, context), compiled(program.right, context)])
        case Not():
            return _none_of(compiled(program.key, context))
        case Fuzzy():
            return compiled(loosened(program), context)
        case Filter():
            raise AssertionError("a filter that was not looked up")
        case Key():
            return _compile_key(program, context)


def _compile_all(keys: list[Program], context: SearchContext) -> list[Step]:
    """Each key, but those that look into whole messages in one step for some of them: what it reads it reads once."""
    steps: list[Step] = []
    texts: list[tuple[str, bool]] = []
    for key in keys:
        if isinstance(key, Key) and key.name in ("BODY", "TEXT"):
            texts.append(_wanted_text(key))
        else:
            steps.append(compiled(key, context))
    texts = list(dict.fromkeys(texts))
    for start in range(0, len(texts), MOST_TEXTS_A_STEP):
        steps.append(_text_step(texts[start : start + MOST_TEXTS_A_STEP]))
    return steps


def _by_cost(step: Step) -> Cost:
    return step.cost


def _all_of(steps: list[Step]) -> Step:
    steps.sort(key=_by_cost)

    async def match(part: Slice, candidates: set[int]) -> set[int]:
        for step in steps:
            if not candidates:
                break
            candidates = await part.run(step, candidates)
        return candidates

    return Step(steps[-1].cost, match)


def _either(steps: list[Step]) -> Step:
    first, second = sorted(steps, key=_by_cost)

    async def match(part: Slice, candidates: set[int]) -> set[int]:
        found = await part.run(first, candidates)
        rest = candidates - found
        return found | await part.run(second, rest) if rest else found

    return Step(second.cost, match)


def _none_of(step: Step) -> Step:
    async def match(part: Slice, candidates: set[int]) -> set[int]:
        return candidates - await part.run(step, candidates)

    return Step(step.cost, match)


def _compile_key(key: Key, context: SearchContext) -> Step:
    name: str = key.name
    argument: Any = key.argument
    if name in FLAG_TESTS:
        return _row_step(_flags_test(*FLAG_TESTS[name]))
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
            return _text_step([_wanted_text(key)])
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


def _uid_step(test: Callable[[Slice, int], bool]) -> Step:
    async def match(part: Slice, candidates: set[int]) -> set[int]:
        return {uid for uid in candidates if test(part, uid)}

    return Step(Cost.NOTHING, match)


def _set_step(numbers: SeqSet, context: SearchContext, *, is_uid: bool) -> Step:
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

    def test(_part: Slice, uid: int) -> bool:
        index = bisect_right(firsts, uid) - 1
        return index >= 0 and uid <= lasts[index]

    return _uid_step(test)


def _row_step(test: RowTest) -> Step:
    async def match(part: Slice, candidates: set[int]) -> set[int]:
        rows = await part.rows()
        return {uid for uid in candidates if uid in rows and test(rows[uid])}

    return Step(Cost.ROW, match)


FLAG_TESTS: dict[str, tuple[int, int]] = {
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


def _flags_test(mask: int, value: int) -> RowTest:
    return lambda row: row[FLAGS] & mask == value


def _keyword_step(name: str, *, is_set: bool) -> Step:
    wanted = name.lower().encode()

    async def match(part: Slice, candidates: set[int]) -> set[int]:
        rows = await part.rows()
        good = {
            flags for flags, names in (await part.keywords()).items() if (wanted in names) is is_set
        }
        return {uid for uid in candidates if uid in rows and rows[uid][FLAGS] in good}

    return Step(Cost.ROW, match)


# RFC 3501 §6.4.4: dates are compared without time and zone, as they stand in the date.
_ROW_TESTS: dict[str, Callable[[Any], RowTest]] = {
    "BEFORE": lambda day: lambda row: local_day(row[DATE]) < day,
    "ON": lambda day: lambda row: local_day(row[DATE]) == day,
    "SINCE": lambda day: lambda row: local_day(row[DATE]) >= day,
    "LARGER": lambda octets: lambda row: row[SIZE] > octets,
    "SMALLER": lambda octets: lambda row: row[SIZE] < octets,
    # RFC 7162 §3.1.5
    "MODSEQ": lambda modseq: lambda row: row[MODSEQ] >= modseq,
}

_SENT_TESTS: dict[str, DayTest] = {
    "SENTBEFORE": lambda sent, day: sent < day,
    "SENTON": lambda sent, day: sent == day,
    "SENTSINCE": lambda sent, day: sent >= day,
}


def _sent_step(test: DayTest, day: int) -> Step:
    """A message without a usable Date field matches none of them."""

    async def match(part: Slice, candidates: set[int]) -> set[int]:
        return {
            uid
            for uid, sent in await part.columns("uid", "sent")
            if uid in candidates and sent is not None and test(local_day(sent), day)
        }

    return Step(Cost.SENT, match)


def _within(name: str, moment: int) -> RowTest:
    """RFC 5032 §2; `moment` in epoch seconds."""
    if name == "OLDER":
        return lambda row: epoch_of(row[DATE]) <= moment
    return lambda row: epoch_of(row[DATE]) >= moment


def _saved_step(test: DayTest, day: int) -> Step:
    """RFC 8514 §4.3; days are those of UTC."""
    return _column_step("savedate", lambda saved: test(saved // 86_400, day))


def _column_step(name: str, test: Callable[[Any], bool]) -> Step:
    async def match(part: Slice, candidates: set[int]) -> set[int]:
        return {
            uid
            for uid, value in await part.columns("uid", name)
            if uid in candidates and test(value)
        }

    return Step(Cost.SENT, match)


# Keys that look into text


def _field_step(name: str, wanted: str) -> Step:
    """Messages that have the field, if it contains `wanted` (RFC 3501 §6.4.4 HEADER: all of them if that is empty)."""
    field = name.lower().encode("ascii", "replace")
    code = FIELD_CODES.get(field)

    async def match(part: Slice, candidates: set[int]) -> set[int]:
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

    return Step(Cost.FIELDS, match)


def _of_shapes(
    rows: list[tuple[Any, ...]], candidates: set[int], code: int
) -> tuple[Texts, set[int]]:
    """The raw fields with a code (`store.content`) of the candidates, from their shapes and fields, and those of the
    candidates that do not have these apart."""
    texts: Texts = []
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


def _octets_of(texts: searched.Pairs) -> int:
    return sum([len(octets) for _, octets in texts])


def _wanted_text(key: Key) -> tuple[str, bool]:
    return folded_text(key), key.name == "TEXT"


def _text_step(wanted: searched.Wanted) -> Step:
    async def match(part: Slice, candidates: set[int]) -> set[int]:
        found: set[int] = set()
        for text, _ in wanted:
            candidates = await part.likely(candidates, text)
        compute_sized = part.context.store.compute_sized
        async for wholes in part.wholes(candidates):
            likely = await compute_sized(
                _octets_of(wholes), partial(searched.possible, wholes, wanted)
            )
            found |= await compute_sized(
                _octets_of(likely) * len(wanted), partial(searched.messages_with, likely, wanted)
            )
            await part.context.pause()
        return found

    return Step(Cost.TEXT, match)
