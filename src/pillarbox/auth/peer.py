"""Who wants to log in, as the connection knows it, and what came of it."""

from dataclasses import dataclass, field

from pillarbox.sasl.exchange import ChannelBinding
from pillarbox.store.directory import Account

PROTOCOLS = ("smtp", "imap", "pop3")


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


@dataclass(slots=True)
class Login:
    """Somebody is logged in to an account."""

    account: Account
    supporter: Account | None = None
    """Whose password it was, if it was not the account's."""


@dataclass(slots=True)
class Denied:
    """No login. `text` is public; `is_syntax`: the client's message was wrong, nobody's password was tried."""

    text: str
    is_syntax: bool = False
