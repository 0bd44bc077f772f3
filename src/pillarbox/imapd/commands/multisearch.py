"""ESEARCH in many mailboxes (RFC 7377 §2): one response for each in which something is found."""

from collections.abc import Iterable

from pillarbox.core.errors import RemoteError
from pillarbox.imap import responses
from pillarbox.imap.syntax_multisearch import SELECTED, MultiSearch, Source
from pillarbox.imap.syntax_search import Search
from pillarbox.imapd import esearch
from pillarbox.imapd import search as searching
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.commands.search import remember, saving
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.contexts import follow
from pillarbox.imapd.names import from_wire, to_wire
from pillarbox.imapd.places import foreign_name
from pillarbox.imapd.prepared import prepared
from pillarbox.imapd.program import asks_modseq
from pillarbox.imapd.search_context import search_context
from pillarbox.imapd.selected import EMPTY
from pillarbox.imapd.telling import load_uids
from pillarbox.store import mailboxes
from pillarbox.store.mailboxes import INBOX, Mailbox, Name
from pillarbox.store.tx import Tx

MAILBOXES_A_SLICE = 1000


async def multisearch(client: Client, args: MultiSearch) -> Answer:
    has_selected = client.selected_mailbox is not None
    only_selected = set(args.sources) == {SELECTED}
    if SELECTED in args.sources and not has_selected:  # RFC 7377 §2.2
        raise RemoteError("no mailbox is selected")
    if {"SAVE", "UPDATE"} & args.returns.options and not only_selected:
        raise RemoteError("SAVE and UPDATE are for the selected mailbox alone")
    if only_selected:
        with saving(client, args.search):
            await _search_selected(client, args)
    else:
        search = args.search
        search.program = await prepared(client, search.program, search.codec)
        if SELECTED in args.sources and client.selected.is_foreign:
            mailbox, context = await _selected(client)
            await _tell(client, args, context, mailbox, await _search(context, search))
        for mailbox in await _find(client, args.sources):
            context = await _context(client, mailbox)
            found = await _search(context, args.search)
            await _tell(client, args, context, mailbox, found)
    return Answer("Search completed.")


async def _search_selected(client: Client, args: MultiSearch) -> None:
    search = args.search
    search.program = await prepared(client, search.program, search.codec)
    mailbox, context = await _selected(client)
    found = await _search(context, args.search)
    followed = remember(client, args.search, args.returns, found)
    await _tell(client, args, context, mailbox, found)
    if followed is not None:
        follow(client, followed)


async def _selected(client: Client) -> tuple[Mailbox, SearchContext]:
    """The selected mailbox is searched as this session sees it."""
    selected = client.selected
    mailbox = await client.read_selected(lambda tx: mailboxes.by_id(tx, selected.mailbox))
    context = search_context(client)
    context.clips_numbers = True
    return mailbox, context


async def _search(context: SearchContext, search: Search) -> list[int]:
    if search.refusal is not None:
        raise search.refusal
    return list(await searching.search(context, search.program))


async def _context(client: Client, mailbox: Mailbox) -> SearchContext:
    """Mailboxes of the client's account that are not selected are searched as they are now."""
    selected = client.selected_mailbox
    own = client.account.id
    if selected is not None and (selected.account, selected.mailbox) == (own, mailbox.id):
        return (await _selected(client))[1]
    uids = client.context.snapshots.find(own, mailbox.id, mailbox.uidnext, mailbox.messages)
    if uids is None:
        uids = await load_uids(client, (own, mailbox.id), 1, mailbox.uidnext)
    return SearchContext(
        client.context.store,
        own,
        mailbox.id,
        uids,
        lambda uid: False,
        EMPTY,
        client.pause,
        clips_numbers=True,
    )


async def _tell(
    client: Client, args: MultiSearch, context: SearchContext, mailbox: Mailbox, found: list[int]
) -> None:
    """RFC 7377 §2.1: nothing where nothing was found."""
    if not found:
        return
    result = esearch.Result(found)
    if asks_modseq(args.search.program):
        client.enable_condstore()
        result.modseq = await esearch.highest_modseq(context, args.returns, found)
    if "RELEVANCY" in args.returns:
        result.scores = await esearch.relevancy(context, args.search.program, found)
    shown = mailbox.name
    if context.account != client.account.id:
        owner = client.context.store.directory.account_by_id(context.account)
        if owner is None:
            return
        shown = foreign_name(owner, shown)
    name = responses.mailbox(to_wire(shown, client.context.separator), client.engine.utf8)
    correlator = b" MAILBOX %b UIDVALIDITY %d" % (name, mailbox.uidvalidity)
    await esearch.tell(client, args.returns, result, None, correlator)


async def _find(client: Client, sources: Iterable[Source]) -> list[Mailbox]:
    """Mailboxes of the client's account, each once, in the order of LIST. Names that do not exist are passed over."""

    def work(tx: Tx) -> tuple[list[Mailbox], set[Name]]:
        return mailboxes.all_mailboxes(tx), set(mailboxes.subscriptions(tx))

    every, subscribed = await client.read(work)
    selected = client.selected_mailbox
    separator = client.context.separator
    wanted: set[int] = set()
    for source in sources:
        names = {from_wire(name, separator) for name in source.mailboxes}
        for number, mailbox in enumerate(every, 1):
            if _is_meant(mailbox, source.kind, names, subscribed):
                wanted.add(mailbox.id)
            if number % MAILBOXES_A_SLICE == 0:
                await client.pause()
        if source == SELECTED and selected is not None and not selected.is_foreign:
            wanted.add(selected.mailbox)
    return [mailbox for mailbox in every if mailbox.id in wanted]


def _is_meant(mailbox: Mailbox, kind: str, names: set[Name], subscribed: set[Name]) -> bool:
    """RFC 5465 §6.1 to §6.7, RFC 7377 §2.2."""
    name = mailbox.name
    match kind:
        case "inboxes":
            return mailbox.id == INBOX
        case "personal":
            return True
        case "subscribed":
            return name in subscribed
        case "mailboxes":
            return name in names
        case "subtree":
            return any(name[:depth] in names for depth in range(1, len(name) + 1))
        case "subtree-one":
            return name in names or name[:-1] in names
    return False
