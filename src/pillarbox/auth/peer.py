"""Who wants to log in, as the connection knows it, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pillarbox.net.connection import Connection
from pillarbox.sasl.exchange import ChannelBinding
from pillarbox.store.directory import Account

PROTOCOLS = ("smtp", "imap", "pop3")


def _nobody(_account: int) -> None:
    """A peer without a connection."""


def _is_there() -> bool:
    return False


@dataclass(slots=True, frozen=True)
class Peer:
    """A client."""

    address: str
    """IP address."""
    protocol: str
    """One of PROTOCOLS."""
    binding: ChannelBinding | None = None
    certificate: bytes | None = field(default=None, repr=False)
    """DER, verified in the handshake."""
    connection: str = ""
    """The id of the connection, for the trace and the log."""
    tls: str = ""
    """Such as "TLSv1.3"; '' in the clear."""
    failed: Callable[[int], None] = field(default=_nobody, repr=False, compare=False)
    """Lets the connection know that a login failed, and of which account; 0: there is none."""
    has_left: Callable[[], bool] = field(default=_is_there, repr=False, compare=False)
    """Whether the client cannot hear the answer any more, as far as is known."""


def peer_of(connection: Connection, protocol: str) -> Peer:
    """Who wants to log in over a connection."""
    channel = connection.channel
    binding, certificate = channel.binding, channel.client_certificate
    address, failed = connection.peer[0], connection.login_failed
    has_left = connection.has_left
    tls = channel.tls_version
    return Peer(address, protocol, binding, certificate, connection.id, tls, failed, has_left)


@dataclass(slots=True, frozen=True)
class BadToken:
    """An access token that is no good."""

    why: str
    """For the log, the trace and the history; clients do not hear it."""


@dataclass(slots=True)
class Login:
    """Somebody is logged in to an account."""

    account: Account
    supporter: Account | None = None
    """Whose password it was, if it was not the account's."""


@dataclass(slots=True)
class Denied:
    """No login. `text` is public."""

    text: str
    is_syntax: bool = False
    """The client's message was wrong, nobody's password was tried."""
    is_authorization: bool = False
    """The password was right, and acting as somebody else is not allowed."""
    delay_s: float = field(default=0.0, compare=False)
    """How long the answer waited."""
