"""What stands in the queue of mail to other hosts (`store.outgoing`), as values, and how it is read."""

from collections.abc import Iterable
from dataclasses import dataclass

import apsw

SEVEN_BIT, EIGHT_BIT, UTF8_HEADER = 0, 1, 2
"""Values of `eight_bit`: what a message needs of the next host: nothing, 8BITMIME, or SMTPUTF8, which brings that with
it (RFC 6531 §3.1)."""


@dataclass(slots=True)
class OutgoingRecipient:
    """Who shall get a message; `next_hop` groups recipients that one connection can serve."""

    recipient: str
    next_hop: str
    notify: str = ""
    orcpt: str = ""


@dataclass(slots=True)
class OutgoingMessage:
    """A message as it will be sent."""

    queue_id: str
    reverse_path: str
    octets: bytes
    account: int | None = None
    envid: str = ""
    ret: str = ""
    eight_bit: int = SEVEN_BIT


@dataclass(slots=True)
class Row:
    """One recipient of one message, as it was when it was read. Times in epoch seconds."""

    message: int
    queue_id: str
    reverse_path: str
    account: int | None
    envid: str
    ret: str
    eight_bit: int
    created: int
    size: int
    recipient: str
    next_hop: str
    notify: str
    orcpt: str
    held: int
    attempts: int
    next_try: int
    expires: int
    warn_at: int
    owner: str
    sending: bool
    host: str
    reply: str
    octets: bytes | None = None
    """The message, where it is in memory anyway."""


@dataclass(slots=True)
class Selection:
    """Which rows a command means; an empty field means any."""

    queue_id: str = ""
    address: str = ""
    """Of the sender or a recipient."""
    domain: str = ""
    """Of a recipient."""
    older_than_s: int = 0


AT_ONCE = 0
"""The `next_try` of a row that a person wants to be tried now, whatever is known of its destination."""

FREE, HELD, UNACCEPTED, OVER_LIMIT = 0, 1, 2, 3
"""Values of `outgoing.held`: may go; an administrator holds it; its submitter has no answer yet; its submitter sent to
too many, so it is held, too."""

COLUMNS = (
    "m.id, m.queue_id, m.reverse_path, m.account, m.envid, m.ret, m.eight_bit, m.created,"
    " length(m.octets), o.recipient, o.next_hop, o.notify, o.orcpt, o.held, o.attempts, o.next_try,"
    " o.expires, o.warn_at, o.owner, o.sending, o.host, o.reply"
)
"""The fields of a Row, in order."""

FROM = " FROM outgoing AS o JOIN outgoing_message AS m ON m.id = o.message"

_DROP_EMPTY = (
    "DELETE FROM outgoing_message WHERE id = ?"
    " AND NOT EXISTS (SELECT 1 FROM outgoing WHERE message = outgoing_message.id)"
)


def drop_empty(connection: apsw.Connection, messages: Iterable[int]) -> None:
    """Delete messages that have no recipient left."""
    connection.executemany(_DROP_EMPTY, [(message,) for message in messages])
