"""What a client with NOTIFY does itself: it is not told of that (RFC 5465 §5). Others pay nothing for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pillarbox.imapd.client import Client
from pillarbox.imapd.picture import Picture, put_own
from pillarbox.store import standing
from pillarbox.store.appending import Appended
from pillarbox.store.mailboxes import Name
from pillarbox.store.standing import Eyes, Standing
from pillarbox.store.tx import Tx

T = TypeVar("T")

SERVER: Name = ()
"""In place of a mailbox: what has the annotations of the account."""


def _picture(client: Client, account: int) -> Picture | None:
    return client.watch.pictures.get(account) if client.watch is not None else None


async def write(
    client: Client, account: int, work: Callable[[Tx], T], *names: Name, is_short: bool = False
) -> T:
    """`Store.write` of what the client asked for. `names`: the mailboxes that there may be and that it changes, with
    all below them."""
    picture = _picture(client, account)
    if picture is None:
        return await client.context.store.write(account, work, is_short=is_short)
    eyes = picture.eyes

    def watched(tx: Tx) -> tuple[T, dict[int, Standing], dict[int, Standing]]:
        numbers = [number for name in names if name for number in standing.at_or_below(tx, name)]
        if SERVER in names:
            numbers.append(0)
        before = _of(tx, numbers, eyes)
        result = work(tx)
        return result, before, _of(tx, sorted({*numbers, *tx.changed}), eyes)

    result, before, after = await client.context.store.write(account, watched)
    put_own(picture, before, after)
    return result


def _of(tx: Tx, numbers: Sequence[int], eyes: Eyes) -> dict[int, Standing]:
    found: dict[int, Standing] = {}
    for start in range(0, len(numbers), standing.MAILBOXES_A_SLICE):
        part = numbers[start : start + standing.MAILBOXES_A_SLICE]
        found.update(standing.of(tx, part, eyes))
    return found


@dataclass(slots=True)
class Before:
    """How a mailbox stood before messages were put into it."""

    picture: Picture
    mailbox: int
    row: Standing
    version: int


async def before_append(client: Client, account: int, mailbox: int) -> Before | None:
    """To be given to `note_appended`."""
    picture = _picture(client, account)
    if picture is None:
        return None
    eyes = picture.eyes

    def work(tx: Tx) -> tuple[Standing | None, int]:
        return standing.of(tx, (mailbox,), eyes).get(mailbox), standing.version(tx)

    row, version = await client.context.store.read(account, work)
    return Before(picture, mailbox, row, version) if row is not None else None


def note_appended(before: Before | None, done: Sequence[Appended], unseen: int) -> None:
    """Messages were appended; so many of them are not \\Seen. Where somebody else changed something in the account
    between, as the ModSeqs tell, the client is told of it all."""
    if before is None or not done:
        return
    if [each.modseq for each in done] != [before.version + 1 + place for place in range(len(done))]:
        return
    row = before.row
    after = row._replace(
        uidnext=done[-1].uid + 1,
        messages=row.messages + len(done),
        unseen=row.unseen + unseen,
        modseq=done[-1].modseq,
    )
    put_own(before.picture, {before.mailbox: row}, {before.mailbox: after})
