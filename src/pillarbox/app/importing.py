"""Puts old mail (`app.old_mail`) into an account, while no server runs.

A mailbox that has as many messages with the same size, date of arrival and header as the old one gets none of them:
so what was interrupted is repeated, and adds what is missing. Each group of messages is durable before the next is
read. Of messages that cannot be taken it is told, and the others go on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pillarbox.app.old_mail import OldMailbox, OldMessage
from pillarbox.core.errors import Refused
from pillarbox.store import mailboxes, messages
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.mailboxes import Name
from pillarbox.store.store import Store
from pillarbox.store.tx import Tx

MOST_AT_ONCE = 500
MOST_OCTETS_AT_ONCE = 8 << 20
"""Of one transaction; one more message may go beyond that."""


@dataclass(slots=True)
class Imported:
    """What became of the messages."""

    added: dict[str, int] = field(default_factory=dict)
    """Messages by mailbox."""
    present: int = 0
    """Were there before."""
    left: list[tuple[str, str]] = field(default_factory=list)
    """(which, why)"""
    is_full: bool = False
    """The account's quota took no more, so the rest was not tried."""


class Import:
    """Into one account."""

    def __init__(
        self, store: Store, account: int, most_octets: int, progress: Callable[[int], None]
    ) -> None:
        """`progress` is told octets that are done with."""
        self.done = Imported()
        self._store = store
        self._account = account
        self._most_octets = most_octets
        self._progress = progress

    async def add(self, old: OldMailbox, name: Name) -> None:
        """All of a mailbox, which is made if it is missing. Raises Refused for a name that cannot be made, Unavailable,
        OSError."""
        mailbox = await self._store.write(self._account, lambda tx: _ensure_mailbox(tx, name))
        there = await self._store.read(self._account, lambda tx: messages.arrivals(tx, mailbox))
        shown = "/".join(name)
        self.done.added.setdefault(shown, 0)
        group: list[tuple[OldMessage, Append]] = []
        octets = 0
        for message in old.messages(self._most_octets):
            if message.problem:
                self.done.left.append((message.where, message.problem))
                continue
            item = self._item(mailbox, message)
            if await self._take_present(there, item):
                self.done.present += 1
                self._progress(item.size)
                continue
            group.append((message, item))
            octets += item.size
            if len(group) >= MOST_AT_ONCE or octets >= MOST_OCTETS_AT_ONCE:
                await self._put(shown, group)
                group, octets = [], 0
            if self.done.is_full:
                return
        await self._put(shown, group)

    def _item(self, mailbox: int, message: OldMessage) -> Append:
        quota = self._store.directory.quotas.of(self._account)
        return Append(
            mailbox,
            make_content(message.octets),
            message.internaldate,
            message.flags,
            message.keywords,
            quota=quota,
        )

    async def _take_present(self, there: dict[tuple[int, int], list[int]], item: Append) -> bool:
        """Whether the mailbox has the message; each there stands for one."""
        contents = there.get((item.size, item.internaldate))
        if not contents:
            return False

        def find(tx: Tx) -> int | None:
            alike = (each for each in contents if messages.header(tx, each) == item.content.header)
            return next(alike, None)

        found = await self._store.read(self._account, find)
        if found is not None:
            contents.remove(found)
        return found is not None

    async def _put(self, mailbox: str, group: list[tuple[OldMessage, Append]]) -> None:
        """All at once; where that is refused, one by one, up to where the account is full."""
        if not group:
            return
        try:
            await self._store.append_all(self._account, [item for _, item in group])
        except Refused as refused:
            if len(group) > 1:
                for one in group:
                    if not self.done.is_full:
                        await self._put(mailbox, [one])
                return
            self.done.left.append((group[0][0].where, refused.text))
            self.done.is_full = refused.code == "OVERQUOTA"
            return
        self.done.added[mailbox] += len(group)
        self._progress(sum(item.size for _, item in group))


def _ensure_mailbox(tx: Tx, name: Name) -> int:
    found = mailboxes.find(tx, name)
    if found is None:
        found = mailboxes.create(tx, name)
        mailboxes.subscribe(tx, name)
    return found.id
