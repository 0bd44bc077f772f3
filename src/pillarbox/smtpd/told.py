"""What SMTP sessions and the drop folder tell the trace of messages."""

from collections.abc import Sequence

from pillarbox.delivery.aliases import Target
from pillarbox.smtp.reply import Reply
from pillarbox.smtpd.transaction import Transaction
from pillarbox.store.content import Content
from pillarbox.trace.events import Accepted, Refused
from pillarbox.trace.message_id import find_message_id
from pillarbox.trace.recorder import Recorder


def tell_accepted(
    recorder: Recorder,
    transaction: Transaction,
    content: Content,
    *,
    connection: str,
    queue_id: str,
    sender: str,
    user: str,
    pending: Sequence[Target],
    came_octets: int,
) -> None:
    """A message is durable. `came_octets`: how large it was when it came, 0 where that is not known."""
    size = len(content.octets)
    recorder.add(
        Accepted(
            connection,
            queue_id,
            find_message_id(content.header),
            size,
            sender,
            transaction.routes,
            transaction.began,
            user,
            [target.address for target in pending],
            _notes(transaction, size, came_octets),
        )
    )


def _notes(transaction: Transaction, size: int, came_octets: int) -> list[str]:
    """What was done to a message on its way in."""
    notes = []
    if transaction.is_binary:
        notes.append("binary parts were made base64")
    elif came_octets and size != came_octets:
        notes.append(f"its header or line ends were mended ({came_octets} octets came)")
    if transaction.is_utf8:
        notes.append("it came with SMTPUTF8")
    return notes


def tell_refused(
    recorder: Recorder,
    connection: str,
    what: tuple[str, str, str],
    reply: Reply,
    why: str,
    queue_id: str = "",
) -> None:
    """`what` is "connection", "command", "sender", "recipient" or "message"; sender; recipient."""
    recorder.add(Refused(connection, *what, reply.code, reply.enhanced, reply.text, why, queue_id))
