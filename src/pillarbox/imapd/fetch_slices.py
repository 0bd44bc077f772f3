"""Sending FETCH responses for any number of messages: slices of bounded size, between which others have their turn."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from pillarbox.core.errors import Refused
from pillarbox.imap.syntax_fetch import MODSEQ, FetchItem
from pillarbox.imapd.body import body_of
from pillarbox.imapd.client import Client
from pillarbox.imapd.fetch_items import FLAGS, LARGEST_RENDERED_SLICE, UID, Plan, Rows
from pillarbox.imapd.fetch_stream import stream_message
from pillarbox.imapd.view import with_recent
from pillarbox.store import messages
from pillarbox.store.read_ahead import blocks_read
from pillarbox.store.tx import Tx

LIGHT_ROWS = 1000
"""Messages of a slice of which only the narrow rows are read."""
ROWS = 256
"""Messages of any other slice."""
COLD_BLOCKS = 64
"""Of 512 octets that a slice read from the disk: its messages are not in memory."""
Positions = list[range]
"""Ascending ranges of positions in the view."""


async def send_items(client: Client, plan: Plan, positions: Positions) -> int:
    """Send FETCH responses; returns for how many messages. Those that are gone have none. Raises Refused behind the
    others where a message cannot be sent as it is wanted."""
    told = 0
    refusal: Refused | None = None
    is_first = True
    most = min(plan.most_rows, ROWS if plan.reads_content else LIGHT_ROWS)
    for part in cut(positions, most):
        for piece, is_large in await _weigh(client, plan, part):
            if not is_first:
                await client.pause()
            is_first = False
            if is_large:
                uid = client.selected.view.uids[piece[0].start]
                try:
                    told += await stream_message(client, plan, uid)
                except Refused as error:
                    refusal = refusal or error
                continue
            had_read = blocks_read()
            sent, rest = await _send_slice(client, plan, piece)
            if plan.reads_content and blocks_read() - had_read > COLD_BLOCKS:
                _read_ahead(client, plan, piece[-1].stop, positions)
            told += sent
            while rest:
                await client.pause()
                sent, rest = await _send_slice(client, plan, rest)
                told += sent
    if refusal is not None:
        raise refusal
    return told


async def send_alike(
    client: Client, items: Sequence[FetchItem], positions: Positions, flags: int, modseq: int
) -> None:
    """Send FETCH responses for messages that differ in nothing but their UIDs: `items` are some of UID, FLAGS and
    MODSEQ."""
    selected = client.selected
    view, uids = selected.view, selected.view.uids
    if FLAGS in items and flags not in selected.flag_texts:
        await client.read_selected(lambda tx: selected.learn_flags(tx, (flags,)))
    client.tell_keywords()
    text = selected.flag_texts.get(flags, b"")
    known, recent = (_template(items, each, modseq) for each in (text, with_recent(text)))
    for number, part in enumerate(cut(positions, LIGHT_ROWS)):
        if number:
            await client.pause()
        for run in part:
            run_uids = uids[run.start : run.stop]
            values: Sequence[Any] = range(run.start + 1, run.stop + 1)
            if UID in items:
                values = list(zip(values, run_uids, strict=True))
            responses: list[bytes] = []
            start = 0
            for places in view.recent_slices(run_uids):
                responses += [known % each for each in values[start : places.start]]
                responses += [recent % each for each in values[places]]
                start = places.stop
            responses += [known % each for each in values[start:]]
            client.engine.send_rendered(responses)


def _template(items: Sequence[FetchItem], flags: bytes, modseq: int) -> bytes:
    """Of a response with places for the message number and, if it is one of the items, the UID."""
    texts = {
        UID: b"UID %d",
        FLAGS: b"FLAGS (%b)" % flags.replace(b"%", b"%%"),
        MODSEQ: b"MODSEQ (%d)" % modseq,
    }
    return b"* %%d FETCH (%b)\r\n" % b" ".join([texts[item] for item in items])


def _read_ahead(client: Client, plan: Plan, start: int, positions: Positions) -> None:
    """The disk keeps us waiting: have what comes from position `start` on brought into memory."""
    stop = next((run.stop for run in positions if start in run), 0)
    if stop - start > ROWS:
        selected = client.selected
        ((first, last),) = selected.view.uid_ranges([range(start, stop)])
        store = client.context.store
        store.read_ahead.begin(selected.account, selected.mailbox, (first, last), plan.columns)


def cut(positions: Positions, most: int) -> Iterator[Positions]:
    """In parts of at most `most` positions."""
    part: Positions = []
    room = most
    for whole in positions:
        start = whole.start
        while start < whole.stop:
            stop = min(start + room, whole.stop)
            part.append(range(start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield part
                part, room = [], most
    if part:
        yield part


async def _weigh(client: Client, plan: Plan, part: Positions) -> list[tuple[Positions, bool]]:
    """Cut a part where its messages are large; with each piece, whether it is one message too large for a slice."""
    if plan.is_streamed:
        return [([range(position, position + 1)], True) for run in part for position in run]
    if not plan.weight or (plan.size_at >= 0 and len(part) == 1 and len(part[0]) == 1):
        return [(part, False)]  # of a single message, the row itself tells
    selected = client.selected
    view = selected.view
    ranges = view.uid_ranges(part)
    columns = ("uid", plan.weight)
    weights = await client.read_selected(
        lambda tx: messages.select(tx, selected.mailbox, ranges, columns)
    )
    streams = bool(plan.sections)
    if sum(weight for _, weight in weights) <= plan.limit and not (
        streams and any(weight > plan.largest for _, weight in weights)
    ):
        return [(part, False)]
    pieces: list[tuple[Positions, bool]] = []
    room = 0
    for uid, weight in weights:
        position = view.number(uid) - 1
        one = range(position, position + 1)
        if streams and weight > plan.largest:
            pieces.append(([one], True))
            room = 0
        elif weight > room:
            pieces.append(([one], False))
            room = plan.limit - weight
        else:
            run = pieces[-1][0]
            if run[-1].stop == position:
                run[-1] = range(run[-1].start, position + 1)
            else:
                run.append(one)
            room -= weight
    return pieces


async def _send_slice(client: Client, plan: Plan, part: Positions) -> tuple[int, Positions]:
    """Send the responses for a part, or for its beginning; returns for how many messages, and what is left of it."""
    selected = client.selected
    view = selected.view
    ranges = view.uid_ranges(part)
    apart: list[int] = []  # UIDs of messages that take more than their row

    def read(tx: Tx) -> tuple[Rows, bool]:
        if plan.is_rendered:
            most = LARGEST_RENDERED_SLICE
            return messages.select_octets(tx, selected.mailbox, ranges, plan.columns, most)
        return messages.select(tx, selected.mailbox, ranges, plan.columns), False

    def respond(tx: Tx, rows: Rows) -> list[bytes]:
        at = plan.shape_at
        if at >= 0 and any(row[at] is None for row in rows):
            apart.extend(row[0] for row in rows if row[at] is None)
            rows = [row for row in rows if row[at] is not None]
        if len(rows) == 1 and plan.size_at >= 0 and rows[0][plan.size_at] > plan.largest:
            apart.append(rows[0][0])
            return []
        if not rows:
            return []
        numbers: Iterable[int]
        if len(rows) == sum(map(len, part)):
            numbers = chain.from_iterable(range(run.start + 1, run.stop + 1) for run in part)
        else:
            numbers = [view.number(row[0]) for row in rows]
        return plan.render(tx, selected, numbers, rows)

    def work(tx: Tx) -> tuple[Rows, bool, list[bytes]]:
        rows, is_cut = read(tx)
        return rows, is_cut, respond(tx, rows)

    if plan.body_at < 0:
        rows, is_cut, responses = await client.read_selected(work)
    else:
        rows, is_cut = await client.read_selected(read)
        await _shorten(client, plan, rows)
        responses = await client.read_selected(lambda tx: respond(tx, rows))
    client.tell_keywords()
    client.engine.send_rendered(responses)
    told = len(responses)
    for uid in apart:
        told += await stream_message(client, plan, uid)
        await client.pause()
    return told, _behind(part, view.number(rows[-1][0])) if is_cut else []


async def _shorten(client: Client, plan: Plan, rows: Rows) -> None:
    """Make BODY from the BODYSTRUCTUREs of rows, away from the event loop where they are large."""
    texts = {row[plan.body_at] for row in rows}
    plan.short_bodies = await client.context.store.compute_sized(
        sum(map(len, texts)), lambda: {text: body_of(text) for text in texts}
    )


def _behind(part: Positions, position: int) -> Positions:
    """The positions of a part from `position` on."""
    return [range(max(run.start, position), run.stop) for run in part if run.stop > position]
