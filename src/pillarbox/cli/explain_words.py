"""What was recorded, in words: one line for each thing that happened, and what it means."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from pillarbox.cli.common import one_line
from pillarbox.outbound.translate import translate
from pillarbox.smtp.reply import Reply
from pillarbox.trace.events import (
    Accepted,
    Attempt,
    Copied,
    Event,
    Expunged,
    Fetched,
    Filed,
    Flagged,
    HostFailed,
    Identified,
    Login,
    Noticed,
    Queued,
    Refused,
    Removed,
    Result,
    Session,
    Uploaded,
)
from pillarbox.trace.reader import Entry
from pillarbox.trace.story import Story, Who

MOST_NAMES = 20
"""Recipients that are named in a line."""

AccountName = Callable[[int], str]
"""The address of an account by its number."""

MailboxName = Callable[[str], str]
"""The name of a mailbox by its place (`trace.events.place_of`)."""


@dataclass(slots=True, frozen=True)
class Part:
    """Of an event that tells more than one thing, what one of them is made from; for programs."""

    name: str
    values: dict[str, Any]


@dataclass(slots=True)
class Moment:
    """Something that happened, for people: `what` in a word, `text` in a line, `more` in further ones."""

    at: int
    """Microseconds since 1970."""
    what: str
    text: str
    more: list[str]
    event: Event | Part
    """From which it was made."""


@dataclass(slots=True)
class Words:
    """Makes moments of entries."""

    name_of: AccountName
    mailbox_of: MailboxName

    def title(self, story: Story) -> str:
        """A line that says which message, or that it is a session."""
        for entry in story.entries:
            event = entry.event
            if isinstance(event, Accepted):
                recipients = ", ".join(f"<{name}>" for name, _ in event.recipients[:MOST_NAMES])
                message_id = f" {event.message_id}" if event.message_id else ""
                return one_line(
                    f"{event.queue_id}{message_id} from <{event.sender}> to {recipients}"
                )
        for entry in story.entries:
            event = entry.event
            if isinstance(event, Uploaded):
                return one_line(f"{event.message_id or 'A message'} in {self._place(event)}")
            if isinstance(event, Noticed) and event.report == story.queue_id:
                return one_line(f"{event.report}, a notice to <{event.to}>")
        if story.queue_id:
            return story.queue_id
        last = story.entries[-1]
        session = story.who(last).session
        if session is not None:
            return f"Session {session.connection} from {session.client} by {session.service}"
        if isinstance(last.event, Login):
            return (
                f"Session {last.event.connection} from {last.event.client} by {last.event.protocol}"
            )
        return "A session of a client that is not known"

    def moments(self, story: Story) -> list[Moment]:
        """In order of time."""
        found = [*self._connections(story)]
        for entry in story.entries:
            found += self._of_message(story, entry)
        seen: set[str] = set()
        for entry in story.fate.entries:
            for moment in self._of_fate(story, entry):
                if moment.what != "fetched" or moment.text not in seen:
                    found.append(moment)
                seen.add(moment.text)
        found.sort(key=lambda moment: moment.at)
        return found

    def whereabouts(self, story: Story) -> list[str]:
        """Where the message is now, as far as is known."""
        return [
            f"{self.name_of(int(place.split('.')[0]))}, {one_line(name)}, UID {uid}"
            for (place, uid), name in story.fate.now.items()
        ]

    # Who

    def _connections(self, story: Story) -> Iterator[Moment]:
        """Each connection on which the message came, with what was said before that."""
        last: dict[tuple[str, str], int] = {}
        for entry in story.entries:
            last[entry.connection] = entry.at
        for connection, end in last.items():
            known: Session | None = None
            for said in story.introductions.get(connection, ()):
                if said.at > end and not (isinstance(said.event, Session) and known is None):
                    continue
                if isinstance(said.event, Session):
                    yield from _session(said, said.event, known)
                    known = said.event
                elif said not in story.entries:
                    yield from self._of_message(story, said)

    def _by(self, who: Who) -> str:
        """Who did something to a message."""
        login, session = who.login, who.session
        parts = []
        if login is not None:
            by = f" (by {login.with_what})" if login.with_what else ""
            parts.append(f"{login.user}{by}")
        if session is not None:
            parts.append(f"from {session.client} by {session.service}")
        if who.name:
            parts.append(f"with {who.name}")
        return one_line(" ".join(parts)) or "a session that is not known"

    def _place(self, event: Filed | Uploaded) -> str:
        return f"{event.mailbox} of {self.name_of(int(event.place.split('.')[0]))}"

    # What

    def _of_message(self, story: Story, entry: Entry) -> Iterator[Moment]:
        event, at = entry.event, entry.at
        match event:
            case Login():
                yield _login(at, event)
            case Identified():
                yield Moment(at, "client", one_line(event.name), [], event)
            case Refused():
                yield _refused(at, event)
            case Accepted():
                yield from _accepted(at, event)
            case Filed():
                for queue_id, uid in event.messages:
                    if queue_id == story.queue_id:
                        text = f"in {self._place(event)}, UID {uid}; rule: all mail for an account"
                        yield Moment(at, "filed", text, [], event)
            case Uploaded():
                by = self._by(story.who(entry))
                text = (
                    f"in {self._place(event)}, UID {event.uid}, {event.size} octets, by IMAP APPEND"
                )
                yield Moment(at, "filed", one_line(text), [by], event)
            case Queued():
                yield from _queued(at, event)
            case HostFailed():
                said = _said(event.code, event.enhanced, event.text)
                yield Moment(at, "no session", one_line(f"{event.host}: {said}"), [], event)
            case Attempt():
                for result in event.results:
                    yield _result(at, event, result)
            case Removed():
                names = _names(event.recipients)
                more = ["by pillarbox queue remove: they get nothing, and the sender is not told"]
                yield Moment(at, "removed", one_line(f"from the queue: {names}"), more, event)
            case Noticed():
                yield _noticed(at, event, story.queue_id)
            case Flagged() | Fetched() | Copied() | Expunged():
                account = int(event.place.split(".")[0])
                count = sum(last - first + 1 for first, last in event.ranges)
                many = "one message" if count == 1 else f"{count} messages"
                many = "all messages" if count > 1 << 24 else many
                mailbox = self.mailbox_of(event.place)
                text = one_line(f"{many} in {mailbox} of {self.name_of(account)}")
                yield Moment(at, _verb(event), text, [], event)

    def _of_fate(self, story: Story, entry: Entry) -> Iterator[Moment]:
        event = entry.event
        by = self._by(story.who(entry))
        match event:
            case Flagged():
                sign = {"+": "set", "-": "removed", "=": "now only"}[event.mode]
                flags = " ".join(event.flags) or "none"
                yield Moment(entry.at, _verb(event), f"{flags} {sign} by {by}", [], event)
            case Fetched():
                yield Moment(event.began, "fetched", f"by {by}", [], event)
            case Copied():
                owner = self.name_of(int(event.target.split(".")[0]))
                to = one_line(f"to {event.mailbox} of {owner}")
                yield Moment(entry.at, _verb(event), f"{to} by {by}", [], event)
            case Expunged():
                yield Moment(entry.at, "expunged", f"({event.how}) by {by}", [], event)


def _verb(event: Flagged | Fetched | Copied | Expunged) -> str:
    match event:
        case Flagged():
            if event.mode != "-" and "\\Deleted" in event.flags:
                return "deleted"
            return "read" if event.mode != "-" and "\\Seen" in event.flags else "flags"
        case Fetched():
            return "fetched"
        case Copied():
            return "moved" if event.moved else "copied"
        case Expunged():
            return "expunged"


def _session(entry: Entry, session: Session, known: Session | None) -> Iterator[Moment]:
    """A connection, or what has changed on it since."""
    event = entry.event
    opened = session.opened or entry.at
    if known is None or known.client != session.client:
        through = f" through {session.proxy}" if session.proxy else ""
        text = f"from {session.client} port {session.port}{through} to {session.service} ({session.local})"
        yield Moment(opened if known is None else entry.at, "connection", text, [], event)
    if session.tls and (known is None or known.tls != session.tls):
        part = Part("tls", {"connection": session.connection, "tls": session.tls})
        yield Moment(opened + 1 if known is None else entry.at, "TLS", session.tls, [], part)
    if session.hello and (known is None or known.hello != session.hello):
        at = opened + 2 if known is None else entry.at
        part = Part("hello", {"connection": session.connection, "hello": session.hello})
        yield Moment(at, "hello", one_line(session.hello), [], part)


def _login(at: int, event: Login) -> Moment:
    by = f" by {event.mechanism}" if event.mechanism else ""
    text = f"{event.user}{by} over {event.protocol} from {event.client}"
    if event.result == "ok":
        more = [f"with {event.with_what}"] if event.with_what else []
        return Moment(at, "login", one_line(text), more, event)
    what = f" ({event.with_what})" if event.with_what else ""
    return Moment(at, "login failed", one_line(f"{text}: {event.result}{what}"), [], event)


def _refused(at: int, event: Refused) -> Moment:
    about = {
        "connection": "the connection",
        "command": event.why,
        "sender": f"sender <{event.sender}>",
        "recipient": f"recipient <{event.recipient}>",
        "message": f"the message from <{event.sender}>",
    }.get(event.what, event.what)
    said = _said(event.code, event.enhanced, event.text)
    more = []
    if event.what == "recipient":
        more.append(f"from <{event.sender}>")
    if event.what == "message" and event.recipient:
        more.append(f"to {event.recipient}")
    if event.message_id:
        more.append(f"Message-ID {event.message_id}")
    if event.why and event.what != "command":
        more.append(f"because {event.why}")
    return Moment(at, "refused", one_line(f"{about}: {said}"), list(map(one_line, more)), event)


def _names(addresses: Sequence[str]) -> str:
    """In a line."""
    names = ", ".join(f"<{address}>" for address in addresses[:MOST_NAMES])
    if len(addresses) > MOST_NAMES:
        names += f" and {len(addresses) - MOST_NAMES} others"
    return names


def _accepted(at: int, event: Accepted) -> Iterator[Moment]:
    user = f" by {event.user}" if event.user else ""
    part = Part("sender", {"sender": event.sender, "user": event.user})
    yield Moment(event.began, "sender", one_line(f"<{event.sender}>{user}"), [], part)
    found_by, missing = dict(event.found_by), dict(event.missing)
    for recipient, leads_to in event.recipients:
        by = f" by {found_by[recipient]}" if recipient in found_by else ""
        is_same = not leads_to or leads_to == [recipient.lower()]
        text = f"<{recipient}>" + ("" if is_same else f", which leads to {_names(leads_to)}{by}")
        lost = missing.get(recipient, [])
        part = Part(
            "recipient",
            {
                "recipient": recipient,
                "leads_to": leads_to,
                "found_by": found_by.get(recipient, ""),
                "missing": lost,
            },
        )
        more = [f"and to {_names(lost)}, which nobody has: no copy goes there"] if lost else []
        yield Moment(event.began + 1, "recipient", one_line(text), list(map(one_line, more)), part)
    message_id = f", Message-ID {event.message_id}" if event.message_id else ""
    text = f"as {event.queue_id}{message_id}, {event.size} octets"
    more = [*event.notes, *(f"not yet in the mailbox of {each}" for each in event.pending)]
    yield Moment(at, "accepted", one_line(text), list(map(one_line, more)), event)


def _queued(at: int, event: Queued) -> Iterator[Moment]:
    more = list(map(one_line, event.notes))
    if event.held:
        more.append(f"held: {event.held}; see pillarbox queue show {event.queue_id}")
    names = [f"<{address}> by way of {hop}" for address, hop in event.recipients[:MOST_NAMES]]
    if len(event.recipients) > MOST_NAMES:
        names.append(f"{len(event.recipients) - MOST_NAMES} others")
    yield Moment(at, "queued", one_line("for " + ", ".join(names)), more, event)


def _result(at: int, event: Attempt, result: Result) -> Moment:
    said = _said(result.code, result.enhanced, result.text)
    where = event.host or "no host"
    under = f" under {event.tls}" if event.tls else ""
    text = f"<{result.recipient}> at {where}{under}, attempt {result.attempt}: {said}"
    more = []
    if result.what != "delivered":
        if not result.from_peer:
            more.append("these are our words: the host said nothing of it")
        meaning = translate(Reply(result.code, result.enhanced, result.text))
        if meaning is not None:
            more += [meaning.cause.value, f"to do: {meaning.advice}"]
        if result.next_try:
            more.append(f"next try {show_time(result.next_try * 1_000_000)[:-5]}Z")
    return Moment(at, result.what, one_line(text), list(map(one_line, more)), event)


def _noticed(at: int, event: Noticed, queue_id: str) -> Moment:
    about = ", ".join(f"<{address}>" for address in event.recipients[:MOST_NAMES])
    what = "bounce" if event.action == "failed" else "notice"
    if event.report == queue_id:
        text = f"this is the {what} ({event.action}) about {event.queue_id}, {about}"
        return Moment(at, what, one_line(text), [f"pillarbox explain {event.queue_id}"], event)
    text = f"{event.report} to <{event.to}>: {event.action}, {about}"
    return Moment(at, what, one_line(text), [f"pillarbox explain {event.report}"], event)


def _said(code: int, enhanced: str, text: str) -> str:
    return " ".join(
        part for part in (str(code) if code else "", enhanced if code else "", text) if part
    )


def show_time(at: int) -> str:
    """Example: "2026-11-27 04:54:08.123Z"."""
    return f"{datetime.fromtimestamp(at / 1_000_000, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + "Z"


def moment_as_json(moment: Moment) -> dict[str, Any]:
    """For programs: what was recorded, besides the words."""
    event = moment.event
    if isinstance(event, Part):
        name, values = event.name, event.values
    else:
        name = str(type(event).__struct_config__.tag)
        values = msgspec.to_builtins(msgspec.structs.asdict(event))
    return {
        "at": show_time(moment.at).replace(" ", "T"),
        "what": moment.what,
        "text": moment.text,
        "more": moment.more,
        "event": name,
        "values": values,
    }
