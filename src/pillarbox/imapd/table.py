"""The commands that are served: which function does it, and when the client is told of changes.

Two bits say when EXPUNGE may be sent (RFC 3501 §7.4.1, §5.5): whether the command tells of changes at all, and whether
it must keep message numbers as they are. The second does not count for the UID form of a command.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pillarbox.imapd.access import ANY, NOTHING, Needs
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.commands import (
    copy,
    expunge,
    fetch,
    idle,
    list,
    login,
    mailbox,
    multisearch,
    search,
    select,
    store,
)
from pillarbox.imapd.extensions import acl, layers, metadata, notify, quota

Handler = Callable[[Client, Any], Awaitable[Answer | None]]
"""Gives the tagged answer; None: it comes with a later event."""


@dataclass(slots=True, frozen=True)
class Row:
    """`tells`: changes are told before the answer. `keeps_numbers`: but not EXPUNGE. `needs`: rights, in mailboxes of
    other accounts; a command that needs none cannot name one (RFC 4314 §4)."""

    serve: Handler
    tells: bool = True
    keeps_numbers: bool = False
    needs: Needs = NOTHING


COMMANDS: Mapping[str, Row] = {
    "CAPABILITY": Row(login.capability),
    "NOOP": Row(login.noop),
    "LOGOUT": Row(login.logout, tells=False),
    "ID": Row(login.identify),
    "ENABLE": Row(login.enable),
    "STARTTLS": Row(login.starttls, tells=False),
    "LOGIN": Row(login.login, tells=False),
    "AUTHENTICATE": Row(login.authenticate, tells=False),
    "SELECT": Row(select.select, tells=False, needs=Needs(named="r")),
    "EXAMINE": Row(select.examine, tells=False, needs=Needs(named="r")),
    "CHECK": Row(select.check),
    "CLOSE": Row(select.close, tells=False),
    "UNSELECT": Row(select.unselect, tells=False),
    "CREATE": Row(mailbox.create, needs=Needs(parent="k")),
    "DELETE": Row(mailbox.delete, needs=Needs(named="x")),
    "RENAME": Row(mailbox.rename, needs=Needs(named="x", parent="k")),
    "SUBSCRIBE": Row(mailbox.subscribe),
    "UNSUBSCRIBE": Row(mailbox.unsubscribe),
    "NAMESPACE": Row(mailbox.namespace),
    "STATUS": Row(mailbox.status, needs=Needs(named="r")),
    "LIST": Row(list.list_mailboxes),
    "LSUB": Row(list.list_subscribed),
    "EXPUNGE": Row(expunge.expunge, needs=Needs(selected="e")),
    "COPY": Row(copy.copy, needs=Needs(named="i")),
    "MOVE": Row(copy.move, needs=Needs(selected="te", named="i")),
    "FETCH": Row(fetch.fetch, keeps_numbers=True),
    "STORE": Row(store.store, keeps_numbers=True),
    "SEARCH": Row(search.search, keeps_numbers=True),
    "SORT": Row(search.sort, keeps_numbers=True),
    "THREAD": Row(search.thread, keeps_numbers=True),
    "ESEARCH": Row(multisearch.multisearch, keeps_numbers=True),
    "CANCELUPDATE": Row(search.cancel_update),
    "IDLE": Row(idle.idle, tells=False),
    "GETQUOTA": Row(quota.get_quota),
    "GETQUOTAROOT": Row(quota.get_quota_root, needs=Needs(named="r")),
    "SETQUOTA": Row(quota.set_quota),
    "GETMETADATA": Row(metadata.get_metadata, needs=Needs(named="l", any_of="rswip")),
    "SETMETADATA": Row(metadata.set_metadata, needs=Needs(named="l", any_of="rswip")),
    "SETACL": Row(acl.set_acl, needs=Needs(named="a")),
    "DELETEACL": Row(acl.delete_acl, needs=Needs(named="a")),
    "GETACL": Row(acl.get_acl, needs=Needs(named="a")),
    "LISTRIGHTS": Row(acl.list_rights, needs=Needs(named="a")),
    "MYRIGHTS": Row(acl.my_rights, needs=Needs(any_of=ANY)),
    "NOTIFY": Row(notify.notify),
    "COMPRESS": Row(layers.compress),
    "UNAUTHENTICATE": Row(layers.unauthenticate, tells=False),
}
"""By `imap.events.Command.name`. APPEND, which is no single event, is served by the session itself."""
