"""What the server engine tells its driver (`server.Server.next_event`)."""

from dataclasses import dataclass, field

from pillarbox.imap.grammar import FlagList
from pillarbox.imap.table import Arguments


@dataclass(slots=True)
class Command:
    """A well-formed command that is legal now. `name` is upper case and without "UID ", which is a field of `args`.

    Answer it with `send_tagged`.
    """

    tag: bytes
    name: str
    args: Arguments


@dataclass(slots=True)
class AppendStart:
    """APPEND, before its message of `size` octets. `date_time` is packed (`core.dates`) or None.

    `continue_append`, or refuse with `send_tagged`.
    """

    tag: bytes
    mailbox: str
    flags: FlagList
    date_time: int | None
    size: int


@dataclass(slots=True)
class AppendData:
    """The next octets of the message, never empty. NULs are not removed."""

    chunk: bytes = field(repr=False)


@dataclass(slots=True)
class AppendEnd:
    """The message is complete, and so is the command. Answer it with `send_tagged`."""


@dataclass(slots=True)
class AppendAborted:
    """The message was complete, the rest of the command was wrong, and the engine has said so: drop the message."""


@dataclass(slots=True)
class AuthResponse:
    """The client's response to `challenge`, decoded. With `data` None the exchange has failed: answer BAD with
    `problem` as the text. (RFC 3501 §6.2.2: so when the client cancels, too.)"""

    data: bytes | None = field(repr=False)
    problem: str = ""


@dataclass(slots=True)
class IdleDone:
    """The client ended IDLE: answer OK; or, not `valid`, with anything but DONE: answer BAD."""

    valid: bool = True


Event = Command | AppendStart | AppendData | AppendEnd | AppendAborted | AuthResponse | IdleDone
