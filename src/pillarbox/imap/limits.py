"""How much of everything an IMAP client may send."""

from dataclasses import dataclass

MINUS_OCTETS = 4096
"""RFC 7888 §5 limit: of a literal that does not synchronise, where LITERAL- is announced."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Limits:
    """Sizes in octets, times in seconds."""

    line: int = 65_536
    """Of a command without its literals. RFC 2683 §3.2.1.5 asks for 8,000; long UID sets need more."""
    line_before_login: int = 8_192
    """The same, until the client is authenticated: what strangers make us keep is little."""
    auth_line: int = 12_288
    """Of a line within AUTHENTICATE (RFC 4954 §4 limit, used for IMAP also)."""
    literals: int = 1_048_576
    """Of all literals of one command together, without APPEND's message."""
    literals_before_login: int = 4_096
    """The same, until the client is authenticated; then also in place of `skipped_literal`."""
    literal_count: int = 1_000
    """Literals of one command."""
    message: int = 52_428_800
    """Of APPEND's message."""
    non_synchronising: int | None = None
    """Of any literal that does not synchronise; None: like the others."""
    skipped_literal: int = 67_108_864
    """A refused literal that comes all the same is read and thrown away up to this size; for a larger one the
    connection is closed (RFC 7888 §4)."""
    bad_commands: int = 20
    """Bad commands in a row; the next one closes the connection."""
    login_timeout_s: float = 60.0
    """Silence until the client is authenticated (RFC 9051 §5.4 allows any time)."""
    autologout_s: float = 1_800.0
    """Silence after that: at least 30 minutes (RFC 9051 §5.4)."""
