"""Puts old mail (`app.old_mail`) into an account, while no server runs.

A mailbox that has as many messages with the same size, date of arrival and header as the old one gets none of them:
so what was interrupted is repeated, and adds what is missing. Each group of messages is durable before the next is
read. Of messages that cannot be taken it is told, and the others go on.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

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


class _There:
    """The messages that a mailbox has, each of which stands for one old message."""

    def __init__(self, store: Store, account: int) -> None:
        self._store = store
        self._account = account
        self._contents: dict[tuple[int, int], list[int]] = {}
        """By size and date of arrival, until one is asked for."""
        self._headers: dict[tuple[int, int], Counter[bytes]] = {}
        """The same from then on: digests of header blocks."""

    async def look_into(self, mailbox: int) -> None:
        self._contents = await self._store.read(
            self._account, lambda tx: messages.arrivals(tx, mailbox)
        )

    async def take(self, item: Append) -> bool:
        """Whether a message that is like this one stood for none yet; it does now."""
        key = item.size, item.internaldate
        contents = self._contents.pop(key, None)
        if contents is not None:
            self._headers[key] = await self._store.read(
                self._account,
                lambda tx: Counter(_digest(messages.header(tx, each) or b"") for each in contents),
            )
        headers, own = self._headers.get(key), _digest(item.content.header)
        if headers is None or not headers[own]:
            return False
        headers[own] -= 1
        return True


def _digest(header: bytes) -> bytes:
    return sha256(header).digest()


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
        there = _There(self._store, self._account)
        await there.look_into(mailbox)
        shown = "/".join(name)
        self.done.added.setdefault(shown, 0)
        group: list[tuple[OldMessage, Append]] = []
        octets = 0
        try:
            for message in old.messages(self._most_octets):
                if message.problem:
                    self.done.left.append((message.where, message.problem))
                    continue
                item = self._item(mailbox, message)
                if await there.take(item):
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
        except OSError:  # an mbox that cannot be read any further
            await self._put(shown, group)
            raise
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
