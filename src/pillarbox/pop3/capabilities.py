"""What CAPA shows (RFC 2449 §5, §6). One row adds a capability."""

from collections.abc import Callable
from dataclasses import dataclass

from pillarbox import __version__
from pillarbox.pop3.options import ServerOptions


@dataclass(slots=True, frozen=True)
class Situation:
    """On what a capability depends."""

    options: ServerOptions
    tls: bool
    logged_in: bool
    mechanisms: tuple[str, ...] = ()
    """SASL mechanisms, upper case."""

    @property
    def login_allowed(self) -> bool:
        """Passwords may pass on this connection."""
        return self.tls or self.options.cleartext_login


Capability = Callable[[Situation], str | None]
"""The line that CAPA shows, None for none in this situation."""


def _always(line: str) -> Capability:
    return lambda situation: line


def _user(situation: Situation) -> str | None:
    return "USER" if situation.login_allowed else None


def _sasl(situation: Situation) -> str | None:
    if not situation.login_allowed or not situation.mechanisms:
        return None
    return f"SASL {' '.join(situation.mechanisms)}"


def _stls(situation: Situation) -> str | None:
    # RFC 2595 §4: "present and permitted in the current state"
    permitted = situation.options.stls and not situation.tls and not situation.logged_in
    return "STLS" if permitted else None


def _login_delay(situation: Situation) -> str | None:
    """RFC 2449 §6.5"""
    seconds = situation.options.login_delay_s
    return f"LOGIN-DELAY {seconds}" if seconds else None


def _expire(situation: Situation) -> str | None:
    """RFC 2449 §6.7"""
    return f"EXPIRE {situation.options.expire_days or 'NEVER'}"


def _utf8(situation: Situation) -> str | None:
    """RFC 6856 §2. 2026-11: Evolution 3.46 answers this with UTF8 without CRLF, and waits for ever."""
    return "UTF8" if situation.options.utf8 else None


CAPABILITIES: tuple[Capability, ...] = (
    _always("TOP"),
    _always("UIDL"),
    _user,
    _sasl,
    _stls,
    _always("RESP-CODES"),
    _always("AUTH-RESP-CODE"),  # RFC 3206 §4
    _always("PIPELINING"),
    _expire,
    _login_delay,
    _utf8,
    _always("LANG"),  # RFC 6856 §3
    _always(f"IMPLEMENTATION Pillarbox-{__version__}"),
)


def capability_lines(situation: Situation) -> list[bytes]:
    """The lines of the CAPA response, each with CRLF, in the order of the table."""
    lines = (capability(situation) for capability in CAPABILITIES)
    return [f"{line}\r\n".encode("ascii") for line in lines if line is not None]
