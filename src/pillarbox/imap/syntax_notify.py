"""NOTIFY (RFC 5465 §8). What is said of mailboxes and events belongs together in groups."""

from collections.abc import Iterable
from dataclasses import dataclass

from pillarbox.core.errors import Refused, RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.syntax_fetch import FetchItem, parse_fetch_atts
from pillarbox.imap.syntax_multisearch import Source

EVENTS = (
    "MessageNew",
    "MessageExpunge",
    "FlagChange",
    "MailboxName",
    "SubscriptionChange",
    "MailboxMetadataChange",
    "ServerMetadataChange",
)
"""Those that there are here, as BADEVENT tells them."""

_NAMES = {name.upper().encode("ascii"): name for name in (*EVENTS, "AnnotationChange")}
_OF_MESSAGES = frozenset(("MessageNew", "MessageExpunge", "FlagChange", "AnnotationChange"))
_PAIR = frozenset(("MessageNew", "MessageExpunge"))
_SELECTED = frozenset((b"SELECTED", b"SELECTED-DELAYED"))
_PLAIN = frozenset((b"INBOXES", b"PERSONAL", b"SUBSCRIBED"))
_NAMED = frozenset((b"SUBTREE", b"MAILBOXES"))


@dataclass(slots=True)
class EventGroup:
    """`source.kind` may be "selected-delayed", too. `events` are names of EVENTS. `items` are to be told of each new
    message in the selected mailbox."""

    source: Source
    events: frozenset[str]
    items: tuple[FetchItem, ...] = ()


@dataclass(slots=True)
class Notify:
    """Without groups: NOTIFY NONE."""

    groups: tuple[EventGroup, ...] = ()
    tells_status: bool = False


def parse_notify(cursor: Cursor) -> Notify:
    """Raises Refused BADEVENT for a command that is right but for events that there are not here."""
    cursor.space()
    match cursor.word("SET or NONE"):
        case b"NONE":
            return Notify()
        case b"SET":
            pass
        case _:
            raise RemoteError("Expected SET or NONE")
    start = cursor.position
    tells_status = cursor.text[start : start + 8].upper() == b" STATUS "
    if tells_status:
        cursor.position += 7
    cursor.space()
    groups = tuple(cursor.spaced(lambda: _group(cursor)))
    cursor.end()
    if sum(group.source.kind.startswith("selected") for group in groups) > 1:
        # RFC 5465 §6.1
        raise RemoteError("Only one group is for the selected mailbox")
    if not all(group.events.issubset(EVENTS) for group in groups):
        # RFC 5465 §3.1: MUST be NO
        raise Refused("Some of these events are not supported", f"BADEVENT ({' '.join(EVENTS)})")
    return Notify(groups, tells_status)


def _group(cursor: Cursor) -> EventGroup:
    cursor.require(b"(", "a group of events")
    source = _source(cursor)
    cursor.space()
    items: list[FetchItem] = []
    events: list[str] = []
    if cursor.text.startswith(b"(", cursor.position):
        events = cursor.parenthesised(lambda: _event(cursor, items), "a list of events")
    elif cursor.word("a list of events or NONE") != b"NONE":
        raise RemoteError("Expected a list of events or NONE")
    cursor.require(b")", '")"')
    _check(source, events, has_items=bool(items))
    return EventGroup(source, frozenset(events), tuple(dict.fromkeys(items)))


def _source(cursor: Cursor) -> Source:
    kind = cursor.word("which mailboxes")
    word = kind.decode("ascii").lower()
    if kind in _SELECTED or kind in _PLAIN:
        return Source(word)
    if kind not in _NAMED:
        raise RemoteError("Unknown kind of mailboxes")
    cursor.space()
    if cursor.text.startswith(b"(", cursor.position):
        names = cursor.parenthesised(cursor.mailbox, "a list of mailboxes")
    else:
        names = [cursor.mailbox()]
    return Source(word, tuple(names))


def _event(cursor: Cursor, items: list[FetchItem]) -> str:
    word = cursor.word("an event")
    if word == b"MESSAGENEW" and cursor.skip(b" ("):
        cursor.position -= 1
        items += parse_fetch_atts(cursor)
    return _NAMES.get(word) or word.decode("ascii")


def _check(source: Source, events: Iterable[str], *, has_items: bool) -> None:
    """RFC 5465 §5, §6.1, §8. Raises RemoteError."""
    known = set(events)
    if known & _OF_MESSAGES and not known >= _PAIR:
        raise RemoteError("Events of messages need MessageNew and MessageExpunge")
    if source.kind.startswith("selected"):
        if known & set(EVENTS) - _OF_MESSAGES:
            raise RemoteError("Only events of messages are for the selected mailbox")
    elif has_items:
        raise RemoteError("Data items are told of the selected mailbox only")
