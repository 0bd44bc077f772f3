"""THREAD: what a search found, as trees (RFC 5256 §3).

The two algorithms are pure functions of rows. They take about linear time, and no recursion, whatever the mail says
about its ancestry.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from struct import unpack
from typing import Any, TypeVar, cast

from pillarbox.imap.syntax_search import Program
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.search import search
from pillarbox.imapd.sort import in_order, read_columns, sent_epoch

T = TypeVar("T")

INLINE_ROWS = 500
"""More than these are threaded off the event loop."""

SLICE_MESSAGES = 5000
"""That are told in one piece."""

STEPS_PER_MESSAGE = 100
"""For finding loops: how many ancestors are looked at in all, counted by message. Real mail needs less than one; mail
that was made to need more loses some links."""

_COLUMNS = (
    "uid",
    "sent",
    "internaldate",
    "subject",
    "is_reply",
    "message_id",
    "refs",
)


@dataclass(slots=True)
class Row:
    """What threading has to know of a message."""

    uid: int
    sent: int
    """Epoch seconds."""
    subject: str
    """Base subject, as `mime.fold.order_key` has it (RFC 5255 §4.2)."""
    is_reply: bool
    """The subject says reply or forward."""
    message_id: int
    """A number for each Message-ID; 0: it has none."""
    references: tuple[int, ...]
    """Oldest ancestor first."""


@dataclass(slots=True, eq=False)
class Thread:
    """A message and its children, or (`uid` 0) a dummy for one that was not found."""

    uid: int = 0
    order: tuple[int, int] = (0, 0)
    """Sent date and place in the mailbox: siblings are in this order."""
    subject: str = ""
    is_reply: bool = False
    parent: "Thread | None" = None
    children: "list[Thread]" = field(default_factory=list)
    has_children: bool = False
    """While `parent` counts and `children` are not yet filled in."""


async def thread(
    context: SearchContext, algorithm: str, program: Program, to_number: Callable[[int], int] | None
) -> Sequence[bytes]:
    """The threads of the messages that match, `algorithm` being "REFERENCES" or "ORDEREDSUBJECT", as `format_threads`
    gives them in slices: by what `to_number` says, which may be called in a thread, or by UID.

    Raises RemoteError and Unavailable as `search` does.
    """
    uids = await search(context, program)
    orders = context.orders
    key = orders.key(context.account, context.mailbox, (algorithm, to_number is None), uids)
    if to_number is not None and len(uids) != len(context.uids):
        key = None  # numbers depend on the rest of the mailbox, too
    kept = orders.find(key)
    if kept is not None:
        return cast(Sequence[bytes], kept)
    found: list[tuple[Any, ...]] = []
    async for part in read_columns(context, uids, _COLUMNS):
        found += part
    make = references if algorithm == "REFERENCES" else ordered_subject

    def work() -> list[bytes]:
        """Rows and trees come and go here, one by one: to free them all in one go would keep everybody waiting."""
        found.reverse()
        rows = []
        while found:
            rows.append(_row(*found.pop()))
        threads = make(rows)
        while rows:
            rows.pop()
        return list(format_threads(threads, to_number or (lambda uid: uid), SLICE_MESSAGES))

    if len(found) <= INLINE_ROWS:
        return work()
    pieces = await context.store.compute(lambda: _without_collector(work))
    orders.keep(key, pieces, 4 * len(uids) + sum(map(len, pieces)))
    return pieces


def _without_collector(work: Callable[[], T]) -> T:
    """Many objects are made, none of them garbage: to look through them again and again would stall the event loop for
    30 ms and more."""
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()


def _row(
    uid: int,
    sent: int | None,
    internaldate: int,
    subject: str,
    is_reply: int,
    message_id: int,
    refs: bytes,
) -> Row:
    ancestors = unpack(f"={len(refs) // 8}q", refs)
    return Row(uid, sent_epoch(sent, internaldate), subject, bool(is_reply), message_id, ancestors)


def ordered_subject(rows: Sequence[Row]) -> list[Thread]:
    """ORDEREDSUBJECT; `rows` are in the order of the mailbox."""
    by_subject: dict[str, list[Thread]] = {}
    for message in in_order(_messages(rows), _order):
        by_subject.setdefault(message.subject, []).append(message)
    threads = [members[0] for members in by_subject.values()]
    for members in by_subject.values():
        members[0].children = members[1:]
    return in_order(threads, _order)


def references(rows: Sequence[Row]) -> list[Thread]:
    """REFERENCES; `rows` are in the order of the mailbox."""
    everything = _link(rows)
    roots = _prune(everything)
    roots = _merge_subjects(roots)
    return _sort(roots)


def _order(message: Thread) -> tuple[int, int]:
    """Of a dummy: that of its first child (steps 4 and 6)."""
    return message.order if message.uid else message.children[0].order


def _messages(rows: Sequence[Row]) -> list[Thread]:
    return [
        Thread(row.uid, (row.sent, place), row.subject, row.is_reply)
        for place, row in enumerate(rows)
    ]


def _link(rows: Sequence[Row]) -> list[Thread]:
    """Step 1: all messages and dummies, with their parents."""
    found = _messages(rows)
    known: dict[int, Thread] = {}
    for row, message in zip(rows, found, strict=True):
        if row.message_id:
            known.setdefault(row.message_id, message)  # a repeated one is as good as none
    links = _Links(STEPS_PER_MESSAGE * len(rows))
    everything = list(found)
    for row, message in zip(rows, found, strict=True):
        last: Thread | None = None
        for number in row.references:
            ancestor = known.get(number)
            if ancestor is None:
                ancestor = known[number] = Thread()
                everything.append(ancestor)
            if last is not None and ancestor.parent is None:
                links.join(last, ancestor)  # (A)
            last = ancestor
        if message.parent is not None and message.parent is not last:
            message.parent = None
        if last is not None and message.parent is None:
            links.join(last, message)  # (B)
    return everything


@dataclass(slots=True)
class _Links:
    """Makes children of parents, never in a loop."""

    steps_left: int

    def join(self, parent: Thread, child: Thread) -> None:
        """`child` has no parent yet."""
        if parent is child or (child.has_children and self._is_ancestor(child, parent)):
            return
        child.parent = parent
        parent.has_children = True

    def _is_ancestor(self, message: Thread, of: Thread) -> bool:
        """Also where it took too many steps to find out."""
        above = of.parent
        while above is not None:
            self.steps_left -= 1
            if above is message or self.steps_left < 0:
                return True
            above = above.parent
        return False


def _prune(everything: list[Thread]) -> list[Thread]:
    """Steps 2 and 3: the children of the root, with dummies only there."""
    roots = []
    for message in everything:
        if message.parent is None:
            roots.append(message)
        else:
            message.parent.children.append(message)
            message.parent = None  # a tree without loops goes as soon as nobody needs it
    for message in reversed(list(_walk(roots))):
        message.children = list(_promoted(message.children))
    return [
        message
        for root in roots
        for message in ([root] if root.uid or len(root.children) > 1 else root.children)
    ]


def _promoted(children: list[Thread]) -> Iterator[Thread]:
    """Siblings, with dummies replaced by their children, which are pruned already."""
    for child in children:
        if child.uid:
            yield child
        else:
            yield from child.children


def _walk(roots: Sequence[Thread]) -> Iterator[Thread]:
    """All below `roots`, parents before their children."""
    waiting = list(roots)
    while waiting:
        message = waiting.pop()
        yield message
        waiting += message.children


def _merge_subjects(roots: list[Thread]) -> list[Thread]:
    """Steps 4 and 5."""
    for root in roots:
        if not root.uid:
            root.children = in_order(root.children, _order)
    roots = in_order(roots, _order)
    table: dict[str, Thread] = {}
    for root in roots:  # (B)
        subject = _thread_subject(root)
        if not subject:
            continue
        other = table.get(subject)
        if other is None or (
            other.uid and (not root.uid or (other.is_reply and not root.is_reply))
        ):
            table[subject] = root
    merged: dict[Thread, None] = dict.fromkeys(roots)
    for root in roots:  # (C)
        subject = _thread_subject(root)
        if not subject or table[subject] is root:
            continue
        other = table[subject]
        del merged[root]
        if not other.uid:
            other.children += [root] if root.uid else root.children
        elif root.is_reply and not other.is_reply:
            other.children.append(root)
        else:
            del merged[other]
            both = table[subject] = Thread(children=[other, root])
            merged[both] = None
    return list(merged)


def _thread_subject(root: Thread) -> str:
    return root.subject if root.uid else root.children[0].subject


def _sort(roots: list[Thread]) -> list[Thread]:
    """Step 6."""
    for message in _walk(roots):  # no dummy is below the root, so any order will do
        message.children = in_order(message.children, _order)
    return in_order(roots, _order)


def format_threads(
    threads: list[Thread], to_number: Callable[[int], int], slice_size: int
) -> Iterator[bytes]:
    """What follows THREAD in its response, in pieces of about `slice_size` messages: nothing, or a space and thread
    lists (RFC 5256 §5). Takes the threads apart.

    A message with one child is followed by it: `b" (2)(3 6 (4 23)(44 7 96))"`.
    """
    parts: list[bytes] = [b" "] if threads else []
    threads.reverse()
    waiting = cast(list[Thread | None], threads)
    told = 0
    while waiting:
        message = waiting.pop()
        if message is None:
            parts.append(b")")
            continue
        parts.append(b"(")
        line = [message] if message.uid else []
        while len(message.children) == 1:
            message = message.children[0]
            line.append(message)
        for start in range(0, len(line), slice_size):
            part = line[start : start + slice_size]
            told += len(part)
            if start:
                parts.append(b" ")
            parts.append(b" ".join([b"%d" % to_number(each.uid) for each in part]))
            if told >= slice_size:
                yield b"".join(parts)
                parts, told = [], 0
        if message.children and line:
            parts.append(b" ")
        waiting.append(None)
        waiting += reversed(message.children)
        message.children = []
    yield b"".join(parts)
