"""What a client with NOTIFY listens to (RFC 5465): the hints of accounts, and a picture of their mailboxes.

Hints are only collected here. The connection runs `look` between commands (or in IDLE) while the client takes our
output, so a client that does not costs a set of numbers, and after a while not even that: it is told
NOTIFICATIONOVERFLOW, and of nothing more (§5.8). Nothing that changes is lost before: all is compared with the picture.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pillarbox.core.errors import Refused, Unavailable
from pillarbox.imapd.picture import Change, Picture, forget, look_at, look_at_all
from pillarbox.imapd.selected import Selected
from pillarbox.imapd.unseen import log_unseen
from pillarbox.imapd.wishes import Events, Wishes
from pillarbox.net.connection import Connection
from pillarbox.store import acl, mailboxes, metadata, standing
from pillarbox.store.mailboxes import Name
from pillarbox.store.standing import Eyes
from pillarbox.store.store import Store

LOOK_S = 30.0
"""A hint can be lost: a session looks for itself this often, and whether its client takes what we send."""
PATIENCE_S = 60.0
"""How long news may wait for a client that does not take our output."""
MOST_MAILBOXES = 20_000
MOST_ENTRIES = 10_000
"""Annotations of all these mailboxes."""
MOST_OWNERS = 100
"""Accounts of others."""


@dataclass(slots=True)
class News:
    """What is to be told. `subscriptions` are names that were subscribed to, or not any more."""

    changes: list[Change] = field(default_factory=list)
    subscriptions: set[Name] = field(default_factory=set)
    looks_at_selected: bool = False


class Watch:
    """Of one client, from one NOTIFY SET to the next."""

    def __init__(
        self,
        connection: Connection,
        store: Store,
        account: int,
        wishes: Wishes,
        look: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """`look` takes `news` and tells of them."""
        self.wishes = wishes
        self.pictures: dict[int, Picture] = {}
        """By account; none where only the selected mailbox is wanted."""
        self.subscribed: frozenset[Name] = frozenset()
        self.without_access: set[Name] = set()
        """Names that the client was told \\NoAccess of."""
        self.has_overflowed = False
        self._connection = connection
        self._store = store
        self._account = account
        self._look = look
        self._selected: Selected | None = None
        self._ends: dict[int, Callable[[], None]] = {}  # of listening, by account
        self._hints: dict[int, set[int]] = {}
        self._sharers: set[int] = set()
        """Accounts that share something with this one."""
        self._passed_over: set[tuple[int, int]] = set()
        """(account, mailbox) that were selected until now, while the client wanted to know nothing of them."""
        self._is_stale = False  # hints may have been lost
        self._waits_since: float | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(LOOK_S, self._timed)

    async def begin(self) -> None:
        """Listen, then look: nothing falls between. Raises Refused NOTIFICATIONOVERFLOW and Unavailable."""
        if not self.wishes.all:
            return
        sees_entries = bool(self.wishes.all & (Events.METADATA | Events.SERVER))
        self.pictures[self._account] = Picture(self._account, None, Eyes(sees_entries=sees_entries))
        self._listen()
        news = News()
        await self._look_around(news)
        await self._look_at_all(news)
        self._ensure_bounded()
        if self._is_stale:
            raise Unavailable("the mailboxes cannot be looked at now", "UNAVAILABLE")

    def close(self) -> None:
        """Listen to nothing any more."""
        self._timer.cancel()
        for end in self._ends.values():
            end()
        self._ends.clear()
        self.pictures.clear()
        self._hints.clear()

    # Hints

    def _listen(self) -> None:
        """To all accounts that matter now, and to no others."""
        wanted = set(self.pictures)
        if wanted:
            wanted.add(acl.ANYONE)  # what is shared with all
        if self._selected is not None and self.wishes.selected.messages:
            wanted.add(self._selected.account)
        for account in wanted.difference(self._ends):
            self._ends[account] = self._store.subscribe(account, partial(self._hinted, account))
        for account in set(self._ends).difference(wanted):
            self._ends.pop(account)()

    def _hinted(self, account: int, numbers: set[int]) -> None:
        if account not in self.pictures and account != acl.ANYONE:
            selected = self._selected
            if selected is None or selected.mailbox not in numbers:
                return
            numbers = {selected.mailbox}
        hints = self._hints.setdefault(account, set())
        hints |= numbers
        if len(hints) > standing.MAILBOXES_A_SLICE:  # so many are quicker read in order
            hints.clear()
            self._is_stale = True
        self._ask()

    def _timed(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(LOOK_S, self._timed)
        since = self._waits_since
        if since is not None and now - since > PATIENCE_S and self._connection.is_blocked:
            self.overflow()
        self._is_stale = True
        self._ask()

    def _ask(self) -> None:
        if self._waits_since is None:
            self._waits_since = self._loop.time()
        self._connection.interject(self._look)

    def settle(self, selected: Selected | None) -> None:
        """What is selected now."""
        if selected is not self._selected:
            self._reselect(selected)

    def resume(self, selected: Selected | None) -> None:
        """An event was answered: see what is selected, and look if there is reason to."""
        self.settle(selected)
        if self._waits_since is not None:
            self._connection.interject(self._look)

    def overflow(self) -> None:
        """It is too much (RFC 5465 §5.8). `look` says so."""
        self.close()
        self.has_overflowed = True
        self._ask()

    # The selected mailbox

    def _reselect(self, selected: Selected | None) -> None:
        """What was selected is from now on as any other mailbox: of that, the client knows what its view has; where it
        wanted to know nothing, what there is now is where it begins."""
        left, self._selected = self._selected, selected
        self._listen()
        picture = self.pictures.get(left.account) if left is not None else None
        if left is None or picture is None or left.mailbox not in picture.rows:
            return
        if self.wishes.selected.messages:
            view = left.view
            picture.rows[left.mailbox] = picture.rows[left.mailbox]._replace(
                uidnext=view.uidnext, messages=len(view), modseq=view.told_modseq
            )
        else:
            self._passed_over.add((left.account, left.mailbox))
        self._hints.setdefault(left.account, set()).add(left.mailbox)
        self._ask()

    def tells_messages(self, change: Change) -> bool:
        """Whether messages of a mailbox count: not of the selected one."""
        place = (change.picture.account, change.number)
        selected = self._selected
        if selected is not None and (selected.account, selected.mailbox) == place:
            return False
        return place not in self._passed_over

    # Looking

    async def news(self) -> News:
        """What changed since the last time. What cannot be read now is looked at later. Raises Refused
        NOTIFICATIONOVERFLOW."""
        hints, self._hints = self._hints, {}
        is_stale, self._is_stale = self._is_stale, False
        self._waits_since = None
        news = News()
        selected = self._selected
        if selected is not None:
            is_hinted = selected.mailbox in hints.get(selected.account, ())
            news.looks_at_selected = is_stale or is_hinted
        if not self.pictures:
            return news
        if is_stale or acl.ANYONE in hints or metadata.ACCOUNT in hints.get(self._account, ()):
            await self._look_around(news)
        if is_stale:
            await self._look_at_all(news)
        else:
            for account, numbers in hints.items():
                picture = self.pictures.get(account)
                if picture is not None:
                    await self._try(look_at(self._store, picture, numbers, news.changes))
                    await self._connection.pause()
        self._ensure_bounded()
        return news

    def told(self) -> None:
        """The client knows the news."""
        self._passed_over.clear()

    async def _try(self, look: Coroutine[Any, Any, None]) -> None:
        try:
            await look
        except Unavailable as failure:
            log_unseen(self._store, self._connection.id, failure)
            self._is_stale = True

    async def _look_at_all(self, news: News) -> None:
        for picture in list(self.pictures.values()):
            await self._try(look_at_all(self._store, picture, news.changes, self._connection.pause))

    async def _look_around(self, news: News) -> None:
        """What is subscribed to, and whose mailboxes there are."""
        await self._try(self._read_subscriptions(news))
        reaches = self.wishes.reaches
        sharers = self._store.directory.sharers(self._account)
        owners = {owner.id: owner for owner in sharers if reaches(owner.address, self.subscribed)}
        if len(owners) > MOST_OWNERS:
            raise _overflow()
        for account, picture in list(self.pictures.items()):
            if picture.owner is not None and account not in owners:
                forget(picture, news.changes)
                del self.pictures[account]
        eyes = Eyes(self._account, sees_entries=Events.METADATA in self.wishes.all)
        new = [
            Picture(account, owner, eyes)
            for account, owner in owners.items()
            if account not in self.pictures
        ]
        self.pictures.update((picture.account, picture) for picture in new)
        self._listen()
        for picture in new:
            # Who shared something before is only new to this watch.
            changes = news.changes if picture.account not in self._sharers else []
            await self._try(look_at_all(self._store, picture, changes, self._connection.pause))
        self._sharers = {owner.id for owner in sharers}

    async def _read_subscriptions(self, news: News) -> None:
        names = await self._store.read(self._account, mailboxes.subscriptions)
        subscribed = frozenset(names)
        news.subscriptions |= self.subscribed ^ subscribed
        self.subscribed = subscribed

    def _ensure_bounded(self) -> None:
        every = [picture.rows for picture in self.pictures.values()]
        entries = 0
        if self.wishes.all & (Events.METADATA | Events.SERVER):
            entries = sum(len(row.entries) for rows in every for row in rows.values())
        mailboxes = max(sum(map(len, every)), len(self.without_access))
        if mailboxes > MOST_MAILBOXES or entries > MOST_ENTRIES:
            raise _overflow()


def _overflow() -> Refused:
    return Refused("there is too much to be told of", "NOTIFICATIONOVERFLOW")
