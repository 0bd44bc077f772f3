"""The story of a message, or of a session that brought none: what belongs together of all that was recorded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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

MOST_CONNECTIONS = 60
"""Of one client that are looked at, the latest."""
MOST_MOVES = 50
"""Mailboxes that a message is followed through."""

Connection = tuple[str, str]
"""The run and the id."""


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
    """`stories` in order of time; `more`: how many older ones there are."""

    stories: list[Story]
    more: int


def find_stories(reader: TraceReader, wanted: Wanted, *, since: int = 0, most: int = 20) -> Found:
    """The latest stories that have to do with what is wanted, at most so many, each told whole; of those that something
    happened in from `since` on (microseconds since 1970)."""
    seeds = [
        entry for entry in reader.find([wanted.needle], since=since) if wanted.fits(entry.event)
    ]
    if wanted.kind is Kind.CLIENT:
        seeds = _all_of(reader, seeds)
    latest: dict[object, Entry] = {}
    for entry in seeds:
        for key in _keys_of(entry, wanted):
            latest[key] = entry
    keys = sorted(latest, key=lambda key: latest[key].at)
    chosen = keys[max(0, len(keys) - most) :]
    stories = _tell(reader, chosen, seeds)
    stories = [story for story in stories if story.entries]
    stories.sort(key=lambda story: story.at)
    return Found(stories, len(keys) - len(chosen))


def _all_of(reader: TraceReader, seeds: Sequence[Entry]) -> list[Entry]:
    """All that happened on the latest connections of these."""
    connections = list(dict.fromkeys(entry.connection for entry in reversed(seeds)))
    connections = [each for each in connections if each[1]][:MOST_CONNECTIONS]
    found = reader.find([number for _, number in connections], whole=True)
    kept = set(connections)
    others = [entry for entry in seeds if not entry.connection[1]]
    return sorted(
        [*others, *(entry for entry in found if entry.connection in kept)],
        key=lambda entry: entry.at,
    )


def _keys_of(entry: Entry, wanted: Wanted) -> list[object]:
    """The stories that an entry is a part of: a queue id, a spot, or a connection."""
    event = entry.event
    if wanted.kind is Kind.QUEUE_ID:
        return [wanted.text]
    if isinstance(event, Uploaded):
        return [(event.place, event.uid, entry.run)]
    if isinstance(event, Filed):
        return []
    ids = queue_ids_of(event)
    if ids:
        return list(ids)
    return [entry.connection] if isinstance(event, Refused | Login) else []


def _tell(reader: TraceReader, keys: Sequence[object], seeds: Sequence[Entry]) -> list[Story]:
    ids = [key for key in keys if isinstance(key, str)]
    by_id: dict[str, list[Entry]] = {queue_id: [] for queue_id in ids}
    for entry in reader.find(ids, whole=True) if ids else ():
        for queue_id in queue_ids_of(entry.event):
            if queue_id in by_id:
                by_id[queue_id].append(entry)
    stories = [Story(queue_id, entries) for queue_id, entries in by_id.items()]
    taken = _add_refused(reader, stories)
    for key in keys:
        if isinstance(key, tuple) and len(key) == 3:
            stories.append(Story("", [entry for entry in seeds if _is_upload(entry, key)]))
        elif isinstance(key, tuple):
            entries = [
                entry
                for entry in seeds
                if entry.connection == key
                and not isinstance(entry.event, Session | Identified | Accepted)
                and (entry.at, entry.run) not in taken
            ]
            if entries:
                stories.append(Story("", entries))
    _follow_all(reader, stories)
    _introduce_all(reader, stories)
    return stories


def _is_upload(entry: Entry, key: tuple[object, ...]) -> bool:
    event = entry.event
    return isinstance(event, Uploaded) and (event.place, event.uid, entry.run) == key


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
    known: dict[str, list[Entry]] = {}
    for story in stories:
        starts = _starts(story)
        places = {place for place, _ in starts}
        for _ in range(MOST_MOVES):
            new = places - known.keys()
            for place in new:
                known[place] = []
            for entry in reader.find(sorted(new), whole=True) if new else ():
                place = getattr(entry.event, "place", "")
                if place in new:
                    known[place].append(entry)
            relevant = sorted(
                (entry for place in places for entry in known[place]), key=lambda entry: entry.at
            )
            story.fate = follow(starts, relevant)
            came_to = {getattr(entry.event, "target", "") for entry in story.fate.entries} - {""}
            if came_to <= places:
                break
            places |= came_to


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
    for entry in reader.introductions({each for each in wanted if each[1]}):
        found.setdefault(entry.connection, []).append(entry)
    for story in stories:
        story.introductions = {
            entry.connection: found.get(entry.connection, []) for entry in _all_entries(story)
        }


def _all_entries(story: Story) -> Iterable[Entry]:
    yield from story.entries
    yield from story.fate.entries
