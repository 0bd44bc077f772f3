"""SEARCH, SORT and THREAD (RFC 3501 §6.4.4, RFC 5256 §3): found by UID, told by UID or message number."""

from pillarbox.imap import responses
from pillarbox.imap.syntax_search import Search, Sort, Thread
from pillarbox.imapd import search as searching
from pillarbox.imapd import sort as sorting
from pillarbox.imapd import thread as threading
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.context import SearchContext


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
    view = client.selected.view
    found = await searching.search(_context(client), args.program)
    numbers = found if args.uid else map(view.number, found)
    client.engine.send(responses.search(numbers))
    return Answer("Search completed.")


async def sort(client: Client, args: Sort) -> Answer:
    view = client.selected.view
    found = await sorting.sort(_context(client), args.criteria, args.program)
    numbers = found if args.uid else map(view.number, found)
    client.engine.send(responses.search(numbers, b"SORT"))
    return Answer("Sort completed.")


async def thread(client: Client, args: Thread) -> Answer:
    view = client.selected.view
    found = await threading.thread(_context(client), args.algorithm, args.program)
    to_number = (lambda uid: uid) if args.uid else view.number
    client.engine.send(b"* THREAD%b\r\n" % threading.format_threads(found, to_number))
    return Answer("Thread completed.")
