"""Local delivery: one message into the INBOX of each of its accounts, durable when it is acknowledged.

With several accounts, those that cannot be written now stand in the pending table before the acknowledgement; if none
can be written, the sender shall try again. The commit decides: a caller that goes away changes nothing.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pillarbox.core.errors import DiskFull, Failure, Unavailable
from pillarbox.core.said import Said
from pillarbox.delivery.aliases import Target
from pillarbox.delivery.quota import note_growth
from pillarbox.delivery.trace import delivery_fields
from pillarbox.store.appending import Append, Appended
from pillarbox.store.content import Content
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.store import Store
from pillarbox.store.told import tell_filed

LONGEST_WAIT_S = 20.0
"""For one account of several, until its copy is left to the pending table."""

TARGETS_A_SLICE = 25
"""After so many others have their turn."""

_LATE = Unavailable("the mail file is busy")
"""For a copy that was given up and may still be made."""

_REMOVED = Unavailable("the account was removed")
"""While its mail was on the way. The address may be given anew, so the sender shall try again, and hears then."""

log = logging.getLogger("pillarbox.delivery")


@dataclass(slots=True)
class Delivery:
    """One message on its way to accounts of this server."""

    queue_id: str
    reverse_path: str
    """Without angle brackets; "" is the null path."""
    received: bytes
    """The Received field of this server, whole."""
    internaldate: int
    """A packed date (core.dates)."""
    content: Content
    targets: Sequence[Target]
    """One or more, no account twice."""
    envid: str = ""
    """As it came, "" for none (RFC 3461 §4.4)."""
    wishes: Mapping[int, Sequence["Wished"]] = field(default_factory=dict)
    """By account: whose delivery is to be told to the sender. For those that become pending; else it is the caller's
    business."""
    may_repeat: bool = False
    """Whoever asks may ask again without knowing of the first time: what is stored is found, and not stored twice."""


@dataclass(slots=True, frozen=True)
class Wished:
    """A recipient with NOTIFY=SUCCESS (RFC 3461 §4.1)."""

    address: str
    """As in the envelope."""
    orcpt: str
    """As it came, "" for none."""


async def deliver(store: Store, delivery: Delivery, *, has_no_client: bool = False) -> list[Target]:
    """Store a copy for each target; returns those that are only pending. `has_no_client`: it is mail of our own, which
    nobody would send again, so it may be pending for all.

    Raises Unavailable (DiskFull where that is why) if nobody got it, or if it is not certain that everybody will: the
    sender must try again, though some may have got it then.
    """
    targets = delivery.targets
    if len(targets) == 1 and not has_no_client:
        try:
            item = _append(delivery, targets[0], keyed=delivery.may_repeat)
            _tell_filed(store, targets[0], item, await store.deliver(targets[0].account, item))
        except Failure as failure:
            to = Said(targets[0].address)
            if store.is_removed(failure):
                log.info("id=%s to %s: %s", delivery.queue_id, to, _REMOVED.text)
                raise _temporary(_REMOVED) from failure
            log.warning("id=%s to %s: %s", delivery.queue_id, to, failure.told)
            raise _temporary(failure) from failure
        note_growth(store, (targets[0].account,))
        return []
    failures = await _deliver_to_each(store, delivery)
    note_growth(store, [target.account for target in targets])
    for number, (target, error) in enumerate(failures, 1):
        known = isinstance(error, Failure)
        text = str(error) if known else f"a bug: {error!r}"
        log.log(
            logging.INFO if error is _REMOVED else logging.WARNING,
            "id=%s to %s: %s",
            delivery.queue_id,
            Said(target.address),
            text,
            exc_info=None if known else error,
        )
        if number % TARGETS_A_SLICE == 0:
            await asyncio.sleep(0)
    is_late = any(error is _LATE for _, error in failures)
    if failures and len(failures) == len(targets) and not (is_late or has_no_client):
        raise _temporary(failures[0][1])
    pending = [target for target, _ in failures]
    if pending:
        await _leave_pending(store, delivery, pending)
    return pending


async def _deliver_to_each(store: Store, delivery: Delivery) -> list[tuple[Target, BaseException]]:
    """All at once, so that they become durable together; returns what failed or took too long."""
    tasks: dict[asyncio.Future[Any], tuple[Target, Append]] = {}
    for target in delivery.targets:
        # What is given up here for being late may still be done: the key keeps it from being there twice.
        item = _append(delivery, target, keyed=True)
        tasks[store.deliver_soon(target.account, item)] = target, item
        if len(tasks) % TARGETS_A_SLICE == 0:
            await asyncio.sleep(0)
    try:
        await asyncio.wait(tasks, timeout=LONGEST_WAIT_S)
    finally:
        late = [task for task in tasks if not task.done()]
        for task in late:
            task.cancel()
    if late:
        await asyncio.wait(late)
    failures: list[tuple[Target, BaseException]] = []
    for task, (target, item) in tasks.items():
        if task.cancelled():
            failures.append((target, _LATE))
        elif (error := task.exception()) is not None:
            failures.append((target, _REMOVED if store.is_removed(error) else error))
        else:
            _tell_filed(store, target, item, task.result())
    return failures


def _tell_filed(store: Store, target: Target, item: Append, done: Appended | None) -> None:
    """What was only taken has no UID yet: the store tells of it later."""
    if done is not None:
        tell_filed(store.recorder, target.account, (item,), (done,))


def _append(delivery: Delivery, target: Target, *, keyed: bool) -> Append:
    key = f"{delivery.queue_id}/{target.address}" if keyed else ""
    prefix = delivery_fields(delivery.reverse_path, target.address, delivery.received)
    return Append(
        INBOX,
        delivery.content,
        delivery.internaldate,
        prefix=prefix,
        delivery_key=key,
        queue_id=delivery.queue_id,
    )


async def _leave_pending(store: Store, delivery: Delivery, targets: list[Target]) -> None:
    rows = [
        (
            target.address,
            target.account,
            delivery_fields(delivery.reverse_path, target.address, delivery.received),
        )
        for target in targets
    ]
    await asyncio.to_thread(
        store.pending.add,
        delivery.queue_id,
        delivery.reverse_path,
        delivery.internaldate,
        bytes(delivery.content.octets),
        rows,
        envid=delivery.envid,
        wishes=[
            (target.address, wish.address, wish.orcpt)
            for target in targets
            for wish in delivery.wishes.get(target.account, ())
        ],
    )


def _temporary(error: BaseException) -> Unavailable:
    """Refused is temporary here too: INBOX has no other reason than that it used all its numbers."""
    if isinstance(error, DiskFull):
        return DiskFull()
    return Unavailable(
        str(error) if isinstance(error, Failure) else "the mail cannot be stored now"
    )
