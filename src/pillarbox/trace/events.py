"""The events: what is said of a session, a message, or a place where a message was filed.

Bodies, subjects and secrets have no place here; addresses, replies and numbers do. An event is one line of JSON, a list
that begins with its name. Only ever append a field, with a default: files of earlier runs are read, too.

A place is "ACCOUNT.MAILBOX.UIDVALIDITY", all by number; ranges of UIDs are inclusive. `connection` is the id that the
log has; it is unique in one run of one worker.
"""

import msgspec

Ranges = list[tuple[int, int]]


class Event(msgspec.Struct, array_like=True, gc=False):
    """Whatever happened."""


class Session(Event, tag="session"):
    """Who is on a connection, said before the first event of it, and again when it changes."""

    connection: str
    service: str
    client: str
    port: int
    local: str
    """Address and port that were connected to."""
    proxy: str
    """Who speaks for the client (PROXY, XCLIENT), "" for nobody."""
    tls: str
    """Version and cipher, "" in the clear."""
    hello: str
    """What an SMTP client called itself."""
    opened: int
    """When it was accepted, microseconds since 1970."""


class Login(Event, tag="login"):
    """A login that worked or did not."""

    connection: str
    protocol: str
    client: str
    user: str
    """The address of the account, or the name that nobody has."""
    account: int
    """0: there is none."""
    mechanism: str
    result: str
    """"ok", or why not."""
    with_what: str
    """The app password, or the address of the supporter; "": the account's own."""


class Identified(Event, tag="identified"):
    """What a client says that it is (IMAP ID)."""

    connection: str
    name: str


class Refused(Event, tag="refused"):
    """A connection, sender, recipient or message that was not taken."""

    connection: str
    what: str
    sender: str
    recipient: str
    """"": it is not about one."""
    code: int
    enhanced: str
    text: str
    """Of the reply."""
    why: str
    """What the verdict was made from."""
    queue_id: str = ""
    """Of a message that others of its recipients get."""
    message_id: str = ""
    """Of a message that came whole; with its brackets."""


class Accepted(Event, tag="accepted"):
    """A message that is ours now; its 250 leaves after this."""

    connection: str
    """"": it came by no connection."""
    queue_id: str
    message_id: str
    """With angle brackets, "" for none."""
    size: int
    """Octets."""
    sender: str
    recipients: list[tuple[str, list[str]]]
    """As written, and whom they lead to, if that is anybody else."""
    began: int
    """When MAIL came, microseconds since 1970."""
    user: str
    """Who logged in, or whose program left it."""
    pending: list[str]
    """Accounts that could not be written at once."""
    notes: list[str]
    """What was done to it."""
    found_by: list[tuple[str, str]] = []
    """Recipients that were found by an alias, a catch-all or a rule, and by which."""
    missing: list[tuple[str, list[str]]] = []
    """Recipients whose alias also names addresses here that nobody has, and which."""


class Filed(Event, tag="filed"):
    """Messages that have their numbers in a mailbox now."""

    place: str
    mailbox: str
    messages: list[tuple[str, int]]
    """Queue id and UID."""


class Uploaded(Event, tag="uploaded"):
    """A message that a client put into a mailbox by itself."""

    connection: str
    place: str
    mailbox: str
    uid: int
    message_id: str
    size: int


class Queued(Event, tag="queued"):
    """A message that waits for other hosts now."""

    queue_id: str
    sender: str
    recipients: list[tuple[str, str]]
    """Address and next hop."""
    notes: list[str]
    """What was done to it."""
    held: str
    """Why it waits for an administrator, "" where it does not."""


class HostFailed(Event, tag="host_failed"):
    """A host that took no session; others may have."""

    queue_id: str
    host: str
    code: int
    enhanced: str
    text: str


class Attempt(Event, tag="attempt"):
    """What became of recipients at another host."""

    queue_id: str
    host: str
    """Name and address, of the last one where none took a session; "" where there was none to try."""
    tls: str
    results: "list[Result]"


class Result(msgspec.Struct, array_like=True, gc=False):
    """Of one recipient."""

    recipient: str
    what: str
    """delivered, deferred, failed or expired."""
    stage: str
    code: int
    enhanced: str
    text: str
    from_peer: bool
    attempt: int
    """From 1."""
    next_try: int
    """Epoch seconds; 0: none."""


class Removed(Event, tag="removed"):
    """Recipients that an administrator deleted from the queue: they get nothing, and the sender is not told."""

    queue_id: str
    sender: str
    recipients: list[str]


class Noticed(Event, tag="noticed"):
    """A sender that was told what became of a message."""

    queue_id: str
    """Of that message."""
    report: str
    """Queue id of the notice."""
    to: str
    action: str
    """failed, delayed, delivered, relayed or expanded."""
    recipients: list[str]


class Flagged(Event, tag="flagged"):
    """Flags that were changed."""

    connection: str
    place: str
    ranges: Ranges
    mode: str
    """"+", "-" or "="."""
    flags: list[str]


class Fetched(Event, tag="fetched"):
    """Bodies that went to a client, gathered for about a second."""

    connection: str
    place: str
    ranges: Ranges
    began: int
    """When the first went, microseconds since 1970."""


class Copied(Event, tag="copied"):
    """Messages that are in another mailbox, too, or only there; `ranges` have exactly those that were."""

    connection: str
    place: str
    ranges: Ranges
    target: str
    mailbox: str
    """The target's name."""
    first_uid: int
    """There; the others follow in order."""
    moved: bool


class Expunged(Event, tag="expunged"):
    """Messages that are gone from a mailbox."""

    connection: str
    place: str
    ranges: Ranges
    how: str


class Dropped(Event, tag="dropped"):
    """So many events were not kept, since there were too many at once or they could not be written."""

    count: int


AnyEvent = (
    Session
    | Login
    | Identified
    | Refused
    | Accepted
    | Filed
    | Uploaded
    | Queued
    | HostFailed
    | Attempt
    | Removed
    | Noticed
    | Flagged
    | Fetched
    | Copied
    | Expunged
    | Dropped
)

Line = tuple[int, AnyEvent]
"""When it happened, in microseconds since 1970, and what."""


def place_of(account: int, mailbox: int, uidvalidity: int) -> str:
    """Example: (7, 1, 1700000000) -> "7.1.1700000000". A UID there is never used for another message (RFC 9051
    §2.3.1.1)."""
    return f"{account}.{mailbox}.{uidvalidity}"
