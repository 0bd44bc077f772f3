"""The POP3 server engine (RFC 1939, 2449, 2595, 3206, 5034, 6856).

Shape: `core.engine`. It owns framing, states, limits and byte-stuffing; it decides nothing about
passwords and maildrops. A session begins with `send_ok("Pillarbox ready.")`, or with `send_err` to
refuse the client. Commands that need no decision (CAPA, NOOP, USER, STLS, QUIT before login, and
everything that is wrong) are answered here, in order with the others. There is no APOP: it needs
passwords that are stored in the clear.

Pipelined commands wait until the event before them is answered. The driver must stop reading while
`next_event` says PAUSED: `receive` only buffers.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pillarbox.core.engine import NEED_DATA, PAUSED, Heard, Wait
from pillarbox.core.secret import Secret
from pillarbox.pop3.capabilities import Situation, capability_lines
from pillarbox.pop3.events import (
    Auth,
    AuthResponse,
    Delete,
    Event,
    List,
    Login,
    Quit,
    Reset,
    Retrieve,
    Stat,
    Top,
    Uidl,
)
from pillarbox.pop3.lines import ENDLESS, BadLine, CommandLines
from pillarbox.pop3.multiline import END, stuff, with_crlf
from pillarbox.pop3.options import ServerOptions
from pillarbox.pop3.shown import show_line
from pillarbox.sasl.exchange import (
    MAX_IDENTITY_OCTETS,
    MAX_PASSWORD_OCTETS,
    decode_base64,
    decode_initial,
    decode_text,
    encode_base64,
)

_NOT_TEXT = re.compile(r"[^ -~]")
_MAX_TEXT = 500
"""Characters: RFC 2449 §4 limits the first line of a response to 512 octets."""

_NUMBER = re.compile(rb"[0-9]{1,10}")


class _State(Enum):
    AUTHORIZATION = "AUTHORIZATION"
    TRANSACTION = "TRANSACTION"


class _Phase(Enum):
    """What the next input is, or what waits for an answer."""

    COMMAND = "command"
    AUTH_RESPONSE = "response in an AUTH exchange"
    TLS = "handshake"
    # Each of these waits for the service
    GREETING = "greeting"
    LOGIN = "PASS"
    AUTH = "AUTH or a response in its exchange"
    TRANSACTION = "a command of the TRANSACTION state"
    QUIT = "QUIT"
    MULTILINE = "the rest of a multi-line response"


_READS = frozenset({_Phase.COMMAND, _Phase.AUTH_RESPONSE, _Phase.TLS})


@dataclass(slots=True, frozen=True)
class _Err:
    """-ERR with this text."""

    text: str


@dataclass(slots=True, frozen=True)
class _Ok:
    """+OK with this text, then these lines if it is a multi-line response."""

    text: str = ""
    lines: tuple[bytes, ...] | None = None


_Outcome = Event | _Ok | _Err

_BAD_NUMBER = _Err("Bad message number")
_NOT_NOW = _Err("Not permitted in this state")
_TLS_FIRST = _Err("Login needs TLS: send STLS first")
_LINE_TOO_LONG = _Err("Line too long")
_BAD_BASE64 = _Err("Cannot decode base64")


class Pop3Server:
    """One connection. `tls` says whether it began with a handshake (RFC 8314 §3.3)."""

    __slots__ = (
        "_eof",
        "_errors",
        "_lines",
        "_next_line",
        "_options",
        "_output",
        "_phase",
        "_shutting_down",
        "_state",
        "_username",
        "closing",
        "mechanisms",
        "tls",
        "utf8",
        "wants_tls",
    )

    def __init__(self, options: ServerOptions, *, tls: bool = False) -> None:
        self._options = options
        self.tls = tls
        self.mechanisms = options.mechanisms
        """SASL mechanisms, upper case; those of the options until the service knows better."""
        self.utf8 = False
        """The client takes header fields in UTF-8 (RFC 6856 §2.1)."""
        self.closing = False
        self.wants_tls = False
        self._state = _State.AUTHORIZATION
        self._phase = _Phase.GREETING
        self._lines = CommandLines()
        self._next_line = self._lines.next_line
        self._output: list[bytes] = []
        self._username: str | None = None
        self._errors = 0
        self._eof = False
        self._shutting_down = False

    # What the driver calls

    def receive(self, data: bytes) -> None:
        """Buffer input; `b""` is the end of the stream: what came before it is still served."""
        if self.closing:
            return
        if self._phase is _Phase.TLS:
            # Plain text where the handshake should be: never to be read as a command (RFC 2595 §4).
            self.closing = True
        elif data:
            self._lines.feed(data)
        else:
            self._eof = True

    def next_event(self) -> Event | Wait:
        outcome: _Outcome
        limits = self._options.limits
        while not self.closing:
            if self._phase is _Phase.COMMAND:
                line = self._next_line(limits.command_line)
                if line is None:
                    return self._starved()
                outcome = self._command(line)
            elif self._phase is _Phase.AUTH_RESPONSE:
                line = self._next_line(limits.auth_line)
                if line is None:
                    return self._starved()
                outcome = self._auth_response(line)
            else:
                break
            if isinstance(outcome, _Err):
                self._refuse(outcome)
            elif isinstance(outcome, _Ok):
                self._accept(outcome)
            else:
                return outcome
        return PAUSED

    def data_to_send(self) -> list[bytes]:
        output = self._output
        self._output = []
        return output

    def tls_started(self) -> None:
        """The handshake is done: a fresh AUTHORIZATION state (RFC 2595 §4)."""
        self.wants_tls = False
        self.tls = True
        self._username = None
        self._phase = _Phase.COMMAND

    def timeout(self) -> float | None:
        """None while an event waits for its answer. RFC 1939 §3"""
        if self._phase not in _READS:
            return None
        limits = self._options.limits
        logged_in = self._state is _State.TRANSACTION
        return limits.timeout_s if logged_in else limits.login_timeout_s

    @property
    def is_amid_message(self) -> bool:
        """Clients send no messages here."""
        return False

    def timed_out(self) -> None:
        """RFC 1939 §3: close without UPDATE and without any response."""
        self._close()

    @property
    def stage(self) -> str:
        """The state by its name (RFC 1939 §3), for people."""
        return self._state.value.lower()

    def observe(self, heard: Callable[[Heard], None] | None) -> None:
        """From now on, `heard` gets each line, also within AUTH, before it is answered; None: nobody does."""
        lines = self._lines
        if heard is None:
            self._next_line = lines.next_line
            return

        def next_line(limit: int) -> bytes | BadLine | None:
            line = lines.next_line(limit)
            if line is not None:
                is_response = self._phase is _Phase.AUTH_RESPONSE
                heard(show_line(line, _COMMANDS, is_response=is_response))
            return line

        self._next_line = next_line

    # What the service calls

    def send_ok(self, text: str = "") -> None:
        """Answer with +OK, one line. For `Login`, `Auth` and `AuthResponse` it means: logged in.

        This and all `send_...` and `..._multiline` raise RuntimeError if nothing waits for them.
        """
        phase = self._end_wait()
        self._output.append(_line("+OK", text))
        if phase in (_Phase.LOGIN, _Phase.AUTH):
            self._state = _State.TRANSACTION
        self._after(phase)

    def send_err(self, text: str, code: str = "") -> None:
        """Answer with -ERR. `code` is a response code without brackets: IN-USE, AUTH, SYS/TEMP, SYS/PERM or
        LOGIN-DELAY (RFC 2449 §8, RFC 3206 §4). For the greeting it closes the connection."""
        phase = self._end_wait()
        self._output.append(_line("-ERR", f"[{code}] {text}" if code else text))
        if phase in (_Phase.LOGIN, _Phase.AUTH):
            self._errors += 1
        if phase is _Phase.GREETING:
            self._close()
        self._after(phase)

    def send_challenge(self, challenge: bytes) -> None:
        """Answer `Auth` or `AuthResponse` with a challenge, not yet base64 (RFC 5034 §4)."""
        if self._phase is not _Phase.AUTH:
            raise RuntimeError("no AUTH exchange waits for a challenge")
        self._output.append(b"+ " + encode_base64(challenge) + b"\r\n")
        self._phase = _Phase.AUTH_RESPONSE

    def send_message(self, octets: bytes, *, has_crlf: bool = False) -> None:
        """Answer `Retrieve` or `Top` with a whole message, or the part asked for, as it is stored. `has_crlf`: every
        line is known to end with CRLF, which saves a look at all of them."""
        phase = self._end_wait(_Phase.TRANSACTION)
        # Whatever a damaged file says of a message: without the last CRLF, its end would be no line of its own.
        if not (has_crlf and octets.endswith(b"\r\n")):
            octets = with_crlf(octets)
        self._output += (b"+OK %d octets\r\n" % len(octets), stuff(octets), END)
        self._after(phase)

    def send_lines(self, text: str, lines: list[bytes]) -> None:
        """Answer a `List` or `Uidl` of all messages. Each line has its CRLF and begins with no dot."""
        phase = self._end_wait(_Phase.TRANSACTION)
        self._output.append(_line("+OK", text))
        self._output += lines
        self._output.append(END)
        self._after(phase)

    def start_multiline(self, text: str) -> None:
        """Begin a multi-line answer that does not fit into memory, or not into one turn."""
        self._end_wait(_Phase.TRANSACTION)
        self._output.append(_line("+OK", text))
        self._phase = _Phase.MULTILINE

    def send_rendered(self, pieces: list[bytes]) -> None:
        """Go on with it: lines as they are to be sent, byte-stuffed (`multiline.Stuffer`)."""
        if self._phase is not _Phase.MULTILINE:
            raise RuntimeError("no multi-line response was started")
        self._output += pieces

    def end_multiline(self) -> None:
        """End it; the last line must have had its CRLF."""
        phase = self._end_wait(_Phase.MULTILINE)
        self._output.append(END)
        self._after(phase)

    def shut_down(self) -> None:
        """Finish the command in hand, then close. Deletions are not made (RFC 1939 §6)."""
        self._shutting_down = True
        if self._phase in _READS:
            self._after(self._phase)

    # Turns

    def _end_wait(self, expected: _Phase | None = None) -> _Phase:
        """The phase that ends with this answer."""
        phase = self._phase
        if phase in _READS or (phase is _Phase.MULTILINE) != (expected is _Phase.MULTILINE):
            raise RuntimeError("no event waits for this answer")
        if expected is not None and phase is not expected:
            raise RuntimeError(f"{phase.value} takes no multi-line response")
        self._phase = _Phase.COMMAND
        return phase

    def _after(self, phase: _Phase) -> None:
        if phase is _Phase.QUIT:
            self._close()
        elif self._shutting_down and not self.closing:
            if phase is not _Phase.TLS:
                self._output.append(_line("-ERR", "[SYS/TEMP] The server ends this session"))
            self._close()

    def _starved(self) -> Wait:
        if self._eof:
            self._close()
            return PAUSED
        return NEED_DATA

    def _close(self) -> None:
        self.closing = True
        self._lines.clear()

    def _accept(self, outcome: _Ok) -> None:
        self._output.append(_line("+OK", outcome.text))
        if outcome.lines is not None:
            self._output += (*outcome.lines, END)

    def _refuse(self, outcome: _Err) -> None:
        self._output.append(_line("-ERR", outcome.text))
        self._errors += 1

    def _situation(self) -> Situation:
        return Situation(
            self._options, self.tls, self._state is _State.TRANSACTION, self.mechanisms
        )

    # Input

    def _command(self, line: bytes | BadLine) -> _Outcome:
        if self._errors >= self._options.limits.errors or line is ENDLESS:
            self._close()
            return _Err("Too many errors")
        if not isinstance(line, bytes):
            return _LINE_TOO_LONG
        keyword, _, argument = line.partition(b" ")
        command = _COMMANDS.get(keyword.upper())
        if command is None:
            return _Err("Unknown command")
        if command.state is not None and command.state is not self._state:
            return _NOT_NOW
        if not command.takes_argument and argument.strip():
            return _Err("This command takes no argument")
        return command.run(self, argument)

    def _auth_response(self, line: bytes | BadLine) -> _Outcome:
        """RFC 5034 §4"""
        self._phase = _Phase.COMMAND
        if not isinstance(line, bytes):
            if line is ENDLESS:
                self._close()
            return _LINE_TOO_LONG
        if line == b"*":
            return _Err("Authentication cancelled")
        response = decode_base64(line)
        if response is None:
            return _BAD_BASE64
        self._phase = _Phase.AUTH
        return AuthResponse(response)

    # Commands of the AUTHORIZATION state

    def _user(self, argument: bytes) -> _Outcome:
        if not self._situation().login_allowed:
            return _TLS_FIRST
        self._username = decode_text(argument.strip(), MAX_IDENTITY_OCTETS)
        return _Err("Bad user name") if self._username is None else _Ok()

    def _pass(self, argument: bytes) -> _Outcome:
        username = self._username
        if username is None:
            return _Err("Send USER first")
        self._username = None
        # RFC 1939 §7: spaces may be part of the password
        password = decode_text(argument, MAX_PASSWORD_OCTETS)
        if password is None:
            return _Err("Bad password syntax")
        self._phase = _Phase.LOGIN
        return Login(username, Secret(password))

    def _auth(self, argument: bytes) -> _Outcome:
        """RFC 5034 §4"""
        if not self._situation().login_allowed:
            return _TLS_FIRST
        name, _, encoded = argument.strip().partition(b" ")
        mechanism = name.upper().decode("ascii", "replace")
        if mechanism not in self.mechanisms:
            return _Err("Unrecognized authentication mechanism")
        initial = decode_initial(encoded) if encoded else None
        if encoded and initial is None:
            return _BAD_BASE64
        self._username = None
        self._phase = _Phase.AUTH
        return Auth(mechanism, initial)

    def _stls(self, argument: bytes) -> _Outcome:
        """RFC 2595 §4"""
        if self.tls:
            return _Err("Command not permitted when TLS active")
        if self.utf8:
            return _Err("STLS comes before UTF8")  # RFC 6856 §2.1
        if not self._options.stls:
            return _Err("TLS is not available")
        if self._lines:
            # What was sent in the clear behind STLS must not count as sent under TLS.
            self._close()
            return _Err("STLS must be the last command in a group")
        self.wants_tls = True
        self._phase = _Phase.TLS
        return _Ok("Begin TLS negotiation")

    def _utf8(self, argument: bytes) -> _Outcome:
        """RFC 6856 §2.1"""
        if not self._options.utf8:
            return _Err("UTF8 is switched off")
        self.utf8 = True
        return _Ok("UTF-8 enabled")

    # Commands of both states

    def _lang(self, argument: bytes) -> _Outcome:
        """RFC 6856 §3.2: there is one language."""
        wanted = argument.strip().lower()
        if not wanted:
            return _Ok("Language listing follows:", (b"en English\r\n",))
        if wanted in (b"*", b"en"):
            return _Ok("en Responses are in English")
        return _Err("No such language here; responses are in English")

    def _capa(self, argument: bytes) -> _Outcome:
        lines = capability_lines(self._situation())
        return _Ok("Capability list follows", tuple(lines))

    def _quit(self, argument: bytes) -> _Outcome:
        if self._state is _State.TRANSACTION:
            self._phase = _Phase.QUIT
            return Quit()
        self._close()
        return _Ok("Logging out.")

    # Commands of the TRANSACTION state

    def _noop(self, argument: bytes) -> _Outcome:
        return _Ok()

    def _stat(self, argument: bytes) -> _Outcome:
        return self._ask(Stat())

    def _list(self, argument: bytes) -> _Outcome:
        return self._listing(List, argument)

    def _uidl(self, argument: bytes) -> _Outcome:
        return self._listing(Uidl, argument)

    def _retr(self, argument: bytes) -> _Outcome:
        number = _parse_number(argument)
        return self._ask(Retrieve(number)) if number else _BAD_NUMBER

    def _dele(self, argument: bytes) -> _Outcome:
        number = _parse_number(argument)
        return self._ask(Delete(number)) if number else _BAD_NUMBER

    def _rset(self, argument: bytes) -> _Outcome:
        return self._ask(Reset())

    def _top(self, argument: bytes) -> _Outcome:
        first, _, second = argument.strip().partition(b" ")
        number = _parse_number(first)
        lines = _parse_number(second)
        if not number or lines is None:
            return _Err("Syntax: TOP msg n")
        return self._ask(Top(number, lines))

    def _listing(self, event: type[List] | type[Uidl], argument: bytes) -> _Outcome:
        if not argument.strip():
            return self._ask(event(None))
        number = _parse_number(argument)
        return self._ask(event(number)) if number else _BAD_NUMBER

    def _ask(self, event: Event) -> Event:
        self._phase = _Phase.TRANSACTION
        return event


def _parse_number(argument: bytes) -> int | None:
    """None if it is not a number; 0 is one, but of no message (RFC 1939 §5)."""
    digits = argument.strip()
    return int(digits) if _NUMBER.fullmatch(digits) else None


def _line(status: str, text: str) -> bytes:
    """The first line of a response: what may not stand there becomes "?"."""
    if not (text.isascii() and text.isprintable()):
        text = _NOT_TEXT.sub("?", text)
    return f"{status} {text[:_MAX_TEXT]}\r\n".encode("ascii") if text else f"{status}\r\n".encode()


@dataclass(slots=True, frozen=True)
class _Command:
    """A row of the command table. `state` None: both."""

    run: Callable[[Pop3Server, bytes], _Outcome]
    state: _State | None
    takes_argument: bool = False


_COMMANDS: dict[bytes, _Command] = {
    b"USER": _Command(Pop3Server._user, _State.AUTHORIZATION, True),
    b"PASS": _Command(Pop3Server._pass, _State.AUTHORIZATION, True),
    b"AUTH": _Command(Pop3Server._auth, _State.AUTHORIZATION, True),
    b"STLS": _Command(Pop3Server._stls, _State.AUTHORIZATION),
    b"UTF8": _Command(Pop3Server._utf8, _State.AUTHORIZATION),
    b"LANG": _Command(Pop3Server._lang, None, True),
    b"CAPA": _Command(Pop3Server._capa, None),
    b"QUIT": _Command(Pop3Server._quit, None),
    b"NOOP": _Command(Pop3Server._noop, _State.TRANSACTION),
    b"STAT": _Command(Pop3Server._stat, _State.TRANSACTION),
    b"LIST": _Command(Pop3Server._list, _State.TRANSACTION, True),
    b"UIDL": _Command(Pop3Server._uidl, _State.TRANSACTION, True),
    b"RETR": _Command(Pop3Server._retr, _State.TRANSACTION, True),
    b"DELE": _Command(Pop3Server._dele, _State.TRANSACTION, True),
    b"RSET": _Command(Pop3Server._rset, _State.TRANSACTION),
    b"TOP": _Command(Pop3Server._top, _State.TRANSACTION, True),
}
