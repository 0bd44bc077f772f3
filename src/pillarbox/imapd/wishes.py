"""What a client wants to be told (RFC 5465 §6). Pure.

Groups of events are added up: what any group asks for of a mailbox is told. The selected mailbox is apart: of its
messages only the group for it counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntFlag

from pillarbox.imap.syntax_fetch import FetchItem
from pillarbox.imap.syntax_notify import EventGroup
from pillarbox.imapd.names import from_wire
from pillarbox.imapd.places import OTHERS, is_foreign
from pillarbox.store.mailboxes import INBOX_NAME, Name


class Events(IntFlag):
    """MessageNew and MessageExpunge only go together (RFC 5465 §5)."""

    NONE = 0
    MESSAGES = 1
    FLAGS = 2
    NAME = 4
    SUBSCRIPTION = 8
    METADATA = 16
    SERVER = 32


_EVENTS = {
    "MessageNew": Events.MESSAGES,
    "MessageExpunge": Events.MESSAGES,
    "FlagChange": Events.FLAGS,
    "MailboxName": Events.NAME,
    "SubscriptionChange": Events.SUBSCRIPTION,
    "MailboxMetadataChange": Events.METADATA,
    "ServerMetadataChange": Events.SERVER,
}


@dataclass(slots=True, frozen=True)
class OfSelected:
    """What is told of the selected mailbox: messages that come and go, changes of flags, `items` of each new message.
    `at_once`: what goes is told when it goes, not only when a command allows it."""

    messages: bool = True
    flags: bool = True
    items: tuple[FetchItem, ...] = ()
    at_once: bool = False


EVERYTHING = OfSelected()
"""As long as a client has not used NOTIFY (RFC 5465 §3.1)."""
NOTHING = OfSelected(messages=False, flags=False)


@dataclass(slots=True)
class Wishes:
    """Those of one NOTIFY SET."""

    selected: OfSelected = NOTHING
    personal: Events = Events.NONE
    inboxes: Events = Events.NONE
    subscribed: Events = Events.NONE
    mailboxes: dict[Name, Events] = field(default_factory=dict)
    subtrees: dict[Name, Events] = field(default_factory=dict)
    all: Events = Events.NONE
    """What any mailbox but the selected one may have."""

    def events(self, name: Name, *, is_subscribed: bool) -> Events:
        """What is told of a name, whether or not there is such a mailbox."""
        events = self.mailboxes.get(name, Events.NONE)
        if not is_foreign(name):
            events |= self.personal
            if name == INBOX_NAME:
                events |= self.inboxes  # mail is delivered nowhere else
        if is_subscribed:
            events |= self.subscribed
        if self.subtrees:
            for depth in range(1, len(name) + 1):
                events |= self.subtrees.get(name[:depth], Events.NONE)
        return events

    def reaches(self, address: str, subscribed: Iterable[Name]) -> bool:
        """Whether mailboxes of another account may be meant."""
        top = (OTHERS, address)
        named = [*self.mailboxes, *self.subtrees, *(subscribed if self.subscribed else ())]
        return (OTHERS,) in self.subtrees or any(name[:2] == top for name in named)


def make_wishes(groups: Iterable[EventGroup], separator: str) -> Wishes:
    """What the groups of a command ask for together."""
    wishes = Wishes()
    for group in groups:
        events = Events.NONE
        for event in group.events:
            events |= _EVENTS[event]
        kind = group.source.kind
        if kind.startswith("selected"):
            messages, flags = Events.MESSAGES in events, Events.FLAGS in events
            wishes.selected = OfSelected(messages, flags, group.items, kind == "selected")
            continue
        wishes.all |= events
        match kind:
            case "personal":
                wishes.personal |= events
            case "inboxes":
                wishes.inboxes |= events
            case "subscribed":
                wishes.subscribed |= events
            case "mailboxes" | "subtree":
                names = wishes.mailboxes if kind == "mailboxes" else wishes.subtrees
                for text in group.source.mailboxes:
                    name = _as_stored(from_wire(text, separator))
                    names[name] = names.get(name, Events.NONE) | events
    return wishes


def _as_stored(name: Name) -> Name:
    return INBOX_NAME + name[1:] if name[0].upper() == "INBOX" else name
