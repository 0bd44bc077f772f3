"""When mail is tried again, how hard a destination is pressed, and whose turn it is (RFC 5321 §4.5.4.1).

Pure: times are epoch seconds given by the caller, and `random` gives numbers from 0 to less than 1.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic, TypeVar

Random = Callable[[], float]

MINUTE = 60
HOUR = 3600
DAY = 86400


# One recipient over days


@dataclass(slots=True, frozen=True)
class Schedule:
    """Waits grow from `first_s` by `growth` to `longest_s`. With the defaults there are six attempts in the first hour
    and some seventy in five days; RFC 5321 §4.5.4.1 wants two in the first hour, and 4 to 5 days before giving up."""

    first_s: float = 3 * MINUTE
    growth: float = 1.6
    longest_s: float = 2 * HOUR
    jitter: float = 0.2
    """The part of a wait that is random, so that what failed together does not come back together."""
    warn_after_s: float = 4 * HOUR
    """Until the sender is told of a delay, once; 0: never."""
    give_up_after_s: float = 5 * DAY


@dataclass(slots=True, frozen=True)
class Retry:
    """Try again at `at` or soon after; `warn`: the notice of delay is due now."""

    at: float
    warn: bool


@dataclass(slots=True, frozen=True)
class GiveUp:
    """Time is over: the recipient has failed for good (RFC 3463 X.4.7)."""


def wait_s(schedule: Schedule, attempts: int, random: Random) -> float:
    """Seconds until the next attempt, after `attempts` (1 or more) that failed; within `jitter` below the nominal
    wait, so it never exceeds `longest_s`."""
    # The exponent is bounded: growth ** 10_000 would overflow.
    nominal = min(schedule.longest_s, schedule.first_s * schedule.growth ** min(attempts - 1, 64))
    return nominal * (1 - schedule.jitter * random())


def after_failure(
    schedule: Schedule, *, created: float, now: float, attempts: int, warned: bool, random: Random
) -> Retry | GiveUp:
    """What follows a temporary failure at `now`, the `attempts`th. The last attempt is not before the end of
    `give_up_after_s`, and not long after it."""
    end = created + schedule.give_up_after_s
    if now >= end:
        return GiveUp()
    at = min(now + wait_s(schedule, attempts, random), end)
    due = 0 < schedule.warn_after_s <= now - created
    return Retry(at, due and not warned)


# One destination


@dataclass(slots=True, frozen=True)
class Pressure:
    """How hard a destination may be pressed: the rules for all of them."""

    most_sessions: int = 20
    first_sessions: int = 2
    first_pause_s: float = 1 * MINUTE
    longest_pause_s: float = 30 * MINUTE


@dataclass(slots=True, frozen=True)
class Destination:
    """What the last attempts told about a next hop. A fresh one is `Destination(pressure.first_sessions)`."""

    sessions: int
    """How many sessions it may have at a time, 1 or more."""
    failures: int = 0
    """Attempts in a row that got no session: the connection, the greeting, TLS or AUTH failed."""
    paused_until: float = 0.0
    """No attempt before; then one, to find out."""

    def room(self, open_sessions: int, now: float) -> int:
        """How many more sessions may be opened now."""
        if now < self.paused_until:
            return 0
        allowed = 1 if self.failures else self.sessions
        return max(0, allowed - open_sessions)


def after_delivery(destination: Destination, pressure: Pressure) -> Destination:
    """It took a message: one session more, up to the limit."""
    if destination.sessions >= pressure.most_sessions and not destination.failures:
        return destination
    return Destination(min(destination.sessions + 1, pressure.most_sessions))


def after_no_session(
    destination: Destination, pressure: Pressure, now: float, random: Random
) -> Destination:
    """It could not be talked to, or said 421: half the sessions, and a pause that doubles each time.

    What happens while it is paused already (other sessions that were under way) changes nothing.
    """
    if now < destination.paused_until:
        return destination
    doubled = pressure.first_pause_s * 2 ** min(destination.failures, 32)
    pause_s = min(pressure.longest_pause_s, doubled) * (1 - random() / 4)
    return replace(
        destination,
        sessions=max(1, destination.sessions // 2),
        failures=destination.failures + 1,
        paused_until=now + pause_s,
    )


# Whose turn it is

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True, frozen=True)
class Waiting(Generic[Key]):
    """Something that is due."""

    key: Key
    sender: str
    """Whom fairness is for: an account, or a reverse path."""
    created: float
    attempts: int


def choose(due: Iterable[Waiting[Key]], limit: int, *, new_share: float = 0.5) -> list[Key]:
    """At most `limit` of what is due, in the order in which it shall go.

    Old mail goes first, but `new_share` of the places (0 to 1) belong to mail that was never tried, so that a pile of
    retries does not delay it; places that one kind does not need go to the other. Within a kind senders take turns,
    whoever waits longest first, each with its oldest: a sender of 100,000 does not hold up one of a single message.
    """
    kinds: tuple[list[Waiting[Key]], list[Waiting[Key]]] = ([], [])
    for one in due:
        kinds[one.attempts == 0].append(one)
    retries, new = (deque(islice(_in_turns(kind), limit)) for kind in kinds)
    chosen: list[Key] = []
    credit = 0.0
    while len(chosen) < limit and (retries or new):
        credit += new_share
        if new and (credit >= 1 or not retries):
            credit = max(0.0, credit - 1)
            chosen.append(new.popleft())
        else:
            chosen.append(retries.popleft() if retries else new.popleft())
    return chosen


def _in_turns(waiting: list[Waiting[Key]]) -> Iterable[Key]:
    by_sender: defaultdict[str, deque[Key]] = defaultdict(deque)
    for one in sorted(waiting, key=lambda one: one.created):
        by_sender[one.sender].append(one.key)
    turns = deque(by_sender.values())
    while turns:
        queue = turns.popleft()
        yield queue.popleft()
        if queue:
            turns.append(queue)


MessageKey = TypeVar("MessageKey", bound=Hashable)
RecipientKey = TypeVar("RecipientKey")


def group(
    recipients: Iterable[tuple[MessageKey, str, RecipientKey]], most: int = 100
) -> list[tuple[str, Sequence[RecipientKey]]]:
    """Transactions: (next hop, recipients of one message), at most `most` each, which is what every server takes
    (RFC 5321 §4.5.3.1.8). In the order of their first recipients.

    Example: `[(1, "x", "a@x"), (2, "x", "b@x"), (1, "x", "c@x")]` -> `[("x", ["a@x", "c@x"]), ("x", ["b@x"])]`.
    """
    groups: dict[tuple[MessageKey, str], list[RecipientKey]] = {}
    for message, hop, recipient in recipients:
        groups.setdefault((message, hop), []).append(recipient)
    return [
        (hop, members[start : start + most])
        for (_, hop), members in groups.items()
        for start in range(0, len(members), most)
    ]
