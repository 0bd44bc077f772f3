"""What SEARCH reads: a slice of a view, of which each thing is read once, and what a step of a program is."""

from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, Final

from pillarbox.imapd.context import SearchContext
from pillarbox.store import keywords, messages
from pillarbox.store.content import PIECE_OCTETS
from pillarbox.store.tx import Tx

MOST_OCTETS = 1 << 20
"""Of text in one read, unless a single message has more."""
WORK_A_TURN = 20_000
"""After so much work (`Cost`) others have their turn: a program may have thousands of keys."""
READ_AT_ONCE = 32
"""So few messages are read without asking the index about them."""
FEW = 4
"""If a slice has this many times more messages than there are candidates, only these are read."""


class Cost(IntEnum):
    """What a step reads, and about how much work that is for each candidate."""

    NOTHING = 1
    ROW = 2
    SENT = 4
    FIELDS = 16
    TEXT = 32


Row = tuple[int, int, int, int, int]
"""The narrow columns of a message, in the order of the numbers below, behind its UID."""
FLAGS: Final = 1
DATE: Final = 2
SIZE: Final = 3
MODSEQ: Final = 4
_ROW = ("uid", "flags", "internaldate", "size", "modseq")

RowTest = Callable[[Row], bool]
DayTest = Callable[[int, int], bool]
Texts = list[tuple[int, bytes]]
"""Octets of messages or header blocks, by UID."""


class Slice:
    """Consecutive messages of the view, and what was read of them."""

    __slots__ = ("_length", "_ranges", "_rows", "_work", "context")

    def __init__(self, context: SearchContext, uids: "array[int]") -> None:
        self.context = context
        self._length = len(uids)
        is_sparse = uids[-1] - uids[0] >= FEW * len(uids)
        self._ranges = messages.to_ranges(uids) if is_sparse else [(uids[0], uids[-1])]
        self._rows: dict[int, Row] | None = None
        self._work = 0

    async def run(self, step: "Step", candidates: set[int]) -> set[int]:
        """Those of the candidates that match."""
        self._work += len(candidates) * step.cost
        if self._work > WORK_A_TURN:
            self._work = 0
            await self.context.pause()
        return await step.match(self, candidates)

    async def rows(self) -> dict[int, Row]:
        """By UID, read once; messages that are gone are missing."""
        if self._rows is None:
            self._rows = {row[0]: row for row in await self.columns(*_ROW)}
        return self._rows

    async def keywords(self) -> dict[int, tuple[bytes, ...]]:
        """Of each flags value in the slice, in lower case."""
        values = {row[FLAGS] for row in (await self.rows()).values()}

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

    async def headers(self, candidates: set[int]) -> AsyncIterator[Texts]:
        """Header blocks in groups of about MOST_OCTETS."""
        sizes = dict(await self.columns_of(candidates, "uid", "header_size"))
        for group in _grouped(candidates, sizes):
            yield [
                (uid, header) for uid, header in await self._select_some(group, ("uid", "header"))
            ]

    async def wholes(self, candidates: set[int]) -> AsyncIterator[Texts]:
        """Whole messages in groups of about MOST_OCTETS."""
        sizes = dict(await self.columns_of(candidates, "uid", "size"))
        columns = ("uid", "header", "body", "content", "size")
        for group in _grouped(candidates, sizes):
            texts: Texts = []
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
                partial(messages.body, content=content, start=start, length=PIECE_OCTETS),
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
class Step:
    """One node of a program, ready to run."""

    cost: Cost
    match: Callable[[Slice, set[int]], Awaitable[set[int]]]
