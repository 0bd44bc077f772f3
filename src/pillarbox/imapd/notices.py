"""What a client with NOTIFY is told of other mailboxes than the selected one: LIST, STATUS and METADATA (RFC 5465 §5).

Events that need rights: all of them need "l" and "r" (§5).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pillarbox.imap import responses
from pillarbox.imapd.client import Client
from pillarbox.imapd.commands.list import Names, parents_of, read_shared
from pillarbox.imapd.extensions.metadata import SPECIAL_USE
from pillarbox.imapd.names import to_wire
from pillarbox.imapd.picture import Change, Picture
from pillarbox.imapd.places import is_foreign
from pillarbox.imapd.watch import News, Watch
from pillarbox.imapd.wishes import Events
from pillarbox.store.mailboxes import Name
from pillarbox.store.standing import NO_ENTRIES, Standing

NOTICES_A_SLICE = 200
"""Changes that are looked at, or told, in one go."""


@dataclass(slots=True)
class _Listed:
    """A LIST response. `tells_existence`: also that there is no such mailbox (any more)."""

    old_name: Name | None = None
    has_access: bool = True
    tells_existence: bool = True


async def tell(client: Client, watch: Watch, news: News) -> None:
    """Tell of changes what the client wants to know."""
    notices = _Notices(client, watch)
    told = 0
    for name, listed in (await notices.listed(news)).items():
        await notices.tell_name(name, listed)
        told += 1
        if told % NOTICES_A_SLICE == 0:
            await client.pause()
    for change in news.changes:
        notices.tell_messages(change)
        notices.tell_entries(change)
        told += 1
        if told % NOTICES_A_SLICE == 0:
            await client.pause()


async def tell_all(client: Client, watch: Watch, *, status: bool) -> None:
    """At NOTIFY SET (RFC 5465 §3.1): what may not be read of what was asked for, and with `status` how the others
    stand."""
    notices = _Notices(client, watch)
    told = 0
    for picture in list(watch.pictures.values()):
        for number, row in list(picture.rows.items()):
            if not number:
                continue
            await notices.tell_first(Change(picture, number, None, row), status=status)
            told += 1
            if told % NOTICES_A_SLICE == 0:
                await client.pause()


class _Notices:
    """Of one look."""

    __slots__ = ("_client", "_names", "_watch")

    def __init__(self, client: Client, watch: Watch) -> None:
        self._client = client
        self._watch = watch
        self._names: Names | None = None

    def _events(self, name: Name) -> Events:
        watch = self._watch
        return watch.wishes.events(name, is_subscribed=name in watch.subscribed)

    # LIST

    async def listed(self, news: News) -> dict[Name, _Listed]:
        """Names to be told of, in order."""
        found: dict[Name, _Listed] = {}
        renamed: dict[Name, Name] = {}
        changes = [change for change in news.changes if change.number]
        changes.sort(key=lambda change: len(change.old.name) if change.old else 0)
        for number, change in enumerate(changes, 1):
            old, new = change.old, change.new
            if old is not None and new is not None and old.name != new.name:
                self._list_renamed(change.picture, old, new, found, renamed)
            elif old is None or new is None:
                self._list_made_or_gone(change, found)
            self._list_access(change, found)
            if number % NOTICES_A_SLICE == 0:
                await self._client.pause()
        for name in sorted(news.subscriptions):
            was_subscribed = name not in self._watch.subscribed
            events = self._watch.wishes.events(name, is_subscribed=True) if was_subscribed else 0
            if Events.SUBSCRIPTION in Events(events) | self._events(name):
                found.setdefault(name, _Listed())
        return dict(sorted(found.items()))

    def _list_renamed(
        self,
        picture: Picture,
        old: Standing,
        new: Standing,
        found: dict[Name, _Listed],
        renamed: dict[Name, Name],
    ) -> None:
        """RFC 5465 §5.4: what is below a mailbox goes with it, without a word."""
        was, name = picture.name(old), picture.name(new)
        if Events.NAME not in self._events(was) | self._events(name):
            return
        for depth in range(1, len(was)):
            moved = renamed.get(was[:depth])
            if moved is not None and moved + was[depth:] == name:
                return
        renamed[was] = name
        found[name] = _Listed(old_name=was)

    def _list_made_or_gone(self, change: Change, found: dict[Name, _Listed]) -> None:
        """RFC 5465 §5.4: the one above it is affected, too."""
        row = change.new or change.old
        assert row is not None
        name = change.picture.name(row)
        for affected in (name, name[:-1]):
            if affected and Events.NAME in self._events(affected):
                found.setdefault(affected, _Listed())

    def _list_access(self, change: Change, found: dict[Name, _Listed]) -> None:
        """RFC 5465 §3.1, §5.9: access to mailboxes of others that comes and goes."""
        if change.picture.owner is None:
            return
        row = change.new or change.old
        assert row is not None
        name = change.picture.name(row)
        if not self._events(name):
            return
        without_access = self._watch.without_access
        if change.new is not None and "r" in change.new.rights:
            if name in without_access:
                without_access.discard(name)
                found.setdefault(name, _Listed())
        elif change.is_revoked or change.new is not None:
            had_access = change.old is not None and "r" in change.old.rights
            if had_access or (change.new is not None and name not in without_access):
                without_access.add(name)
                is_there = found.setdefault(name, _Listed(tells_existence=False))
                is_there.has_access = False
        else:
            without_access.discard(name)

    async def tell_name(self, name: Name, listed: _Listed) -> None:
        """One LIST response."""
        if self._names is None or (is_foreign(name) and not self._names.shared):
            self._names = await self._read_names(with_shared=is_foreign(name))
        client = self._client
        separator, utf8 = client.context.separator, client.engine.utf8
        words = [] if listed.has_access else [b"\\NoAccess"]
        if listed.tells_existence or self._names.exists(name):
            words = self._names.attributes(name, extended=True) + words
        extended = b""
        if listed.old_name is not None:
            extended = responses.oldname(to_wire(listed.old_name, separator), utf8)
        text = to_wire(name, separator)
        client.engine.send(responses.listing(words, separator, text, extended=extended, utf8=utf8))

    async def _read_names(self, *, with_shared: bool) -> Names:
        """What LIST tells of names."""
        client = self._client
        rows = self._watch.pictures[client.account.id].rows
        special_uses = {row.name: row.special_use for number, row in rows.items() if number}
        await client.pause()
        shared = await read_shared(client) if with_shared else {}
        parents = await parents_of(client, (*special_uses, *shared))
        return Names(special_uses, self._watch.subscribed, shared, parents)

    # STATUS

    def tell_messages(self, change: Change) -> None:
        """How another mailbox stands, where that is wanted and is another way (RFC 5465 §5.1 to §5.3)."""
        old, new = change.old, change.new
        if new is None or not change.number or "r" not in new.rights:
            return
        if not self._watch.tells_messages(change):
            return
        events = self._events(change.picture.name(new))
        if Events.MESSAGES not in events:
            return
        if old is None or (
            old.name != new.name and Events.MESSAGES not in self._events(change.picture.name(old))
        ):
            is_unknown = new.uidnext > 1
        elif "r" not in old.rights:
            return
        else:
            is_unknown = False
        # RFC 5465 §5.1: the UIDVALIDITY of the name is another one
        is_another = Events.FLAGS in events and (old is None or old.name != new.name)
        if is_unknown or is_another:
            self._tell_status(change.picture, new, self._first_items(events))
            return
        if old is None:
            return
        items: list[str] = []
        if (old.uidnext, old.messages) != (new.uidnext, new.messages):
            items = ["UIDNEXT", "MESSAGES"]
            if self._client.modes.condstore:
                items.append("HIGHESTMODSEQ")
        elif Events.FLAGS in events and old.modseq != new.modseq:
            if self._client.modes.condstore:
                items = ["UIDVALIDITY", "HIGHESTMODSEQ"]
            elif old.unseen != new.unseen:
                items = ["UIDVALIDITY"]
        if items and Events.FLAGS in events and old.unseen != new.unseen:
            items.append("UNSEEN")
        if items:
            self._tell_status(change.picture, new, items)

    def _first_items(self, events: Events) -> list[str]:
        """RFC 5465 §3.1, §5.1."""
        items = ["MESSAGES", "UIDNEXT", "UIDVALIDITY"]
        if Events.FLAGS in events:
            return [*items, "UNSEEN", "HIGHESTMODSEQ"]
        return [*items, "HIGHESTMODSEQ"] if self._client.modes.condstore else items

    def _tell_status(self, picture: Picture, row: Standing, items: Iterable[str]) -> None:
        values = {
            "MESSAGES": row.messages,
            "UIDNEXT": row.uidnext,
            "UIDVALIDITY": row.uidvalidity,
            "UNSEEN": row.unseen,
            "HIGHESTMODSEQ": row.modseq,
        }
        client = self._client
        name = to_wire(picture.name(row), client.context.separator)
        told = {item: values[item] for item in items}
        client.engine.send(responses.status(name, told, client.engine.utf8))

    async def tell_first(self, change: Change, *, status: bool) -> None:
        """Of one mailbox, at NOTIFY SET."""
        row, picture = change.new, change.picture
        assert row is not None
        name = picture.name(row)
        events = self._events(name)
        if not events:
            return
        if "r" not in row.rights:
            self._watch.without_access.add(name)
            await self.tell_name(name, _Listed(has_access=False))
        elif status and Events.MESSAGES in events and self._watch.tells_messages(change):
            self._tell_status(picture, row, self._first_items(events))

    # METADATA

    def tell_entries(self, change: Change) -> None:
        """Names of the annotations that changed (RFC 5465 §5.6, §5.7)."""
        old, new = change.old, change.new
        if new is None or "r" not in new.rights:
            return
        if old is None or "r" not in old.rights:
            if change.picture.owner is not None:
                return  # from now on
            old = new._replace(entries=NO_ENTRIES)
        client = self._client
        name = change.picture.name(new) if change.number else ()
        wanted = self._events(name) if name else self._watch.wishes.all
        if (Events.METADATA if name else Events.SERVER) not in wanted:
            return
        entries = sorted(
            entry
            for entry in {*old.entries, *new.entries}
            if old.entries.get(entry) != new.entries.get(entry)
        )
        if old.special_use != new.special_use:
            entries.append(SPECIAL_USE)
        if entries:
            text = to_wire(name, client.context.separator) if name else ""
            client.engine.send(responses.metadata_changed(text, entries, client.engine.utf8))
