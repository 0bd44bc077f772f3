"""What the server engine tells its driver (`server.Server.next_event`)."""

from dataclasses import dataclass, field

from pillarbox.imap.syntax_append import MessageLiteral, Step, Target
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
    """APPEND or REPLACE, before the octets of its first literal, or complete where it has none (CATENATE of URLs).

    `continue_append`, or refuse with `send_tagged`.
    """

    tag: bytes
    target: Target
    steps: list[Step]
    literal: MessageLiteral | None


@dataclass(slots=True)
class AppendNext:
    """What follows a literal, up to the next one; answered as AppendStart is."""

    steps: list[Step]
    literal: MessageLiteral


@dataclass(slots=True)
class AppendData:
    """The next octets of the literal, never empty. NULs are not removed."""

    chunk: bytes = field(repr=False)


@dataclass(slots=True)
class AppendEnd:
    """All messages are complete after these steps, and so is the command. Answer it with `send_tagged`."""

    steps: list[Step]


@dataclass(slots=True)
class AppendAborted:
    """The rest of the command was wrong, and the engine has said so: drop all its messages."""


@dataclass(slots=True)
class CommandRefused:
    """The engine has said NO to a command by itself. Nothing is to be done; whoever counts events counts it, for a
    client may send any number of such commands at once."""


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


Event = (
    Command
    | AppendStart
    | AppendNext
    | AppendData
    | AppendEnd
    | AppendAborted
    | CommandRefused
    | AuthResponse
    | IdleDone
)
