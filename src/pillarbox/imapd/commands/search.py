"""SEARCH, SORT and THREAD (RFC 3501 §6.4.4, RFC 5256 §3; RETURN: RFC 4731, RFC 5267 §3): found by UID, told by UID or
message number."""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pillarbox.core.errors import Failure, RemoteError
from pillarbox.imap.syntax_return import Return
from pillarbox.imap.syntax_search import CancelUpdate, Search, Sort, Thread
from pillarbox.imapd import esearch
from pillarbox.imapd import search as searching
from pillarbox.imapd import sort as sorting
from pillarbox.imapd import thread as threading
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.contexts import ensure_new, follow, frozen
from pillarbox.imapd.prepared import prepared
from pillarbox.imapd.program import asks_modseq
from pillarbox.imapd.search_context import search_context
from pillarbox.imapd.selected import EMPTY, Followed

NUMBERS_A_SLICE = esearch.NUMBERS_A_SLICE


async def search(client: Client, args: Search) -> Answer:
    with saving(client, args):
        args.program = await prepared(client, args.program, args.codec)
        context = search_context(client)
        found = await searching.search(context, args.program)
        await _tell(client, context, args, b"SEARCH", found)
    return Answer("Search completed.")


async def sort(client: Client, args: Sort) -> Answer:
    with saving(client, args):
        args.program = await prepared(client, args.program, args.codec)
        context = search_context(client)
        scores: dict[int, int] = {}
        if any(key.name == "RELEVANCY" for key in args.criteria):
            found = await searching.search(context, args.program)
            scores = await esearch.relevancy(context, args.program, found)
        sorted_uids = await sorting.sort(context, args.criteria, args.program, scores)
        await _tell(client, context, args, b"SORT", sorted_uids)
    return Answer("Sort completed.")


@contextmanager
def saving(client: Client, args: Search | Sort) -> Iterator[None]:
    """RFC 5182 §2.1: a search with SAVE that ends with NO saves nothing, where there was something before."""
    try:
        if args.refusal is not None:
            raise args.refusal
        yield
    except RemoteError:
        raise
    except Failure:
        if args.returns is not None and "SAVE" in args.returns:
            client.selected.saved = EMPTY
        raise


def remember(
    client: Client, args: Search | Sort, returns: Return, found: Sequence[int]
) -> Followed | None:
    """Do what SAVE asks for; what is to be followed, if UPDATE asks for that. Raises RemoteError."""
    followed = None
    if "UPDATE" in returns:
        ensure_new(client, client.engine.tag)
        criteria = args.criteria if isinstance(args, Sort) else ()
        program = frozen(client, args.program)
        followed = Followed(
            client.engine.tag, program, criteria, args.uid, array("I", found), returns.items
        )
    if "SAVE" in returns:
        client.selected.saved = esearch.saved(returns, found)
    return followed


async def _tell(
    client: Client, context: SearchContext, args: Search | Sort, word: bytes, found: Sequence[int]
) -> None:
    """The result, as an ESEARCH response if there was a RETURN."""
    modseq = 0
    if asks_modseq(args.program):  # RFC 7162 §3.1.5
        client.enable_condstore()
        modseq = await esearch.highest_modseq(context, args.returns, found)
    returns = args.returns
    if returns is None and client.modes.rev2 and word == b"SEARCH":
        returns = Return(frozenset(("ALL",)))  # RFC 9051 §6.4.4
    if returns is None:
        await _tell_plainly(client, word, found, modseq, is_uid=args.uid)
        return
    followed = remember(client, args, returns, found)
    result = esearch.Result(found, modseq)
    if "RELEVANCY" in returns:
        result.scores = await esearch.relevancy(context, args.program, found)
    await esearch.tell(client, returns, result, None if args.uid else client.selected.view.number)
    if followed is not None:
        follow(client, followed)


async def cancel_update(client: Client, args: CancelUpdate) -> Answer:
    """RFC 5267 §4.3.5."""
    for tag in args.tags:
        client.selected.contexts.pop(tag, None)
    return Answer("No further updates.")


async def _tell_plainly(
    client: Client, word: bytes, found: Sequence[int], modseq: int, *, is_uid: bool
) -> None:
    """The response in slices; nothing else is said between them."""
    engine = client.engine
    view = client.selected.view
    engine.send(b"* " + word)
    for start in range(0, len(found), NUMBERS_A_SLICE):
        if start:
            await client.pause()
        part = found[start : start + NUMBERS_A_SLICE]
        engine.send_rendered([b" %d" % each for each in (part if is_uid else view.numbers(part))])
    if modseq:
        engine.send(b" (MODSEQ %d)" % modseq)
    engine.send(b"\r\n")


async def thread(client: Client, args: Thread) -> Answer:
    view = client.selected.view
    args.program = await prepared(client, args.program, args.codec)
    to_number = None if args.uid else view.number
    pieces = await threading.thread(search_context(client), args.algorithm, args.program, to_number)
    engine = client.engine
    engine.send(b"* THREAD")
    for piece in pieces:
        engine.send(piece)
        await client.pause()
    engine.send(b"\r\n")
    return Answer("Thread completed.")
