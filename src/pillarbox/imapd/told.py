"""What IMAP sessions tell the trace: what becomes of messages that are in a mailbox."""

from collections.abc import Sequence

from pillarbox.core.flags import SYSTEM_FLAG_TEXT
from pillarbox.imap.syntax_fetch import FetchItem
from pillarbox.imapd.client import Client
from pillarbox.imapd.places import Place
from pillarbox.store.appending import Append, Appended
from pillarbox.store.messages import Ranges
from pillarbox.trace.events import Copied, Expunged, Flagged, Uploaded, place_of
from pillarbox.trace.message_id import find_message_id

MOST_RENAMED = 1000
"""Runs of UIDs that a RENAME of INBOX tells of."""


def gives_body(item: FetchItem) -> bool:
    """Whether an item is what people read, and not only what stands in a list of messages."""
    section = item.section
    return section is not None and section.text in ("", "TEXT") and "SIZE" not in item.name


def tell_fetched(client: Client, ranges: Ranges) -> None:
    """The client got the bodies of messages in the selected mailbox."""
    recorder = client.context.store.recorder
    if recorder.is_on:
        recorder.fetched(client.connection.introduce(), selected_place(client), ranges)


def tell_flags(
    client: Client, ranges: Ranges, mode: str, system: int, keywords: Sequence[bytes]
) -> None:
    """Flags were changed in the selected mailbox."""
    recorder = client.context.store.recorder
    if recorder.is_on:
        flags = SYSTEM_FLAG_TEXT[system].decode("ascii").split()
        flags += [name.decode("utf-8", "replace") for name in keywords]
        connection, place = client.connection.introduce(), selected_place(client)
        recorder.add_parts(ranges, lambda part: Flagged(connection, place, part, mode, flags))


def tell_copied(
    client: Client, sources: Ranges, place: Place, target: str, first: int, *, moved: bool
) -> None:
    """Messages of the selected mailbox are in another one (a place), under UIDs from `first` on, in the same order;
    `sources` has just those that were copied."""
    recorder = client.context.store.recorder
    if not recorder.is_on:
        return
    connection, source, name = (
        client.connection.introduce(),
        selected_place(client),
        "/".join(place.name),
    )

    def make(part: list[tuple[int, int]]) -> Copied:
        nonlocal first
        start, first = first, first + sum(last - start + 1 for start, last in part)
        return Copied(connection, source, part, target, name, start, moved)

    recorder.add_parts(sources, make)


def tell_renamed(client: Client, moved: Ranges, places: Sequence[str], new: Place) -> None:
    """Messages of INBOX, the first of `places`, are in the other one, under the UIDs that they had."""
    recorder = client.context.store.recorder
    if recorder.is_on:
        connection, name = client.connection.introduce(), "/".join(new.name)
        for span in moved[:MOST_RENAMED]:
            recorder.add(Copied(connection, places[0], [span], places[1], name, span[0], True))


def tell_expunged(client: Client, place: str, ranges: Ranges, how: str) -> None:
    """Messages are gone from a mailbox."""
    recorder = client.context.store.recorder
    if recorder.is_on:
        connection = client.connection.introduce()
        recorder.add_parts(ranges, lambda part: Expunged(connection, place, part, how))


def tell_uploaded(
    client: Client, place: Place, items: Sequence[Append], done: Sequence[Appended]
) -> None:
    """Messages were put into a mailbox by the client."""
    recorder = client.context.store.recorder
    if not recorder.is_on:
        return
    connection = client.connection.introduce()
    for item, appended in zip(items, done, strict=True):
        recorder.add(
            Uploaded(
                connection,
                place_of(place.account, appended.mailbox, appended.uidvalidity),
                "/".join(place.name),
                appended.uid,
                find_message_id(item.content.header),
                item.size,
            )
        )


def selected_place(client: Client) -> str:
    """The selected mailbox, as the trace knows it."""
    selected = client.selected
    return place_of(selected.account, selected.mailbox, selected.uidvalidity)
