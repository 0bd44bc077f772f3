"""What SMTP sessions and the drop folder tell the trace of messages."""

from collections.abc import Sequence
from dataclasses import dataclass

from pillarbox.delivery.aliases import Target
from pillarbox.smtp import reply as replies
from pillarbox.smtp.reply import Reply
from pillarbox.smtpd.transaction import Transaction
from pillarbox.store.content import Content
from pillarbox.trace.events import Accepted, Refused
from pillarbox.trace.message_id import find_message_id
from pillarbox.trace.recorder import Recorder

MOST_TOLD = 50
"""Recipients of a message that was refused."""

_WHY = {
    replies.BARE_CR_OR_LF_IN_DATA: "a CR or LF stood alone, by which others could be made to see two messages in one",
    replies.SENDER_NOT_YOURS: "an address in From or Sender is not one of whoever logged in",
    replies.MAILBOX_FULL: "it is larger than the room within the quotas",
    replies.MAIL_LOOP: "Received or Delivered-To says that it was here before, or on too many hosts",
}
"""What a message was refused by."""


def why_refused(reply: Reply, came_octets: int, most_octets: int) -> str:
    """What the verdict on a whole message was made from; "": the reply says all."""
    if reply == replies.TOO_BIG:
        return f"{came_octets} octets came, at most {most_octets} may"
    return _WHY.get(reply, "")


@dataclass(slots=True)
class Verdict:
    """What was refused: "connection", "command", "sender", "recipient" or "message". The address is what was refused,
    or ""."""

    what: str
    address: str
    reply: Reply
    why: str


def tell_verdict(
    recorder: Recorder, connection: str, transaction: Transaction | None, verdict: Verdict
) -> None:
    """Something was refused in a session; `transaction` is the one that is open."""
    sender = transaction.sender if transaction is not None else ""
    recipient = message_id = ""
    if verdict.what == "recipient":
        recipient = verdict.address
    elif verdict.what == "sender":
        sender = verdict.address
    elif verdict.what == "message" and transaction is not None:
        recipient = " ".join(transaction.recipients[:MOST_TOLD])
        message_id = transaction.find_message_id()
    what = (verdict.what, sender, recipient)
    tell_refused(recorder, connection, what, verdict.reply, verdict.why, message_id=message_id)


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
            transaction.found_by,
            transaction.missing,
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
    message_id: str = "",
) -> None:
    """`what` is "connection", "command", "sender", "recipient" or "message"; sender; recipient."""
    code, enhanced = reply.code, reply.enhanced
    event = Refused(connection, *what, code, enhanced, reply.text, why, queue_id, message_id)
    recorder.add(event)
