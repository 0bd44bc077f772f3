"""What a process counts, and the table of all that is counted: names, labels and limits of the metrics.

Counters are plain integers, so counting is an addition; histograms have fixed limits. Nothing here knows who asks: the
numbers of a process are a row that `Tally.numbers` makes, and rows of several processes are added.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import product

SERVICES = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")
"""That listen for mail programs and mail servers."""
PROTOCOLS = ("smtp", "lmtp", "imap", "pop3")
SOURCES = ("smtp", "submission", "submissions", "lmtp", "sendmail")
"""Where messages come from."""
PROTOCOL_OF = dict(
    zip(SERVICES, ("smtp", "smtp", "smtp", "lmtp", "imap", "imap", "pop3", "pop3"), strict=True)
)
LOGIN_PROTOCOLS = ("smtp", "imap", "pop3")
RESULTS = ("accepted", "deferred", "rejected")

FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Limits for what a client waits for."""
SLOW_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 432000.0)
"""Limits for what a queue waits for."""

SLOW_COMMAND_S = 0.1
"""From here on, a command is noted with its name and account."""
MOST_SLOW = 16
SLOW_FOR_S = 300.0
"""How long a slow command is remembered."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: all that share its name and differ in the values of their labels."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Each with all values that it can have; none: numbers of workers, a version."""
    limits: tuple[float, ...] = ()
    """Of a histogram, in ascending order; what is equal to a limit is below it."""

    def combinations(self) -> list[tuple[str, ...]]:
        """All combinations of values."""
        return list(product(*(values for _, values in self.labels)))

    @property
    def cells(self) -> int:
        """How many numbers each combination has."""
        return len(self.limits) + 2 if self.kind == "histogram" else 1


class Histogram:
    """How often something took how long."""

    __slots__ = ("counts", "limits", "total")

    def __init__(self, limits: tuple[float, ...] = FAST_S) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        """Between one limit and the next; the last one: above all limits."""
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.limits, seconds)] += 1
        self.total += seconds


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """One that took SLOW_COMMAND_S or more."""

    ended: float
    """Epoch seconds."""
    seconds: float
    account: int
    """0: nobody had logged in."""
    what: str
    """Protocol and command: "imap SEARCH"."""


class SlowCommands:
    """The slowest of the last SLOW_FOR_S, at most MOST_SLOW."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[SlowCommand] = []

    def note(self, command: SlowCommand) -> None:
        self._kept = self.recent(command.ended)
        if len(self._kept) == MOST_SLOW:
            fastest = min(self._kept, key=lambda one: one.seconds)
            if fastest.seconds >= command.seconds:
                return
            self._kept.remove(fastest)
        self._kept.append(command)

    def recent(self, now: float) -> list[SlowCommand]:
        """Those that have not been forgotten; `now` is in epoch seconds."""
        return [one for one in self._kept if one.ended > now - SLOW_FOR_S]


FAMILIES = {
    "connections": Family(
        "pillarbox_connections_accepted_total",
        "counter",
        "Connections that were accepted.",
        (("service", SERVICES),),
    ),
    "turned_away": Family(
        "pillarbox_connections_refused_total",
        "counter",
        "Connections that were turned away: too many at once, or a banned address.",
        (("reason", ("too_many", "banned")),),
    ),
    "commands": Family(
        "pillarbox_command_seconds",
        "histogram",
        "How long commands took, from the command to its last answer, a client that reads slowly included;"
        " no logins, whose failures are made to wait.",
        (("protocol", PROTOCOLS),),
        FAST_S,
    ),
    "messages": Family(
        "pillarbox_smtp_messages_total",
        "counter",
        "Messages that were offered whole: accepted (250), deferred (4xx) or rejected (5xx).",
        (("service", SOURCES), ("result", RESULTS)),
    ),
    "message_octets": Family(
        "pillarbox_smtp_message_bytes_total",
        "counter",
        "Octets of the messages that were accepted.",
        (("service", SOURCES),),
    ),
    "recipients": Family(
        "pillarbox_smtp_recipients_total",
        "counter",
        "Recipients that were named by RCPT: accepted, deferred (4xx) or rejected (5xx).",
        (("result", RESULTS),),
    ),
    "logins": Family(
        "pillarbox_logins_total",
        "counter",
        "Logins that succeeded.",
        (("protocol", LOGIN_PROTOCOLS),),
    ),
    "login_failures": Family(
        "pillarbox_login_failures_total",
        "counter",
        "Logins that failed: wrong credentials, too many failures before (throttled), or not allowed to act for others"
        " (authorization).",
        (
            ("protocol", LOGIN_PROTOCOLS),
            ("reason", ("credentials", "throttled", "authorization")),
        ),
    ),
    "deliveries": Family(
        "pillarbox_delivery_seconds",
        "histogram",
        "From the end of a message's data until it was durable for all its recipients, here and in the queue.",
        (),
        FAST_S,
    ),
    "stored": Family(
        "pillarbox_messages_stored_total",
        "counter",
        "Messages that were put into mailboxes, by delivery or APPEND, one for each account.",
    ),
    "commits": Family(
        "pillarbox_commit_seconds",
        "histogram",
        "How long it took to make a group of changes durable: in the journal, in the file of an account, or a sync of"
        " the queue.",
        (("what", ("journal", "account", "queue")),),
        FAST_S,
    ),
    "attempts": Family(
        "pillarbox_queue_attempts_total",
        "counter",
        "Attempts to reach recipients at other hosts: delivered, deferred, failed for good, or expired.",
        (("result", ("delivered", "deferred", "failed", "expired")),),
    ),
    "queue_seconds": Family(
        "pillarbox_queue_delivery_seconds",
        "histogram",
        "From the acceptance of a message until another host took it for a recipient.",
        (),
        SLOW_S,
    ),
}
"""By attribute of `Tally`."""


def _counts(attribute: str) -> dict[str, int]:
    return {key[0]: 0 for key in FAMILIES[attribute].combinations()}


def _pairs(attribute: str) -> dict[tuple[str, str], int]:
    return dict.fromkeys(((one, two) for one, two in FAMILIES[attribute].combinations()), 0)


def _histograms(attribute: str) -> dict[str, Histogram]:
    family = FAMILIES[attribute]
    return {key[0]: Histogram(family.limits) for key in family.combinations()}


@dataclass(slots=True)
class Tally:
    """The numbers of one process since its start. Whoever does something adds to them; FAMILIES says what they are."""

    connections: dict[str, int] = field(default_factory=lambda: _counts("connections"))
    turned_away: dict[str, int] = field(default_factory=lambda: _counts("turned_away"))
    commands: dict[str, Histogram] = field(default_factory=lambda: _histograms("commands"))
    messages: dict[tuple[str, str], int] = field(default_factory=lambda: _pairs("messages"))
    message_octets: dict[str, int] = field(default_factory=lambda: _counts("message_octets"))
    recipients: dict[str, int] = field(default_factory=lambda: _counts("recipients"))
    logins: dict[str, int] = field(default_factory=lambda: _counts("logins"))
    login_failures: dict[tuple[str, str], int] = field(
        default_factory=lambda: _pairs("login_failures")
    )
    deliveries: Histogram = field(default_factory=Histogram)
    stored: int = 0
    commits: dict[str, Histogram] = field(default_factory=lambda: _histograms("commits"))
    attempts: dict[str, int] = field(default_factory=lambda: _counts("attempts"))
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(SLOW_S))
    slow: SlowCommands = field(default_factory=SlowCommands)

    def numbers(self) -> list[float]:
        """All of them, in the order of FAMILIES: a histogram has its counts, then its total."""
        row: list[float] = []
        for attribute in FAMILIES:
            value = getattr(self, attribute)
            for each in value.values() if isinstance(value, dict) else (value,):
                if isinstance(each, Histogram):
                    row += each.counts
                    row.append(each.total)
                else:
                    row.append(each)
        return row


def _places() -> dict[str, list[tuple[tuple[str, ...], slice]]]:
    found: dict[str, list[tuple[tuple[str, ...], slice]]] = {}
    start = 0
    for attribute, family in FAMILIES.items():
        places = found[attribute] = []
        for key in family.combinations():
            places.append((key, slice(start, start + family.cells)))
            start += family.cells
    return found


PLACES = _places()
"""By attribute: the values of its labels, and where their numbers stand in a row."""

ROW_CELLS = max(place.stop for places in PLACES.values() for _, place in places)
"""Numbers in a row."""


def result_of(code: int) -> str:
    """One of RESULTS for a reply code."""
    return "accepted" if code < 400 else "deferred" if code < 500 else "rejected"
