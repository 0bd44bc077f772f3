"""IDLE (RFC 2177)."""

from pillarbox.core.errors import Refused, RemoteError, Unavailable
from pillarbox.imap.events import IdleDone
from pillarbox.imapd import telling
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.push import Push
from pillarbox.imapd.unseen import log_unseen


async def idle(client: Client, args: None) -> None:
    # First of all: Thunderbird ends IDLE, and the connection, if it is told of something before.
    client.engine.continue_idle()
    selected = client.selected_mailbox
    if selected is not None and client.watch is not None:
        await look(client)  # what else is told, NOTIFY has said (RFC 5465 §4)
    elif selected is not None:
        # Hints first, then a look: nothing falls between.
        client.push = Push(
            client.connection,
            client.context.store,
            selected.account,
            selected.mailbox,
            lambda: look(client),
        )
        await look(client)


async def look(client: Client) -> None:
    """Tell of changes, if the mailbox can be read."""
    try:
        await telling.sync(client, expunge=True)
    except Unavailable as failure:
        log_unseen(client.context.store, client.connection.id, failure)
    except Refused:
        client.engine.bye("The selected mailbox was deleted")  # RFC 2180 §3.3


async def done(client: Client, event: IdleDone) -> Answer:
    await stop(client)
    if not event.valid:
        raise RemoteError("expected DONE")
    return Answer("Idle completed.")


async def stop(client: Client) -> None:
    """Push no more."""
    push, client.push = client.push, None
    if push is not None:
        push.close()
        await push.finished()
