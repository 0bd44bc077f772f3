"""ESEARCH responses: what RETURN asked for of a search's result (RFC 4466 §2.6.2, RFC 4731 §3, RFC 9051 §7.3.4).

Results are UIDs in the order of the search: that of the mailbox, or the one that SORT made (RFC 5267 §3.1).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pillarbox.imap.seqset import Runs, SeqSet
from pillarbox.imap.syntax_return import Return
from pillarbox.imap.syntax_search import Program
from pillarbox.imapd.client import Client
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.program import sharpened
from pillarbox.imapd.search import search
from pillarbox.imapd.sort import read_columns
from pillarbox.mime.wire import string
from pillarbox.store import messages

NUMBERS_A_SLICE = 5000
"""That are told in one go: a few milliseconds."""


@dataclass(slots=True)
class Result:
    """`modseq` is that of RFC 4731 §3.2, 0 where it is not to be told. `scores` are by UID (RFC 6203 §4)."""

    found: Sequence[int]
    modseq: int = 0
    scores: Mapping[int, int] = field(default_factory=dict)


async def tell(
    client: Client,
    wanted: Return,
    result: Result,
    number: Callable[[int], int] | None,
    correlator: bytes = b"",
) -> None:
    """Send the response, in slices; nothing else is said between them. `number` gives the message number of a UID;
    None: UIDs are told. `correlator` goes behind the tag."""
    engine, found = client.engine, result.found
    if wanted.options <= {"SAVE", "UPDATE", "CONTEXT"}:  # RFC 5182 §2.2
        return
    of = number or _same
    part: Sequence[int] = found
    engine.send(b"* ESEARCH (TAG %b%b)" % (string(engine.tag), correlator))
    if number is None:
        engine.send(b" UID")
    if found and "MIN" in wanted:
        engine.send(b" MIN %d" % of(found[0]))
    if found and "MAX" in wanted:
        engine.send(b" MAX %d" % of(found[-1]))
    if found and "ALL" in wanted:
        engine.send(b" ALL ")
        await _tell_set(client, found, of)
    if wanted.partial is not None:
        part = found[wanted.partial.slice_of(len(found))]
        engine.send(b" PARTIAL (%b " % wanted.partial.text)
        if part:
            await _tell_set(client, part, of)
        else:  # RFC 9394 §3.1
            engine.send(b"NIL")
        engine.send(b")")
    if "COUNT" in wanted:
        engine.send(b" COUNT %d" % len(found))
    if "RELEVANCY" in wanted:
        await _tell_scores(client, found if wanted.partial is None else part, result.scores)
    if result.modseq:
        engine.send(b" MODSEQ %d" % result.modseq)
    engine.send(b"\r\n")


def _same(uid: int) -> int:
    return uid


async def _tell_set(client: Client, found: Sequence[int], of: Callable[[int], int]) -> None:
    runs = Runs()
    for start in range(0, len(found), NUMBERS_A_SLICE):
        if start:
            await client.pause()
        client.engine.send(runs.add(map(of, found[start : start + NUMBERS_A_SLICE])))
    client.engine.send(runs.rest())


async def _tell_scores(client: Client, found: Sequence[int], scores: Mapping[int, int]) -> None:
    """RFC 6203 §4: as many, and in the order, as the messages that are told."""
    client.engine.send(b" RELEVANCY (")
    for start in range(0, len(found), NUMBERS_A_SLICE):
        if start:
            await client.pause()
            client.engine.send(b" ")
        part = found[start : start + NUMBERS_A_SLICE]
        client.engine.send(b" ".join([b"%d" % scores[uid] for uid in part]))
    client.engine.send(b")")


EXACT_SCORE, LOOSE_SCORE = 100, 50
"""Of messages that match to the letter, and of those that only have the words."""


async def relevancy(
    context: SearchContext, program: Program, found: Sequence[int]
) -> dict[int, int]:
    """The scores of what a fuzzy search found."""
    exact = set(await search(context, sharpened(program)))
    return {uid: EXACT_SCORE if uid in exact else LOOSE_SCORE for uid in found}


def saved(wanted: Return, found: Sequence[int]) -> SeqSet:
    """What `$` becomes (RFC 5182 §2.4, RFC 9394 §3.2)."""
    chosen: Sequence[int] = found
    if not {"ALL", "COUNT"} & wanted.options and {"MIN", "MAX", "PARTIAL"} & wanted.options:
        some: set[int] = set()
        if wanted.partial is not None:
            some.update(found[wanted.partial.slice_of(len(found))])
        if "MIN" in wanted:
            some.update(found[:1])
        if "MAX" in wanted:
            some.update(found[-1:])
        chosen = list(some)
    return SeqSet(tuple(messages.to_ranges(sorted(chosen))))


async def highest_modseq(
    context: SearchContext, wanted: Return | None, found: Sequence[int]
) -> int:
    """Of what is told of `found` (RFC 7162 §3.1.5, RFC 4731 §3.2)."""
    if wanted is not None and not {"ALL", "COUNT"} & wanted.options and wanted.partial is None:
        ends = {name: place for name, place in (("MIN", 0), ("MAX", -1)) if name in wanted}
        found = [found[place] for place in ends.values()] if found else found
    highest = 0
    async for rows in read_columns(context, sorted(found), ("uid", "modseq")):
        highest = max([highest, *(modseq for _, modseq in rows)])
    return highest
