"""NOTIFY (RFC 5465): the client says once what it wants to know, and is told of it whenever it happens."""

from contextlib import suppress
from dataclasses import replace

from pillarbox.core.errors import Refused, Unavailable
from pillarbox.imap.syntax_fetch import MODSEQ
from pillarbox.imap.syntax_notify import Notify
from pillarbox.imap.table import State
from pillarbox.imapd import telling
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.notices import tell, tell_all
from pillarbox.imapd.unseen import log_unseen
from pillarbox.imapd.watch import Watch
from pillarbox.imapd.wishes import NOTHING, make_wishes


async def notify(client: Client, args: Notify) -> Answer:
    if not args.groups:
        client.stop_watching(NOTHING)
        return Answer("Notify completed.")
    wishes = make_wishes(args.groups, client.context.separator)
    watch = Watch(
        client.connection,
        client.context.store,
        client.account.id,
        wishes,
        lambda: look(client),
    )
    try:
        await watch.begin()
        if client.watch is not None:  # of what was wanted until now, nothing is missed
            await tell(client, client.watch, await client.watch.news())
        await _catch_up(client)
        watch.settle(client.selected_mailbox)
        client.modes.notify = True
        if MODSEQ in wishes.selected.items:
            client.enable_condstore()
        await tell_all(client, watch, status=args.tells_status)
    except BaseException:
        watch.close()
        raise
    client.stop_watching(wishes.selected)
    client.watch = watch
    return Answer("Notify completed.")


async def _catch_up(client: Client) -> None:
    """RFC 5465 §3.1: what there is to tell of the selected mailbox, all of it, as by NOOP."""
    if client.selected_mailbox is None:
        return
    everything = replace(client.wanted, messages=True, flags=True)
    with suppress(Refused):  # it was deleted, which is told behind the answer
        await telling.sync(client, expunge=True, wanted=everything)


async def look(client: Client) -> None:
    """Between commands, or in IDLE: tell of what changed."""
    watch = client.watch
    if watch is None or not client.engine.is_free:
        return  # within APPEND; `resume` asks again
    if client.engine.state is not State.SELECTED:
        client.selected_mailbox = None  # the engine refused a SELECT by itself
    watch.settle(client.selected_mailbox)
    try:
        if watch.has_overflowed:
            raise Refused("there is too much to be told of", "NOTIFICATIONOVERFLOW")
        news = await watch.news()
        if news.looks_at_selected and client.selected_mailbox is not None:
            await _tell_selected(client)
        await tell(client, watch, news)
        watch.told()
    except Refused as failure:
        # RFC 5465 §5.8
        client.engine.send_untagged(b"OK", failure.text.capitalize(), failure.code.encode("ascii"))
        client.stop_watching(NOTHING)


async def _tell_selected(client: Client) -> None:
    """RFC 5465 §6.1: EXPUNGE between commands only where the client asked for that."""
    expunge = client.wanted.at_once or client.engine.is_idling
    try:
        await telling.sync(client, expunge=expunge)
    except Unavailable as failure:
        log_unseen(client.context.store, client.connection.id, failure)
    except Refused:
        client.engine.bye("The selected mailbox was deleted")  # RFC 2180 §3.3
