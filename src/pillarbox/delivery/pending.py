"""The worker that does deliveries which were acknowledged but could not be done at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import apsw

from pillarbox.core.errors import Failure
from pillarbox.core.said import Said
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.pending import PendingDelivery
from pillarbox.store.store import Store
from pillarbox.store.told import tell_filed

LOOK_EVERY_S = 1.0
LONGEST_WAIT_S = 20.0
"""For one account; then others have their turn."""

log = logging.getLogger("pillarbox.delivery")


TellSuccess = Callable[[PendingDelivery], Awaitable[None]]
"""Tells the sender that a delivery was done. Raises Unavailable."""


class PendingWorker:
    """Tries all that is pending at `start`, then each delivery when it is due, until `stop`.

    A delivery that was done but not yet struck off is found by its key when it is tried again.
    """

    def __init__(
        self, store: Store, tell_success: TellSuccess, look_every_s: float = LOOK_EVERY_S
    ) -> None:
        self._store = store
        self._tell_success = tell_success
        self._look_every_s = look_every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """On the store's event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End. A delivery that was under way stays pending."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        is_first = True
        while True:
            try:
                if is_first:
                    await asyncio.to_thread(self._store.pending.make_all_due)
                    is_first = False
                await self.deliver_due()
            except (Failure, apsw.Error) as error:
                log.error("pending deliveries cannot be looked at now: %s", error)
            except Exception:
                log.exception("a bug in the delivery of pending mail")
            await asyncio.sleep(self._look_every_s)

    async def deliver_due(self) -> None:
        """Try each delivery that is due once. Raises Unavailable or apsw.Error if the table cannot be used."""
        pending = self._store.pending
        while due := await asyncio.to_thread(pending.due, 1):
            await self._try(due[0])

    async def _try(self, delivery: PendingDelivery) -> None:
        pending, recipient = self._store.pending, Said(delivery.recipient)
        if self._store.directory.account_by_id(delivery.account) is None:
            log.error("id=%s to %s: the account was removed", delivery.queue_id, recipient)
            await asyncio.to_thread(pending.done, delivery)
            return
        content = await self._store.compute(lambda: make_content(delivery.octets))
        item = Append(
            INBOX,
            content,
            delivery.internaldate,
            prefix=delivery.prefix,
            delivery_key=delivery.key,
            queue_id=delivery.queue_id,
        )
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                done = await self._store.append(delivery.account, item)
            tell_filed(self._store.recorder, delivery.account, (item,), (done,))
            if delivery.wishes:
                await self._tell_success(delivery)
        except (
            Exception
        ) as error:  # whatever it is, the others have their turn and this one another try
            text = error.text if isinstance(error, Failure) else repr(error)
            log.warning("id=%s to %s: %s", delivery.queue_id, recipient, text)
            await asyncio.to_thread(pending.failed, delivery, text)
            return
        log.info("id=%s to %s: delivered", delivery.queue_id, recipient)
        await asyncio.to_thread(pending.done, delivery)
