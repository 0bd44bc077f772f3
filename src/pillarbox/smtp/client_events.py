"""What the SMTP client engine is given to do and what it tells its service."""

from dataclasses import dataclass, field
from enum import Enum

from pillarbox.core.address import Address
from pillarbox.core.secret import Secret
from pillarbox.smtp.client_reply import Peer
from pillarbox.smtp.reply import Reply


class TlsMode(Enum):
    """When STARTTLS is used on a connection that began in the clear (RFC 3207)."""

    NEVER = "never"
    IF_OFFERED = "if offered"
    """Opportunistic: a refused STARTTLS leaves the session in the clear."""
    ALWAYS = "always"
    """Nothing but EHLO and STARTTLS is said in the clear."""


@dataclass(slots=True, frozen=True)
class Credentials:
    """For a smarthost. The password leaves under TLS only. Neither holds a NUL (RFC 4616 §2)."""

    username: str
    password: Secret


@dataclass(slots=True, frozen=True)
class Timeouts:
    """Seconds of silence: at least what RFC 5321 §4.5.3.2 says."""

    greeting_s: float = 300.0
    command_s: float = 300.0
    """EHLO, STARTTLS, AUTH, MAIL, RCPT and RSET."""
    data_s: float = 120.0
    """Until the 354."""
    block_s: float = 180.0
    """Until the peer has taken a chunk of the message."""
    dot_s: float = 600.0
    quit_s: float = 10.0
    """Nothing depends on the answer to QUIT."""


@dataclass(slots=True, frozen=True)
class ClientOptions:
    """One value for many sessions."""

    hostname: str
    """Our name for EHLO (RFC 5321 §4.1.1.1): a name with an address, or an address literal."""
    lmtp: bool = False
    """LMTP (RFC 2033): LHLO, and a reply for each recipient after the dot."""
    tls: TlsMode = TlsMode.IF_OFFERED
    credentials: Credentials | None = None
    """With them, nothing is sent before a successful AUTH."""
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(slots=True, frozen=True)
class Recipient:
    """`notify` and `orcpt` are the values of NOTIFY and ORCPT in wire form (RFC 3461 §4.1, §4.2), "" for none."""

    address: Address
    notify: str = ""
    orcpt: str = ""


@dataclass(slots=True, frozen=True)
class Envelope:
    """One transaction. `ret` and `envid` are the values of RET and ENVID in wire form (RFC 3461 §4.3, §4.4)."""

    reverse_path: Address | None
    """None is the null path <>."""
    recipients: list[Recipient]
    """One or more."""
    size_bytes: int
    """As RFC 1870 §5 counts: without transparency dots; may be an estimate from above."""
    eight_bit: bool = False
    """The message has octets over 127: only for peers with 8BITMIME (RFC 6152 §3)."""
    utf8: bool = False
    """A header or a local part needs SMTPUTF8 (RFC 6531 §3.4). Domains do not: they can be A-labels."""
    ret: str = ""
    envid: str = ""


class Stage(Enum):
    """Where a session was when something was decided."""

    GREETING = "greeting"
    HELLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    IDLE = "between messages"
    CHECK = "our own check of what the peer offers"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "mail data"
    DOT = "end of mail data"
    QUIT = "QUIT"


class Kind(Enum):
    """What became of a recipient."""

    DELIVERED = "delivered"
    """The peer is responsible now (RFC 5321 §4.2.5)."""
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


@dataclass(slots=True, frozen=True)
class Outcome:
    """The result for one recipient, or for a session that came to nothing."""

    kind: Kind
    stage: Stage
    reply: Reply
    from_peer: bool = True
    """False: `reply` is our own way to say it (connection lost, time-out, TLS not offered...)."""
    dsn: bool = False
    """DELIVERED to a peer that offers DSN: what the sender wishes to be told is its business now."""

    @property
    def too_many_recipients(self) -> bool:
        """The peer took others of this message and wants this one in another transaction, at once
        (RFC 5321 §4.5.3.1.10)."""
        return self.stage is Stage.RCPT and is_too_many_recipients(self.reply)

    @property
    def in_doubt(self) -> bool:
        """The final dot left us, and no reply came: the peer may have the message all the same."""
        return self.stage is Stage.DOT and not self.from_peer


def is_too_many_recipients(reply: Reply) -> bool:
    """Whether a reply to RCPT says so. 552 counts as 452 (RFC 5321 §4.5.3.1.10), unless the enhanced code says
    something else, like a full mailbox (4.2.2)."""
    return reply.code in (452, 552) and reply.enhanced in ("", "4.5.3", "5.5.3")


@dataclass(slots=True)
class Ready:
    """Greeted, and under TLS and authenticated as the options want: `send_message` or `quit`."""

    peer: Peer


@dataclass(slots=True)
class Failed:
    """The session came to nothing before it was ready. The connection closes."""

    outcome: Outcome


@dataclass(slots=True)
class BodyWanted:
    """Answer with `send_body`. Comes only when all output was taken."""


@dataclass(slots=True)
class ReadyForDot:
    """All is sent but the last chunk and the final dot. Answer with `finish`, or `abort` if the message shall not be
    delivered now."""


@dataclass(slots=True)
class Done:
    """The transaction is over: one outcome for each recipient of the envelope, in order. If the engine is not
    `closing`, the next message may follow. Every `send_message` gets exactly one."""

    outcomes: list[Outcome]


@dataclass(slots=True)
class Closed:
    """The connection ended between messages."""

    outcome: Outcome


Event = Ready | Failed | BodyWanted | ReadyForDot | Done | Closed
