"""What an SMTP client knows about the recipients of the message in transfer (RFC 5321 §3.3, §4.2.1), and what its peer
has room for (RFC 9422).
"""

from pillarbox.smtp.client_events import Kind, Outcome, Stage, is_too_many_recipients
from pillarbox.smtp.client_reply import Peer
from pillarbox.smtp.reply import Reply

ALL = -1
"""In place of a recipient's index: a reply that is for all of them."""


class Transaction:
    """What is known about the recipients of a message."""

    __slots__ = ("_dsn", "accepted", "outcomes")

    def __init__(self, recipients: int, *, dsn: bool = False) -> None:
        """`dsn`: the peer offers DSN."""
        self._dsn = dsn
        self.outcomes: list[Outcome | None] = [None] * recipients
        self.accepted: list[int] = []
        """Indices, in order of their RCPT."""

    @property
    def decided(self) -> bool:
        return None not in self.outcomes

    def decide(self, index: int, reply: Reply, stage: Stage, *, from_peer: bool = True) -> None:
        """The first decision counts."""
        if self.outcomes[index] is None:
            self.outcomes[index] = make_outcome(reply, stage, from_peer, dsn=self._dsn)

    def decide_all(self, reply: Reply, stage: Stage, *, from_peer: bool = True) -> None:
        outcome = make_outcome(reply, stage, from_peer, dsn=self._dsn)
        self.outcomes = [outcome if known is None else known for known in self.outcomes]

    def results(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome is not None]


def make_outcome(reply: Reply, stage: Stage, from_peer: bool, *, dsn: bool = False) -> Outcome:
    """Only the first digit of a reply decides (RFC 5321 §4.2.1), and a 2yz counts only behind the dot."""
    if reply.code < 400 and stage is Stage.DOT:
        kind = Kind.DELIVERED
    elif reply.code < 500 or (stage is Stage.RCPT and is_too_many_recipients(reply)):
        kind = Kind.TEMPORARY
    else:
        kind = Kind.PERMANENT
    return Outcome(kind, stage, reply, from_peer, dsn and kind is Kind.DELIVERED)


class Room:
    """How much of a session is left by the peer's LIMITS. Each bound counts what is sent, whatever becomes of it: a
    client that pipelines cannot know."""

    __slots__ = ("_domains", "_most_domains", "_most_messages", "_most_recipients", "messages")

    def __init__(self, peer: Peer) -> None:
        self._most_messages = peer.limit("MAILMAX")
        self._most_recipients = peer.limit("RCPTMAX")
        self._most_domains = peer.limit("RCPTDOMAINMAX")
        self._domains: set[str] = set()
        self.messages = 0

    @property
    def is_left(self) -> bool:
        """For another message, and if domains are bounded, for one to a new domain."""
        if self._most_messages is not None and self.messages >= self._most_messages:
            return False
        return self._most_domains is None or len(self._domains) < self._most_domains

    def take(self, domain: str, recipients: int) -> bool:
        """Take one recipient more in a transaction that has `recipients`; False: it has to go by itself."""
        if self._most_recipients is not None and recipients >= self._most_recipients:
            return False
        if self._most_domains is not None:
            if domain not in self._domains and len(self._domains) >= self._most_domains:
                return False
            self._domains.add(domain)
        return True
