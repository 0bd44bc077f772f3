"""What the SMTP server engine tells its service, in the order of the input.

`Reset`, `Quit` and `BodyChunk` only inform. Every other event waits for `SmtpServer.send` (an `Auth` or
`AuthResponse` alternatively for `send_challenge`, a `Delay` for `end_delay`), and nothing further is read until then.
"""

from dataclasses import dataclass, field

from pillarbox.core.address import Address


@dataclass(slots=True)
class Hello:
    """EHLO, HELO (`extended` tells) or LHLO: accept with `SmtpServer.hello_reply()`. A transaction is over then."""

    extended: bool
    domain: str
    """As the client wrote it: a name, an address literal, or nonsense without spaces."""


@dataclass(slots=True)
class Mail:
    reverse_path: Address | None
    """None is the null path <> (RFC 5321 §4.5.5)."""
    size_bytes: int | None
    """As declared by SIZE= (RFC 1870 §6), never over the limit; None if not declared."""
    parameters: dict[str, str]
    """All parameters, names in upper case, values as they came and of valid syntax."""


@dataclass(slots=True)
class Rcpt:
    forward_path: Address
    """For <postmaster> in any case: `Address("postmaster", "")` (RFC 5321 §4.1.1.3)."""
    raw: str
    """As written between < and >, without source route: for logs and Delivered-To."""
    parameters: dict[str, str]


@dataclass(slots=True)
class DataStart:
    """DATA, or the first BDAT of a message, with one accepted recipient or more. START_MAIL_INPUT lets the message
    come; a 4yz or 5yz reply declines, and the transaction is over. (After BDAT, 354 is not said: the octets come
    anyway.)"""


@dataclass(slots=True)
class BodyChunk:
    """The next piece of the message, transparency dots removed, never empty. No CRLF is cut by its ends."""

    data: bytes


@dataclass(slots=True)
class BodyEnd:
    """The end of the message. Whatever the reply is, the transaction is over."""

    size_bytes: int
    """As RFC 1870 §5 counts, also where `too_big`."""
    bare_cr_or_lf: bool
    """Some CR or LF stood alone: refuse it (BARE_CR_OR_LF_IN_DATA) or mend it (`LineEndNormalizer`)."""
    too_big: bool
    """The size limit was passed, and chunks were left out: reply TOO_BIG. Never after BDAT."""


@dataclass(slots=True)
class Auth:
    """AUTH with one of the offered mechanisms (upper case). `initial` is the decoded initial response."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(slots=True)
class AuthResponse:
    """The decoded response to the last challenge. A cancelled exchange just ends without one."""

    data: bytes = field(repr=False)


@dataclass(slots=True)
class Xclient:
    """XCLIENT of a client that may speak for another: who that is. Accept with the greeting; the session begins anew
    then, but under the same TLS. `SmtpServer.authenticated` may be set where LOGIN is believed."""

    attributes: dict[str, str]
    """Names in upper case, values decoded; "" where the value is unavailable."""


@dataclass(slots=True)
class Delay:
    """A 5yz reply has to wait: call `SmtpServer.end_delay` after so many seconds."""

    seconds: float


@dataclass(slots=True)
class Reset:
    """RSET, or a chunk that was refused: the transaction, if any, is over."""


@dataclass(slots=True)
class Quit:
    """QUIT was answered; the connection closes."""


Event = (
    Hello
    | Mail
    | Rcpt
    | DataStart
    | BodyChunk
    | BodyEnd
    | Auth
    | AuthResponse
    | Xclient
    | Delay
    | Reset
    | Quit
)
