"""What an SMTP server engine offers and requires, how much it takes and how long it waits."""

from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Limits:
    """One value for many sessions. Lengths are octets and count the CRLF."""

    command_line: int = 2048
    """RFC 5321 §4.5.3.1.4: 512, and what extensions add: SIZE 26 (RFC 1870 §3), AUTH 500 (RFC 4954 §3),
    NOTIFY and ORCPT 530 (RFC 3461 §5.4)."""
    auth_line: int = 12288
    """A response in an AUTH exchange (RFC 4954 §4)."""
    recipients: int = 1000
    """Accepted in one transaction; at least 100 (RFC 5321 §4.5.3.1.8)."""
    errors: int = 20
    """Commands that the engine refuses and failed authentications, since the last accepted message."""
    refusals: int = 200
    """5yz replies by the service, since the last accepted message."""
    commands: int = 10_000
    """Lines since the last accepted message."""
    errors_at_once: int = 5
    """Errors and refusals that are answered at once."""
    error_delay_s: float = 0.0
    """Each further one is answered by this much later than the one before, but at most `longest_delay_s`."""
    longest_delay_s: float = 5.0
    timeout_s: float = 300.0
    """Silence while a command or data is awaited: at least 5 minutes (RFC 5321 §4.5.3.2.7)."""


@dataclass(slots=True, frozen=True)
class ServerOptions:
    """What kind of server this is. MX, submission and lab servers are different values of it."""

    hostname: str
    size_limit_bytes: int
    starttls: bool = False
    """A certificate is there: offer STARTTLS on connections without TLS."""
    mechanisms: tuple[str, ...] = ()
    """SASL mechanisms, upper case, as EHLO shows them; empty: no AUTH."""
    cleartext_auth: bool = False
    """Offer AUTH without TLS too."""
    lmtp: bool = False
    """LMTP (RFC 2033): LHLO, and a reply for each recipient behind the message."""
    requires_auth: bool = False
    """MAIL only after AUTH: the submission service (RFC 6409 §4.3)."""
    limits: Limits = field(default_factory=Limits)
