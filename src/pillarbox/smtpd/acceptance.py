"""What makes an accepted message durable, whether it came by SMTP or from the drop folder.

Copies for accounts here, rows in the queue for other hosts, and what its sender wanted to be told of it.
"""

import logging
from dataclasses import dataclass

from pillarbox.core.errors import Failure, Unavailable
from pillarbox.delivery.aliases import Target
from pillarbox.delivery.deliver import Delivery, Wished, deliver
from pillarbox.queue.notice import About
from pillarbox.smtpd.context import SmtpContext
from pillarbox.smtpd.transaction import Transaction
from pillarbox.store.directory import Account
from pillarbox.store.outgoing_row import OVER_LIMIT, OutgoingMessage

log = logging.getLogger("pillarbox.smtpd")


@dataclass(slots=True)
class Accepted:
    """A message that nothing speaks against."""

    delivery: Delivery
    transaction: Transaction
    submitter: Account | None
    """Who logged in."""
    own: bool
    """It is of a user, or of a host or program that is trusted like one."""


async def make_durable(context: SmtpContext, accepted: Accepted) -> list[Target]:
    """For all its recipients, or for nobody; returns the local targets that are only pending. Raises Unavailable."""
    pending = await _store(context, accepted)
    transaction = accepted.transaction
    if transaction.wishes or transaction.expanded:
        await _tell_success(context, accepted.delivery, transaction.expanded, pending)
    return pending


async def _store(context: SmtpContext, accepted: Accepted) -> list[Target]:
    delivery, transaction = accepted.delivery, accepted.transaction
    if not transaction.elsewhere:
        return await deliver(context.store, delivery) if delivery.targets else []
    # Else a message between aliases of two hosts would double with each round, for as many rounds as Received allows.
    # (Not in UTF-8: that would make the header need SMTPUTF8.)
    names = [each.encode() for each in transaction.forwarders if each.isascii()]
    marks = b"".join(b"Delivered-To: %b\r\n" % name for name in names)
    octets = marks + delivery.received + bytes(delivery.content.octets)
    message = OutgoingMessage(
        delivery.queue_id,
        delivery.reverse_path,
        octets,
        account=accepted.submitter.id if accepted.submitter is not None else None,
        envid=delivery.envid,
        ret=transaction.mail.parameters.get("RET", ""),
    )
    enqueuer = context.notices.enqueuer
    state = await enqueuer.enqueue(
        message,
        list(transaction.elsewhere),
        wishes=transaction.elsewhere,
        own=accepted.own,
        utf8=transaction.is_utf8,
        accepted=not delivery.targets,
        once=delivery.may_repeat,
    )
    pending: list[Target] = []
    if delivery.targets:
        try:
            pending = await deliver(context.store, delivery)
        except Unavailable:
            await enqueuer.forget(delivery.queue_id)
            raise
        await enqueuer.accept(delivery.queue_id, state)
    if state == OVER_LIMIT and accepted.submitter is not None:
        await _tell_over_limit(context, delivery.queue_id, accepted.submitter)
    return pending


async def _tell_over_limit(context: SmtpContext, queue_id: str, submitter: Account) -> None:
    """The message is held, whether somebody can be told of it or not."""
    log.warning("id=%s is held: %s has sent to too many recipients", queue_id, submitter.address)
    try:
        await context.notices.tell_over_limit(submitter)
    except Failure as failure:
        log.error("id=%s: nobody can be told: %s", queue_id, failure.told)


async def _tell_success(
    context: SmtpContext, delivery: Delivery, expanded: list[Wished], pending: list[Target]
) -> None:
    """Before the 250, so that no stop in between leaves the sender without it (RFC 3461 §5.2.3). The message is
    stored, whatever becomes of the report: it cannot be refused any more."""
    later = {target.account for target in pending}
    delivered = [
        wished
        for account, those in delivery.wishes.items()
        if account not in later
        for wished in those
    ]
    about = About(
        delivery.queue_id,
        delivery.reverse_path,
        delivery.received + delivery.content.header,
        delivery.internaldate,
        delivery.envid,
    )
    try:
        await context.notices.tell_success(about, delivered, expanded)
    except Unavailable as failure:
        log.error("id=%s: the sender cannot be told: %s", delivery.queue_id, failure.told)
