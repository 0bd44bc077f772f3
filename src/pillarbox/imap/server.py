"""The server's side of an IMAP connection (RFC 3501), without I/O: fits `core.engine.Engine`.

The engine frames and parses, keeps the protocol's state, and refuses by itself whatever is malformed, too large or
illegal in the present state. A `Command` it gives out is to be answered: any untagged responses, then `send_tagged`;
until then `next_event` says PAUSED and pipelined commands wait. The tagged answer moves the state: OK to LOGIN,
AUTHENTICATE, SELECT, CLOSE..., NO to SELECT (RFC 3501 §3); OK to STARTTLS sets `wants_tls`, OK to LOGOUT `closing`.
A SELECT that the engine itself refuses with NO leaves the selected state also. The engine does not interpret commands,
and does not know who the user is or what capabilities are announced.

No event costs more than one command, `Limits.bad_commands` bad ones before it and what else fits into their lines.

Once `closing` is set, everything sent is ignored, so that a command may end after the connection.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from enum import Enum

from pillarbox.core.engine import NEED_DATA, PAUSED, Heard, Wait
from pillarbox.core.errors import Failure, Refused, RemoteError
from pillarbox.imap.events import (
    AppendAborted,
    AppendData,
    AppendEnd,
    AppendNext,
    AppendStart,
    AuthResponse,
    Command,
    CommandRefused,
    Event,
    IdleDone,
)
from pillarbox.imap.framing import Frame, Framer, LineTooLong, LiteralHeader
from pillarbox.imap.grammar import ATOM_CLASS, Cursor, LiteralAwaited, decode_base64, shorten_word
from pillarbox.imap.limits import Limits
from pillarbox.imap.responses import status_text
from pillarbox.imap.shown import UNKNOWN_COMMAND, Commands, show_response
from pillarbox.imap.syntax_append import AppendSyntax, Target
from pillarbox.imap.table import COMMANDS, Row, State

_TAG = re.compile(rb"[!#$&',-\[\]^-z|}~]+")  # RFC 3501 §9: ASTRING-CHARs but "+"
_COMMAND_NAME = re.compile(rb" ((?:UID )?[%b]+)" % ATOM_CLASS, re.IGNORECASE)

_TLS_RECORD = b"\x16"
_OTHER_PROTOCOL = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI|EHLO|HELO|LHLO) ", re.IGNORECASE
)
"""Words of HTTP and SMTP with which a first command begins that we do not know."""

_STATE_AFTER: dict[tuple[str, bytes], State] = {
    ("LOGIN", b"OK"): State.AUTHENTICATED,
    ("AUTHENTICATE", b"OK"): State.AUTHENTICATED,
    ("SELECT", b"OK"): State.SELECTED,
    ("EXAMINE", b"OK"): State.SELECTED,
    # RFC 3501 §6.3.1: a SELECT that fails leaves no mailbox selected
    ("SELECT", b"NO"): State.AUTHENTICATED,
    ("EXAMINE", b"NO"): State.AUTHENTICATED,
    ("CLOSE", b"OK"): State.AUTHENTICATED,
    ("UNSELECT", b"OK"): State.AUTHENTICATED,
    ("LOGOUT", b"OK"): State.LOGOUT,
    ("UNAUTHENTICATE", b"OK"): State.NOT_AUTHENTICATED,  # RFC 8437 §3
}


class _Expects(Enum):
    """What the engine waits for."""

    COMMAND = "a command"
    ANSWER = "the answer to the command that it gave out"
    APPEND_GO = "the answer to AppendStart or AppendNext"
    APPEND_DONE = "nothing: an APPEND without literals is complete"
    MESSAGE = "octets of APPEND's message"
    APPEND_REST = "the end of the line after the message"
    AUTH_RESPONSE = "a line of AUTHENTICATE"
    DONE = "the end of IDLE"


_FROM_SERVICE = (_Expects.ANSWER, _Expects.APPEND_GO)


class Server:
    """`tls`: the connection is encrypted from the start. `commands`: what there is, see `table`."""

    __slots__ = (
        "_append",
        "_append_at",
        "_append_literals",
        "_at_end",
        "_bad_commands",
        "_commands",
        "_expects",
        "_first",
        "_framer",
        "_limits",
        "_literal_synchronises",
        "_name",
        "_next_piece",
        "_next_response",
        "_out",
        "_tag",
        "closing",
        "state",
        "takes_charset",
        "tls",
        "utf8",
        "wants_tls",
    )

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        tls: bool = False,
        commands: Mapping[bytes, Row] = COMMANDS,
    ) -> None:
        self.state = State.NOT_AUTHENTICATED
        self.tls = tls
        self.closing = False
        self.wants_tls = False
        self.utf8 = False
        self.takes_charset = True
        """Whether mailbox names are UTF-8, not modified UTF-7; set by the service (RFC 6855 §3)."""
        self._limits = limits or Limits()
        self._commands = commands
        self._framer = Framer()
        self._next_piece = self._framer.next_command
        self._next_response = self._framer.next_line
        self._out: list[bytes] = []
        self._expects = _Expects.COMMAND
        self._tag = b"*"
        self._name = ""  # of the command given out
        self._append = AppendSyntax(is_multiple=True)  # of the command that has messages
        self._append_at = 0  # where in its text to go on
        self._append_literals = 0  # arguments of it that were literals, and are read
        self._literal_synchronises: bool | None = (
            None  # that of its message; None: no literal is awaited
        )
        self._first = True  # no command has been read
        self._bad_commands = 0
        self._at_end = False

    # Input

    def receive(self, data: bytes) -> None:
        """See `core.engine`. Commands that are complete when the stream ends are still given out; an APPEND that
        it cuts short gives no more events."""
        if data:
            self._framer.feed(data)
        else:
            self._at_end = True

    def next_event(self) -> Event | Wait:
        """See `core.engine`."""
        while not self.closing and not self.wants_tls and self._expects not in _FROM_SERVICE:
            event = self._read()
            if event is NEED_DATA and self._at_end:
                self.closing = True
            elif event is not None:
                return event
        return PAUSED

    def _read(self) -> Event | Wait | None:
        """None: something was read, and the engine has dealt with it."""
        match self._expects:
            case _Expects.MESSAGE:
                return self._read_message()
            case _Expects.APPEND_DONE:
                self._expects = _Expects.ANSWER
                return AppendEnd([])
            case _Expects.AUTH_RESPONSE:
                return self._read_auth_response()
        if self._first and self._framer.starts_with(_TLS_RECORD):
            self.bye("This port does not begin with TLS")
            return None
        limits = self._limits
        most = limits.line if self._logged_in() else limits.line_before_login
        piece = self._next_piece(most)
        if piece is None:
            return NEED_DATA
        match self._expects:
            case _Expects.APPEND_REST:
                return self._go_on_append(piece)
            case _Expects.DONE:
                return self._end_idle(piece)
        match piece:
            case Frame():
                return self._read_command(piece)
            case LiteralHeader():
                return self._read_literal_header(piece)
            case LineTooLong():
                tag, space, _ = piece.text.partition(b" ")
                self._tag = tag if space and _TAG.fullmatch(tag) else b"*"
                self._bad("The command line is too long")
        return None

    def _read_command(self, frame: Frame) -> Event | None:
        cursor = Cursor(frame.text, frame.literals, utf8=self.utf8)
        cursor.takes_charset = self.takes_charset
        row = self._read_name(cursor)
        if row is None:
            return None
        if row.uploads:
            return self._start_append(frame, row, cursor)
        try:
            args = row.parse(cursor)
            cursor.end()
        except Failure as failure:
            return self._refuse(failure, row)
        self._accept(row, _Expects.ANSWER)
        return Command(self._tag, row.name, args)

    def _read_name(self, cursor: Cursor) -> Row | None:
        """The row of a command that is legal now; None: it is not, and that has been answered."""
        self._tag, text = b"*", cursor.text
        tag = _TAG.match(text)
        if tag is None:  # RFC 3501 §7.1.3: BAD is untagged if the tag is not known
            self._bad("Expected a tag" if text else "The line is empty")
            return None
        self._tag = tag[0]
        name = _COMMAND_NAME.match(text, tag.end())
        row = self._commands.get(name[1].upper()) if name else None
        if name is None or row is None:
            if self._first and _OTHER_PROTOCOL.match(text):
                self.bye("This is an IMAP server")
            else:
                known = f"{UNKNOWN_COMMAND} {shorten_word(name[1])}" if name else ""
                self._bad(known or "Expected a command after the tag")
            return None
        if self.state not in row.states:
            self._bad(f"Not allowed in the {self.state.value} state")
            return None
        if row.name == "STARTTLS" and self.tls:  # RFC 9051 §6.2.1
            self._bad("TLS is already active")
            return None
        cursor.position = name.end()
        return row

    def _accept(self, row: Row, expects: _Expects) -> None:
        self._name = row.name
        self._first = False
        self._bad_commands = 0
        self._expects = expects

    def _refuse(self, failure: Failure, row: Row) -> CommandRefused | None:
        """Answer the command being read: BAD if it is wrong, NO if it only cannot be."""
        if isinstance(failure, RemoteError):
            self._bad(failure.text)
            return None
        self._queue_status(self._tag, b"NO", failure.text, failure.code.encode("ascii"))
        self.state = _STATE_AFTER.get((row.name, b"NO"), self.state)
        return CommandRefused()

    def _bad(self, text: str, code: bytes = b"") -> None:
        self._queue_status(self._tag, b"BAD", text, code)
        self._first = False
        self._bad_commands += 1
        if self._bad_commands > self._limits.bad_commands:
            self.bye("Too many bad commands")

    # Literals and APPEND

    def _read_literal_header(self, header: LiteralHeader) -> Event | None:
        cursor = Cursor(header.text, header.literals, utf8=self.utf8)
        row = self._read_name(cursor)
        if row is None:
            self._drop_literal(header)
            return None
        most = self._limits.non_synchronising
        if most is not None and not header.synchronising and header.size > most:
            # RFC 7888 §5: MUST be BAD, with TOOBIG for APPEND
            code = b"TOOBIG" if row.name == "APPEND" else b""
            self._bad(f"Literals over {most} octets must synchronise", code)
            self._drop_literal(header)
            return None
        if row.uploads:
            return self._start_append(header, row, cursor)
        self._accept_argument(header)
        return None

    def _accept_argument(self, header: LiteralHeader) -> bool:
        """Take a literal that is an argument; False: it is too much, and that has been answered."""
        limits = self._limits
        most = limits.literals if self._logged_in() else limits.literals_before_login
        if header.total > most or len(header.literals) >= limits.literal_count:
            self._bad("The command has too many or too large literals")
            self._drop_literal(header)
            return False
        self._framer.accept_literal()
        if header.synchronising:
            self._out.append(b"+ OK\r\n")
        return True

    def _drop_literal(self, header: LiteralHeader) -> None:
        self._framer.refuse_literal(header.synchronising)
        limits = self._limits
        most = limits.skipped_literal if self._logged_in() else limits.literals_before_login
        if not header.synchronising and header.size > most:
            self.bye("The literal is too large", b"TOOBIG")

    def _logged_in(self) -> bool:
        return self.state is not State.NOT_AUTHENTICATED

    def _start_append(self, piece: Frame | LiteralHeader, row: Row, cursor: Cursor) -> Event | None:
        """The command up to its first message, or complete where no literal belongs to one."""
        header = piece if isinstance(piece, LiteralHeader) else None
        try:
            target = row.parse(cursor)
            assert isinstance(target, Target)
            syntax = AppendSyntax(is_multiple=row.name == "APPEND")
            self._ensure_message_size(header)
            steps, literal = syntax.read(cursor, header.size if header else None)
        except LiteralAwaited:
            assert header is not None
            self._accept_argument(header)
            return None
        except Failure as failure:
            refused = self._refuse(failure, row)
            if header is not None:
                self._drop_literal(header)
            return refused
        self._accept(row, _Expects.APPEND_GO)
        self._append = syntax
        self._await_message(piece)
        return AppendStart(self._tag, target, steps, literal)

    def _await_message(self, piece: Frame | LiteralHeader) -> None:
        self._append_at = len(piece.text)
        self._append_literals = len(piece.literals)
        self._literal_synchronises = None
        if isinstance(piece, LiteralHeader):
            self._literal_synchronises = piece.synchronising

    def _ensure_message_size(self, header: LiteralHeader | None) -> None:
        if header is not None and header.size > self._limits.message:  # RFC 7889 §4
            raise Refused("The message is too large", "TOOBIG")

    def _read_message(self) -> Event | Wait | None:
        chunk = self._framer.take_chunk()
        if chunk is None:
            return NEED_DATA
        if chunk:
            return AppendData(chunk)
        self._expects = _Expects.APPEND_REST
        return None

    def _go_on_append(self, piece: Frame | LiteralHeader | LineTooLong) -> Event | None:
        """What comes behind a message's literal: the end of the command, or more."""
        header = piece if isinstance(piece, LiteralHeader) else None
        try:
            if isinstance(piece, LineTooLong):
                raise RemoteError("The command line is too long")
            most = self._limits.non_synchronising
            if header and most is not None and not header.synchronising and header.size > most:
                raise RemoteError(f"Literals over {most} octets must synchronise", "TOOBIG")
            literals = piece.literals[self._append_literals :]
            cursor = Cursor(piece.text, literals, self._append_at, utf8=self.utf8)
            self._ensure_message_size(header)
            steps, literal = self._append.read(cursor, header.size if header else None)
        except LiteralAwaited:
            assert header is not None
            if self._accept_argument(header):
                return None
            self._expects = _Expects.COMMAND
            return AppendAborted()
        except Failure as failure:
            self._expects = _Expects.COMMAND
            if isinstance(failure, RemoteError):
                self._bad(failure.text, failure.code.encode("ascii"))
            else:
                self._queue_status(self._tag, b"NO", failure.text, failure.code.encode("ascii"))
            if header is not None:
                self._drop_literal(header)
            return AppendAborted()
        if literal is None:
            self._expects = _Expects.ANSWER
            return AppendEnd(steps)
        self._expects = _Expects.APPEND_GO
        self._await_message(piece)
        return AppendNext(steps, literal)

    def continue_append(self) -> None:
        """Go on after AppendStart or AppendNext: the literal follows, or without one AppendEnd."""
        if self.closing:
            return
        if self._expects is not _Expects.APPEND_GO:
            raise RuntimeError("continue_append without AppendStart")
        if self._literal_synchronises is None:
            self._expects = _Expects.APPEND_DONE
            return
        if self._literal_synchronises:
            self._out.append(b"+ OK\r\n")
        self._framer.stream_literal()
        self._expects = _Expects.MESSAGE

    # AUTHENTICATE, IDLE, STARTTLS

    def challenge(self, data: bytes = b"") -> None:
        """Send a challenge of AUTHENTICATE, not yet in base64; an AuthResponse follows."""
        if self.closing:
            return
        if not self._answers("AUTHENTICATE"):
            raise RuntimeError("challenge without AUTHENTICATE")
        self._out.append(b"+ %b\r\n" % b64encode(data))
        self._expects = _Expects.AUTH_RESPONSE

    def _read_auth_response(self) -> Event | Wait:
        line = self._next_response(self._limits.auth_line)
        if line is None:
            return NEED_DATA
        self._expects = _Expects.ANSWER
        if isinstance(line, LineTooLong):
            return AuthResponse(None, "The line is too long")
        if line == b"*":  # RFC 3501 §6.2.2: the client cancels, and MUST get BAD
            return AuthResponse(None, "AUTHENTICATE cancelled")
        try:
            return AuthResponse(decode_base64(line))
        except RemoteError as error:
            return AuthResponse(None, error.text)

    def continue_idle(self) -> None:
        """Go into IDLE (RFC 2177). Untagged responses may follow at any time, until IdleDone."""
        if self.closing:
            return
        if not self._answers("IDLE"):
            raise RuntimeError("continue_idle without IDLE")
        self._out.append(b"+ idling\r\n")
        self._expects = _Expects.DONE

    def _end_idle(self, piece: Frame | LiteralHeader | LineTooLong) -> Event:
        self._expects = _Expects.ANSWER
        if isinstance(piece, LiteralHeader):
            self._drop_literal(piece)
        return IdleDone(isinstance(piece, Frame) and piece.text.upper() == b"DONE")

    def tls_started(self) -> None:
        """See `core.engine`. The client's state is as before; nothing that came in the clear is left."""
        self.wants_tls = False
        self.tls = True
        self._framer.clear()

    # Output

    def data_to_send(self) -> list[bytes]:
        """See `core.engine`."""
        out, self._out = self._out, []
        return out

    def send_greeting(self, text: str, code: bytes = b"", status: bytes = b"OK") -> None:
        """The first thing to send. `status` is OK, PREAUTH (already authenticated) or BYE (not welcome)."""
        self._queue_status(b"*", status, text, code)
        if status == b"PREAUTH":
            self.state = State.AUTHENTICATED
        elif status == b"BYE":
            self.closing = True

    def send(self, response: bytes) -> None:
        """One whole untagged response, with `* ` and CRLF, as `responses` gives them."""
        if not self.closing:
            self._out.append(response)

    def send_rendered(self, pieces: list[bytes]) -> None:
        """Many untagged responses, cut anywhere."""
        if not self.closing:
            self._out += pieces

    def send_untagged(self, status: bytes, text: str, code: bytes = b"") -> None:
        """An untagged OK, NO, BAD or BYE; for a BYE that closes the connection at once there is `bye`."""
        if not self.closing:
            self._queue_status(b"*", status, text, code)

    def send_tagged(self, status: bytes, text: str, code: bytes = b"") -> None:
        """The end of the command given out: OK, NO or BAD. `code` is without brackets.

        After AppendStart, AppendNext or within APPEND's data it refuses the command; what comes of it is thrown away.
        """
        if self.closing:
            return
        match self._expects:
            case _Expects.ANSWER:
                pass
            case _Expects.APPEND_GO:
                if self._literal_synchronises is not None:
                    self._framer.refuse_literal(self._literal_synchronises)
            case _Expects.MESSAGE | _Expects.APPEND_REST:
                self._framer.refuse_rest()
            case _Expects.APPEND_DONE:
                pass
            case _:
                raise RuntimeError("send_tagged without a command")
        self._expects = _Expects.COMMAND
        if status == b"OK" and self._name == "STARTTLS":
            if self._framer.buffered:
                # Commands injected in the clear before the handshake (CVE-2011-0411).
                self._queue_status(self._tag, b"BAD", "Nothing may follow STARTTLS")
                self.closing = True
                return
            self.wants_tls = True
        self._queue_status(self._tag, status, text, code)
        self.state = _STATE_AFTER.get((self._name, status), self.state)
        self.closing = self.state is State.LOGOUT

    def bye(self, text: str, code: bytes = b"") -> None:
        """Say BYE and close, whatever is going on."""
        if not self.closing:
            self._queue_status(b"*", b"BYE", text, code)
            self.closing = True

    def _queue_status(self, tag: bytes, status: bytes, text: str, code: bytes = b"") -> None:
        self._out.append(b"%b %b\r\n" % (tag, status_text(status, text, code)))

    def deselect(self) -> None:
        """The selected mailbox is no more: back to the authenticated state, without a word to the client."""
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

    @property
    def tag(self) -> bytes:
        """Of the command given out."""
        return self._tag

    def observe(self, heard: Callable[[Heard], None] | None) -> None:
        """From now on, `heard` gets each line of a command, also within AUTHENTICATE, before it is answered; None: no
        more."""
        framer = self._framer
        self._next_piece, self._next_response = framer.next_command, framer.next_line
        if heard is None:
            return
        commands = Commands(self._commands)

        def next_piece(limit: int) -> Frame | LiteralHeader | LineTooLong | None:
            piece = framer.next_command(limit)
            if piece is not None:
                heard(commands.show(piece, is_idling=self._expects is _Expects.DONE))
            return piece

        def next_response(limit: int) -> bytes | LineTooLong | None:
            line = framer.next_line(limit)
            if line is not None:
                heard(show_response(line))
            return line

        self._next_piece, self._next_response = next_piece, next_response

    @property
    def is_idling(self) -> bool:
        """Whether the client is in IDLE."""
        return self._expects is _Expects.DONE

    @property
    def is_free(self) -> bool:
        """Whether untagged responses come between whole commands now, or in IDLE."""
        return self._expects in (_Expects.COMMAND, _Expects.DONE)

    @property
    def has_input(self) -> bool:
        """Whether something came behind the command given out."""
        return self._framer.buffered > 0

    @property
    def owes_answer(self) -> bool:
        """Whether `send_tagged` is due, now or later."""
        return self._expects in (
            *_FROM_SERVICE,
            _Expects.MESSAGE,
            _Expects.APPEND_REST,
            _Expects.APPEND_DONE,
        )

    def _answers(self, name: str) -> bool:
        return self._expects is _Expects.ANSWER and self._name == name

    # Time

    def timeout(self) -> float | None:
        """See `core.engine`. None while the peer waits for us."""
        if self._expects in _FROM_SERVICE:
            return None
        return self._limits.autologout_s if self._logged_in() else self._limits.login_timeout_s

    @property
    def is_amid_message(self) -> bool:
        """Whether octets of a message are on their way, of which each piece is an event."""
        return self._expects is _Expects.MESSAGE

    def timed_out(self) -> None:
        """See `core.engine`."""
        self.bye("Idle for too long")  # RFC 3501 §7.1.5
