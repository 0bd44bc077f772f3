"""SEARCH, SORT and THREAD (RFC 3501 §6.4.4, RFC 5256 §3): found by UID, told by UID or message number."""

from collections.abc import Sequence

from pillarbox.imap.syntax_search import Search, Sort, Thread
from pillarbox.imapd import search as searching
from pillarbox.imapd import sort as sorting
from pillarbox.imapd import thread as threading
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.context import SearchContext

NUMBERS_A_SLICE = 5000
"""That are told in one go: a few milliseconds."""


def _context(client: Client) -> SearchContext:
    selected = client.selected
    return SearchContext(
        client.context.store,
        client.account.id,
        selected.mailbox,
        selected.view.uids,
        selected.view.is_recent,
        client.pause,
    )


async def search(client: Client, args: Search) -> Answer:
    found = await searching.search(_context(client), args.program)
    await _tell(client, b"SEARCH", found, is_uid=args.uid)
    return Answer("Search completed.")


async def sort(client: Client, args: Sort) -> Answer:
    found = await sorting.sort(_context(client), args.criteria, args.program)
    await _tell(client, b"SORT", found, is_uid=args.uid)
    return Answer("Sort completed.")


async def _tell(client: Client, word: bytes, found: Sequence[int], *, is_uid: bool) -> None:
    """The response in slices; nothing else is said between them."""
    engine = client.engine
    number = client.selected.view.number
    engine.send(b"* " + word)
    for start in range(0, len(found), NUMBERS_A_SLICE):
        if start:
            await client.pause()
        part = found[start : start + NUMBERS_A_SLICE]
        engine.send_rendered([b" %d" % each for each in (part if is_uid else map(number, part))])
    engine.send(b"\r\n")


async def thread(client: Client, args: Thread) -> Answer:
    view = client.selected.view
    to_number = (lambda uid: uid) if args.uid else view.number
    pieces = await threading.thread(_context(client), args.algorithm, args.program, to_number)
    engine = client.engine
    engine.send(b"* THREAD")
    for piece in pieces:
        engine.send(piece)
        await client.pause()
    engine.send(b"\r\n")
    return Answer("Thread completed.")
