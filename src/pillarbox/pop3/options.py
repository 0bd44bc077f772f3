"""What a POP3 server engine offers, how much it takes and how long it waits."""

from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Limits:
    """One value for many sessions. Lengths are octets and count the line end."""

    command_line: int = 255
    """RFC 2449 §4."""
    auth_line: int = 12288
    """A response in an AUTH exchange (RFC 5034 §4)."""
    errors: int = 20
    """Commands that the engine refuses and failed logins, in the whole session."""
    login_timeout_s: float = 60.0
    """Silence before login. DEVIATES: RFC 1939 §3 wants 10 minutes; strangers get less."""
    timeout_s: float = 600.0
    """Silence after login: at least 10 minutes (RFC 1939 §3)."""


@dataclass(slots=True, frozen=True)
class ServerOptions:
    stls: bool = False
    """A certificate is there: offer STLS on connections without TLS."""
    mechanisms: tuple[str, ...] = ("PLAIN",)
    """SASL mechanisms, upper case."""
    cleartext_login: bool = False
    """Allow USER, PASS and AUTH without TLS too."""
    login_delay_s: int = 0
    """Announced as LOGIN-DELAY; 0: it is not."""
    expire_days: int = 0
    """Announced as EXPIRE: how long mail is kept at least; 0: for ever."""
    utf8: bool = True
    """Offer the command UTF8 (RFC 6856 §2)."""
    limits: Limits = field(default_factory=Limits)
