"""What STATUS tells of a mailbox, alone and in LIST (RFC 3501 §6.3.10, RFC 5819). A new item is one more row."""

from collections.abc import Callable, Iterable, Mapping

from pillarbox.imapd.context import ImapContext
from pillarbox.imapd.objectid import mailboxid
from pillarbox.store import mailboxes, messages
from pillarbox.store.mailboxes import Mailbox
from pillarbox.store.tx import Tx

Value = int | bytes
"""A number, or what goes out as it is."""


def _deleted_storage(tx: Tx, mailbox: Mailbox) -> int:
    """RFC 9208 §4.1.4: octets."""
    return messages.deleted_octets(tx, mailbox.id) if mailbox.deleted else 0


_VALUES: Mapping[str, Callable[[Tx, Mailbox, ImapContext], Value]] = {
    "MESSAGES": lambda tx, mailbox, context: mailbox.messages,
    "RECENT": lambda tx, mailbox, context: mailboxes.count_recent(tx, mailbox),
    "UIDNEXT": lambda tx, mailbox, context: mailbox.uidnext,
    "UIDVALIDITY": lambda tx, mailbox, context: mailbox.uidvalidity,
    "UNSEEN": lambda tx, mailbox, context: mailbox.unseen,
    "DELETED": lambda tx, mailbox, context: mailbox.deleted,  # RFC 9051 §6.3.11
    "DELETED-STORAGE": lambda tx, mailbox, context: _deleted_storage(tx, mailbox),
    "HIGHESTMODSEQ": lambda tx, mailbox, context: mailbox.modseq,  # RFC 7162 §3.1.7
    "MAILBOXID": lambda tx, mailbox, context: b"(%b)" % mailboxid(tx.account, mailbox.id),
    "SIZE": lambda tx, mailbox, context: mailbox.octets,  # RFC 8438 §3
    "APPENDLIMIT": lambda tx, mailbox, context: context.max_message_size,  # RFC 7889 §3.1
}
"""By the names of `imap.syntax_mailbox.STATUS_ITEMS`."""

COUNTED = frozenset(("RECENT", "DELETED-STORAGE"))
"""Items that take longer the more messages there are."""


def status_values(
    tx: Tx, mailbox: Mailbox, items: Iterable[str], context: ImapContext
) -> dict[str, Value]:
    """In the order of `items`."""
    return {item: _VALUES[item](tx, mailbox, context) for item in items}
