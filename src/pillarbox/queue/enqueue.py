"""Putting mail into the queue: addresses become rows by next hop, and the worker is told.

Where the worker has room, it gets new mail from here, leased to it from the beginning, and nobody reads the table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pillarbox.dsn.wishes import NO_WISH, Wish
from pillarbox.outbound.signing import MailSigner, describe
from pillarbox.queue.limits import SendingLimits
from pillarbox.queue.schedule import Schedule
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import (
    FREE,
    OVER_LIMIT,
    UNACCEPTED,
    OutgoingMessage,
    OutgoingRecipient,
    Row,
)
from pillarbox.trace.events import Queued
from pillarbox.trace.recorder import Recorder


class Courier(Protocol):
    """Who sends what is in the queue."""

    @property
    def owner(self) -> str:
        """Its name in leases."""

    @property
    def lease_s(self) -> int:
        """How long its leases are."""

    def has_room(self, size: int, next_hops: Sequence[str]) -> bool:
        """Whether it will take a message of so many octets for these at once."""

    def take(self, rows: list[Row]) -> None:
        """Send these, of one message, which are leased to it; their octets are with them."""


@dataclass(slots=True)
class Enqueuer:
    """What services use to send mail to other hosts."""

    queue: OutgoingQueue
    next_hop_of: Callable[[str], str]
    """The next hop of an address."""
    schedule: Schedule
    hint: Callable[[], None]
    """Tells the worker that there is something to do in the table."""
    signer: MailSigner
    courier: Courier | None = None
    """Whom new mail may be given to without a look into the table."""
    limits: SendingLimits | None = None
    recorder: Recorder = field(default_factory=Recorder)

    async def enqueue(
        self,
        message: OutgoingMessage,
        addresses: Sequence[str],
        *,
        wishes: Mapping[str, Wish] | None = None,
        own: bool = False,
        utf8: bool = False,
        accepted: bool = True,
        once: bool = False,
    ) -> int:
        """Durable on return. `wishes` by address, where there are some. `own` mail, of our users and of ourselves, is
        made 7-bit and signed; what is forwarded stays as it is. `utf8`: it came with SMTPUTF8. Returns FREE, or
        OVER_LIMIT if its account has sent to too many; not yet `accepted`, it waits for `accept` with that. `once`: see
        `OutgoingQueue.was_taken_up`. Raises Unavailable."""
        octets = came = message.octets
        if own:
            octets = await self.signer.sign(octets)
        needs = await self.signer.needs(octets, utf8=utf8)
        message = replace(message, octets=octets, eight_bit=needs)
        recipients = []
        for address in addresses:
            wish = wishes.get(address, NO_WISH) if wishes else NO_WISH
            hop = self.next_hop_of(address)
            recipients.append(OutgoingRecipient(address, hop, wish.notify, wish.orcpt))
        state = self._state_for(message.account, len(recipients))
        courier = self.courier
        if (
            accepted
            and state == FREE
            and courier is not None
            and courier.has_room(len(message.octets), [one.next_hop for one in recipients])
        ):
            owner, lease_s = courier.owner, courier.lease_s
        else:
            owner, lease_s = "", 0
        rows = await self.queue.enqueue(
            message,
            recipients,
            lifetime_s=int(self.schedule.give_up_after_s),
            warn_after_s=int(self.schedule.warn_after_s),
            state=state if accepted else UNACCEPTED,
            owner=owner,
            lease_s=lease_s,
            once=once,
        )
        if self.recorder.is_on:
            self.recorder.add(
                Queued(
                    message.queue_id,
                    message.reverse_path,
                    [(one.recipient, one.next_hop) for one in recipients],
                    describe(came, octets) if own else [],
                    "over its limit of recipients" if state == OVER_LIMIT else "",
                )
            )
        if rows and courier is not None:
            courier.take(rows)
        elif accepted:
            self.hint()
        return state

    def _state_for(self, account: int | None, recipients: int) -> int:
        if self.limits is None or account is None or self.limits.take(account, recipients):
            return FREE
        return OVER_LIMIT

    async def accept(self, queue_id: str, state: int) -> None:
        """What `enqueue` returned shall be the state of a message that was not accepted then. Raises Unavailable."""
        await self.queue.accept(queue_id, state)
        self.hint()

    async def forget(self, queue_id: str) -> None:
        """Drop it: its submitter was told to try again. Raises Unavailable."""
        await self.queue.forget(queue_id)
