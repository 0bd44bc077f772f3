"""The story of a message, or of a session that brought none: what belongs together of all that was recorded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pillarbox.core.ids import time_of_queue_id
from pillarbox.trace.events import (
    Accepted,
    Filed,
    Identified,
    Login,
    Refused,
    Session,
    Uploaded,
)
from pillarbox.trace.fate import Fate, Spot, follow
from pillarbox.trace.reader import Entry, TraceReader
from pillarbox.trace.wanted import Kind, Wanted, queue_ids_of

MARGIN_US = 60 * 1_000_000
"""A clock may have been set back so far."""
LONGEST_SESSION_US = 86400 * 1_000_000
"""How long before something happened it is looked for who that was."""
MOST_MOVES = 50
"""Mailboxes that a message is followed through."""

Connection = tuple[str, str]
"""The run and the id."""

Key = str | tuple[str | int, ...]
"""A queue id, a connection, or a connection with place and UID of what was uploaded on it."""


@dataclass(slots=True)
class Who:
    """Who was on a connection at a moment, as far as is known."""

    session: Session | None = None
    login: Login | None = None
    """The last one that worked."""
    name: str = ""
    """What an IMAP client calls itself."""


@dataclass(slots=True)
class Story:
    """Its entries are in order of time."""

    queue_id: str = ""
    """"": it is of a message that a client stored by itself, or of a session."""
    entries: list[Entry] = field(default_factory=list)
    fate: Fate = field(default_factory=Fate)
    introductions: dict[Connection, list[Entry]] = field(default_factory=dict)
    """Of all connections that have to do with it."""

    @property
    def at(self) -> int:
        return self.entries[0].at if self.entries else 0

    def who(self, entry: Entry) -> Who:
        """Who was on the connection of an entry, then."""
        who = Who()
        for said in self.introductions.get(entry.connection, ()):
            event = said.event
            if isinstance(event, Session) and (who.session is None or said.at <= entry.at):
                who.session = event
            elif said.at <= entry.at and isinstance(event, Login) and event.result == "ok":
                who.login = event
            elif said.at <= entry.at and isinstance(event, Identified):
                who.name = event.name
        return who


@dataclass(slots=True)
class Found:
    """`stories` in order of time; `has_more`: there are older ones; `left_out`: so many messages, or sessions of a
    client, that nobody asked for."""

    stories: list[Story]
    has_more: bool
    left_out: int


def find_stories(
    reader: TraceReader,
    wanted: Wanted,
    *,
    since: int = 0,
    most: int = 20,
    leave_out: Callable[[Accepted | Login], bool] = lambda _event: False,
) -> Found:
    """The latest stories that have to do with what is wanted, at most so many, each told whole; of those that something
    happened in from `since` on (microseconds since 1970). Of an address or domain without the messages, and of a client
    without the sessions by their logins, that `leave_out` says."""
    if wanted.kind is Kind.QUEUE_ID:
        since = max(since, time_of_queue_id(wanted.text) - MARGIN_US)
        keys: dict[Key, int] = {wanted.text: since}
        has_more, left_out = False, 0
    else:
        keys, has_more, left_out = _latest_keys(reader, wanted, since, most, leave_out)
    stories = [story for story in _tell(reader, keys, wanted) if story.entries]
    stories.sort(key=lambda story: story.at)
    return Found(stories, has_more, left_out)


def _latest_keys(
    reader: TraceReader,
    wanted: Wanted,
    since: int,
    most: int,
    leave_out: Callable[[Accepted | Login], bool],
) -> tuple[dict[Key, int], bool, int]:
    """The latest stories, and since when to look for what belongs to them; whether there are more; and how many
    messages and sessions were left out."""
    keys: dict[Key, int] = {}
    left_out = 0
    sessions: set[Key] = set()
    """Those that were."""
    for entry in reader.latest(wanted.needle, since=since):
        event = entry.event
        if not wanted.fits(event):
            continue
        if isinstance(event, Accepted) and not wanted.names(event) and leave_out(event):
            left_out += 1
            continue
        if isinstance(event, Login) and leave_out(event):
            sessions.add(entry.connection)
            keys.pop(entry.connection, None)
            continue
        for key in _keys_of(entry):
            if key in sessions:
                continue
            if key not in keys and len(keys) >= most:
                return keys, True, left_out + len(sessions)
            keys[key] = min(entry.at, keys.get(key, entry.at)) - MARGIN_US
    return keys, False, left_out + len(sessions)


def _keys_of(entry: Entry) -> list[Key]:
    """The stories that an entry is a part of: a queue id, an upload, or a connection."""
    event = entry.event
    if isinstance(event, Uploaded):
        return [(entry.run, event.connection, event.place, event.uid)]
    if isinstance(event, Filed):
        return []
    ids: list[Key] = [*queue_ids_of(event)]
    if ids:
        return ids
    return [entry.connection] if isinstance(event, Refused | Login | Session) else []


def _tell(reader: TraceReader, keys: Mapping[Key, int], wanted: Wanted) -> list[Story]:
    ids = {key: since for key, since in keys.items() if isinstance(key, str)}
    if wanted.kind is Kind.CLIENT:  # its mail came on its connections
        connections = {key: at for key, at in keys.items() if not isinstance(key, str)}
        for entry in _on_connections(reader, connections):
            if isinstance(entry.event, Accepted):
                ids[entry.event.queue_id] = entry.at - MARGIN_US
    stories = [Story(queue_id, entries) for queue_id, entries in _by_id(reader, ids).items()]
    taken = _add_refused(reader, stories)
    others = {key: since for key, since in keys.items() if not isinstance(key, str)}
    told = {key: Story() for key in others}
    for entry in _on_connections(reader, others):
        for key, story in told.items():
            if (entry.at, entry.run) not in taken and _belongs(entry, key, wanted):
                story.entries.append(entry)
    stories += [
        story
        for story in told.values()
        if any(isinstance(entry.event, Refused | Login | Uploaded) for entry in story.entries)
    ]
    _follow_all(reader, stories)
    _introduce_all(reader, stories)
    return stories


def _by_id(reader: TraceReader, ids: Mapping[str, int]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {queue_id: [] for queue_id in ids}
    since = min(ids.values(), default=0)
    for entry in reader.find(list(ids), whole=True, since=since):
        for queue_id in queue_ids_of(entry.event):
            if queue_id in found:
                found[queue_id].append(entry)
    return found


def _on_connections(reader: TraceReader, keys: Mapping[tuple[str | int, ...], int]) -> list[Entry]:
    """All that happened on connections (or with an upload on them)."""
    numbers = [str(key[1]) for key in keys]
    found = reader.find(
        numbers, whole=True, since=min(keys.values(), default=0) - LONGEST_SESSION_US
    )
    kept = {(str(key[0]), str(key[1])) for key in keys}
    return [entry for entry in found if entry.connection in kept]


def _belongs(entry: Entry, key: tuple[str | int, ...], wanted: Wanted) -> bool:
    """Whether something on a connection is a part of its story, or an upload is the one of the story."""
    event = entry.event
    if len(key) != 2:
        return key in _keys_of(entry)
    if entry.connection != key or isinstance(event, Session | Identified | Accepted):
        return False
    return wanted.kind is Kind.CLIENT or wanted.fits(event)


def _add_refused(reader: TraceReader, stories: Sequence[Story]) -> set[tuple[int, str]]:
    """What was refused while a message came, like one of its recipients, belongs to it; returns which that are."""
    messages = [
        (story, entry, entry.event)
        for story in stories
        for entry in story.entries
        if isinstance(entry.event, Accepted) and entry.event.connection
    ]
    if not messages:
        return set()
    began = min(event.began for _, _, event in messages)
    numbers = [event.connection for _, _, event in messages]
    refused: dict[Connection, list[Entry]] = {}
    for other in reader.find(numbers, whole=True, since=began):
        if isinstance(other.event, Refused):
            refused.setdefault(other.connection, []).append(other)
    taken = set()
    for story, entry, event in messages:
        during = [
            other
            for other in refused.get(entry.connection, ())
            if event.began <= other.at <= entry.at and other not in story.entries
        ]
        taken |= {(other.at, other.run) for other in during}
        story.entries = sorted([*story.entries, *during], key=lambda each: each.at)
    return taken


def _follow_all(reader: TraceReader, stories: Sequence[Story]) -> None:
    """All at once: each round looks for the mailboxes that messages came to in the last one."""
    known: dict[str, list[Entry]] = {}
    starts = [_starts(story) for story in stories]
    places = [{place for place, _ in spots} for spots in starts]
    since = min((story.at for story in stories if story.entries), default=0) - MARGIN_US
    for _ in range(MOST_MOVES):
        new = set().union(*places) - known.keys()
        if not new:
            break
        known.update({place: [] for place in new})
        for entry in reader.find(sorted(new), whole=True, since=since):
            place = getattr(entry.event, "place", "")
            if place in new:
                known[place].append(entry)
        for story, spots, own in zip(stories, starts, places, strict=True):
            relevant = sorted(
                (entry for place in own for entry in known[place]), key=lambda entry: entry.at
            )
            story.fate = follow(spots, relevant)
            own |= {getattr(entry.event, "target", "") for entry in story.fate.entries} - {""}


def _starts(story: Story) -> dict[Spot, str]:
    starts: dict[Spot, str] = {}
    for entry in story.entries:
        event = entry.event
        if isinstance(event, Filed):
            for queue_id, uid in event.messages:
                if queue_id == story.queue_id:
                    starts[event.place, uid] = event.mailbox
        elif isinstance(event, Uploaded):
            starts[event.place, event.uid] = event.mailbox
    return starts


def _introduce_all(reader: TraceReader, stories: Sequence[Story]) -> None:
    wanted = {entry.connection for story in stories for entry in _all_entries(story)}
    found: dict[Connection, list[Entry]] = {}
    since = min((story.at for story in stories if story.entries), default=0) - LONGEST_SESSION_US
    for entry in reader.introductions({each for each in wanted if each[1]}, since=since):
        found.setdefault(entry.connection, []).append(entry)
    for story in stories:
        story.introductions = {
            entry.connection: found.get(entry.connection, []) for entry in _all_entries(story)
        }


def _all_entries(story: Story) -> Iterable[Entry]:
    yield from story.entries
    yield from story.fate.entries
