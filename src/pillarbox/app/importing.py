"""Puts old mail, of a Maildir (`app.maildir`) or an mbox (`app.mbox`), into an account, while no server runs.

A mailbox that has as many messages with the same octets and moment of arrival as the old one gets none of them: so what
was interrupted is repeated, and adds what is missing. Each group of messages is durable before the next is read. Of
what cannot be taken it is told, and the rest goes on.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from pillarbox.app.maildir import find_folders
from pillarbox.app.mbox import find_mbox
from pillarbox.app.old_message import OldMailbox, OldMessage, shown, why
from pillarbox.core.dates import epoch_of
from pillarbox.core.errors import Failure, Refused
from pillarbox.imapd.places import OTHERS, is_foreign
from pillarbox.store import mailboxes, messages
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.mailboxes import Name, normal_name
from pillarbox.store.store import Store
from pillarbox.store.tx import Tx

MOST_AT_ONCE = 500
MOST_OCTETS_AT_ONCE = 8 << 20
"""Of one transaction; one more message may go beyond that."""

_USUAL = {
    "sent items": "Sent",
    "sent messages": "Sent",
    "deleted items": "Trash",
    "deleted messages": "Trash",
    "junk e-mail": "Junk",
    "spam": "Junk",
}
"""What other programs call the mailboxes that each account has here."""


def find_mailboxes(path: Path) -> list[OldMailbox]:
    """Those of a Maildir, its own first, or the one of an mbox; what is passed over has a problem. Blocks. Raises
    Refused where it is neither, OSError."""
    return find_folders(path) if path.is_dir() else [find_mbox(path)]


@dataclass(slots=True)
class Imported:
    """What became of the messages."""

    added: dict[str, int] = field(default_factory=dict)
    """Messages by mailbox."""
    present: int = 0
    """Messages that were there before."""
    hidden: int = 0
    """Messages that the old program kept, but showed to nobody."""
    left: list[tuple[str, str]] = field(default_factory=list)
    """(which message or folder, or what of it; why)"""
    is_full: bool = False
    """The account's quota took no more, so the rest was not tried."""


class _There:
    """The messages that a mailbox has, each of which stands for one old message."""

    def __init__(self, store: Store, account: int) -> None:
        self._store = store
        self._account = account
        self._contents: dict[tuple[int, int], list[int]] = {}
        """By size and moment of arrival, until one is asked for."""
        self._digests: dict[tuple[int, int], Counter[bytes]] = {}
        """The same from then on."""

    async def look_into(self, mailbox: int) -> None:
        self._contents = await self._store.read(
            self._account, lambda tx: messages.arrivals(tx, mailbox)
        )

    async def take(self, old: OldMessage) -> bool:
        """Whether a message that is like this one stood for none yet; it does now."""
        key = len(old.octets), epoch_of(old.internaldate)
        contents = self._contents.pop(key, None)
        if contents is not None:
            self._digests[key] = await self._store.read(
                self._account, lambda tx: Counter(messages.digest(tx, each) for each in contents)
            )
        digests = self._digests.get(key)
        own = sha256(old.octets).digest() if digests else b""
        if not digests or not digests[own]:
            return False
        digests[own] -= 1
        return True


def own_name(name: Name) -> Name:
    """Raises Refused for what cannot be made, or would not be seen."""
    name = normal_name(name)
    if any("\ud800" <= character <= "\udfff" for part in name for character in part):
        raise Refused("a mailbox name must be UTF-8")
    if is_foreign(name):
        raise Refused(
            f'below "{OTHERS}" stand mailboxes of other accounts; give it another place with --mailbox'
        )
    return name


class Import:
    """Into one account."""

    def __init__(
        self,
        store: Store,
        account: int,
        base: Name,
        most_octets: int,
        done: Imported,
        progress: Callable[[int], None],
    ) -> None:
        """Mail goes to `base`, folders of a Maildir below; those of INBOX beside it. `done` grows; `progress` is told
        octets that are done with."""
        self._base = base
        self._done = done
        self._store = store
        self._account = account
        self._most_octets = most_octets
        self._progress = progress

    async def add(self, old: OldMailbox) -> None:
        """All of a mailbox, which is made if it is missing; what is wrong with it is told. Raises Unavailable."""
        try:
            if old.problem:
                raise Refused(old.problem)
            await self._add(old, self._name_of(old))
        except Refused as refused:
            self._done.left.append((shown(old.path), refused.text))
        except OSError as error:
            self._done.left.append((shown(old.path), why(error)))

    def _name_of(self, old: OldMailbox) -> Name:
        if self._base != ("INBOX",) or not old.name:
            return own_name((*self._base, *old.name))
        if len(old.name) == 1:
            return own_name((_USUAL.get(old.name[0].lower(), old.name[0]),))
        return own_name(old.name)

    async def _add(self, old: OldMailbox, name: Name) -> None:
        mailbox = await self._store.write(self._account, lambda tx: _ensure_mailbox(tx, name))
        there = _There(self._store, self._account)
        await there.look_into(mailbox)
        full_name = "/".join(name)
        self._done.added.setdefault(full_name, 0)
        group: list[tuple[OldMessage, Append]] = []
        octets = 0
        try:
            for message in old.messages(self._most_octets):
                await asyncio.sleep(0)  # where Ctrl-C is noticed
                if message.is_hidden:
                    self._done.hidden += 1
                    continue
                if message.problem:
                    self._done.left.append((message.where, message.problem))
                    continue
                if await there.take(message):
                    self._done.present += 1
                    self._progress(len(message.octets))
                    continue
                item = self._item(mailbox, message)
                group.append((message, item))
                octets += item.size
                if len(group) >= MOST_AT_ONCE or octets >= MOST_OCTETS_AT_ONCE:
                    await self._put(full_name, group)
                    group, octets = [], 0
                if self._done.is_full:
                    return
        except OSError:  # an mbox that cannot be read any further
            await self._put(full_name, group)
            raise
        await self._put(full_name, group)

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
        putting = asyncio.get_running_loop().create_task(
            self._store.append_all(self._account, [item for _, item in group])
        )
        try:
            await asyncio.shield(putting)
        except asyncio.CancelledError:
            with suppress(Failure):
                await putting  # it is done all the same, and told
                self._done.added[mailbox] += len(group)
            raise
        except Refused as refused:
            if len(group) == 1:
                await self._put_otherwise(mailbox, *group[0], refused)
                return
            for one in group:
                if not self._done.is_full:
                    await self._put(mailbox, [one])
            return
        self._done.added[mailbox] += len(group)
        self._progress(sum(item.size for _, item in group))

    async def _put_otherwise(
        self, mailbox: str, message: OldMessage, item: Append, refused: Refused
    ) -> None:
        """Better without its keywords than not at all."""
        if refused.code == "LIMIT" and item.keywords:
            self._done.left.append((f"{message.where}, its keywords", refused.text))
            await self._put(mailbox, [(message, replace(item, keywords=()))])
            return
        self._done.left.append((message.where, refused.text))
        most = item.quota.octets if item.quota else None
        fits_never = most is not None and item.size > most
        self._done.is_full = refused.code == "OVERQUOTA" and not fits_never


def _ensure_mailbox(tx: Tx, name: Name) -> int:
    found = mailboxes.find(tx, name)
    if found is None:
        found = mailboxes.create(tx, name)
        mailboxes.subscribe(tx, name)
    return found.id
