"""Putting mail into the queue: addresses become rows by next hop, and the worker is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pillarbox.dsn.wishes import NO_WISH, Wish
from pillarbox.outbound.signing import MailSigner
from pillarbox.queue.schedule import Schedule
from pillarbox.store.outgoing import OutgoingMessage, OutgoingQueue, OutgoingRecipient


@dataclass(slots=True)
class Enqueuer:
    """What services use to send mail to other hosts."""

    queue: OutgoingQueue
    next_hop_of: Callable[[str], str]
    """The next hop of an address."""
    schedule: Schedule
    hint: Callable[[], None]
    """Tells the worker that there is something to do."""
    signer: MailSigner

    async def enqueue(
        self,
        message: OutgoingMessage,
        addresses: Sequence[str],
        *,
        wishes: Mapping[str, Wish] | None = None,
        own: bool = False,
        utf8: bool = False,
        accepted: bool = True,
    ) -> None:
        """Durable on return. `wishes` by address, where there are some. `own` mail, of our users and of ourselves, is
        made 7-bit and signed; what is forwarded stays as it is. `utf8`: it came with SMTPUTF8. Not yet `accepted`, it
        waits for `accept`. Raises Unavailable."""
        octets = message.octets
        if own:
            octets = await self.signer.sign(octets)
        needs = await self.signer.needs(octets, utf8=utf8)
        message = replace(message, octets=octets, eight_bit=needs)
        recipients = []
        for address in addresses:
            wish = wishes.get(address, NO_WISH) if wishes else NO_WISH
            hop = self.next_hop_of(address)
            recipients.append(OutgoingRecipient(address, hop, wish.notify, wish.orcpt))
        await self.queue.enqueue(
            message,
            recipients,
            lifetime_s=int(self.schedule.give_up_after_s),
            warn_after_s=int(self.schedule.warn_after_s),
            accepted=accepted,
        )
        if accepted:
            self.hint()

    async def accept(self, queue_id: str) -> None:
        """Let a message go that was enqueued before it was accepted. Raises Unavailable."""
        await self.queue.accept(queue_id)
        self.hint()

    async def forget(self, queue_id: str) -> None:
        """Drop it: its submitter was told to try again. Raises Unavailable."""
        await self.queue.forget(queue_id)
