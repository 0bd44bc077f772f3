"""What a search in the selected mailbox of a client looks at."""

from pillarbox.imapd.client import Client
from pillarbox.imapd.context import SearchContext


def search_context(client: Client) -> SearchContext:
    selected = client.selected
    return SearchContext(
        client.context.store,
        selected.account,
        selected.mailbox,
        selected.view.uids,
        selected.view.is_recent,
        selected.saved,
        client.pause,
        orders=client.context.orders,
    )
