"""What the POP3 server engine tells its service, in the order of the input.

Each event waits for an answer, and nothing further is read until then: `send_ok`, `send_err`,
`send_message`, `send_lines`, or `start_multiline` ... `end_multiline`; `Auth` and `AuthResponse`
alternatively `send_challenge`. Message numbers are 1 or more; whether they exist, the service knows.
"""

from dataclasses import dataclass, field

from pillarbox.core.secret import Secret


@dataclass(slots=True)
class Login:
    """USER and PASS. `send_ok` begins the TRANSACTION state."""

    username: str
    password: Secret


@dataclass(slots=True)
class Auth:
    """AUTH with one of the offered mechanisms (upper case); `initial` is decoded. `send_ok`: logged in."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(slots=True)
class AuthResponse:
    """The decoded response to the last challenge. A cancelled exchange just ends without one."""

    data: bytes = field(repr=False)


@dataclass(slots=True)
class Stat:
    pass


@dataclass(slots=True)
class List:
    """A scan listing of one message (one line), or of all (None: multi-line)."""

    number: int | None


@dataclass(slots=True)
class Retrieve:
    """RETR."""

    number: int


@dataclass(slots=True)
class Delete:
    """DELE."""

    number: int


@dataclass(slots=True)
class Reset:
    """RSET."""


@dataclass(slots=True)
class Top:
    """The header, the blank line and the first `lines` lines of the body (0 or more)."""

    number: int
    lines: int


@dataclass(slots=True)
class Uidl:
    """Unique id of one message (one line), or of all (None: multi-line)."""

    number: int | None


@dataclass(slots=True)
class Quit:
    """QUIT in the TRANSACTION state: delete now. The connection closes after the answer, +OK or -ERR."""


Event = Login | Auth | AuthResponse | Stat | List | Retrieve | Delete | Reset | Top | Uidl | Quit
