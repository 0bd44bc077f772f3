"""The SMTP server engine: MX, submission and lab servers alike (RFC 5321, 1870, 2034, 2920, 3207, 4954).

Shape: `core.engine`. It owns framing, order of commands, limits and transparency; it decides nothing
about mailboxes and passwords. A session begins with `send(greeting(hostname))`, or with a 554 or 421
reply to refuse the client. Commands that need no decision (NOOP, RSET, HELP, VRFY, EXPN, QUIT, STARTTLS,
and everything that is wrong) are answered here, in order with the others.

Pipelined commands wait until the event before them is answered. The driver must stop reading while
`next_event` says PAUSED: `receive` only buffers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.sasl.exchange import decode_base64, decode_initial, encode_base64
from pillarbox.smtp import reply as replies
from pillarbox.smtp.data import DataDecoder
from pillarbox.smtp.events import (
    Auth,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    DataStart,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
)
from pillarbox.smtp.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS, Situation, ehlo_lines
from pillarbox.smtp.grammar import parse_hello, parse_mail, parse_rcpt
from pillarbox.smtp.lines import TOO_LONG, BadLine, CommandLines
from pillarbox.smtp.options import ServerOptions
from pillarbox.smtp.reply import Reply, bad_syntax, format_reply


class _Phase(Enum):
    """What the next input is, or what waits for an answer."""

    COMMAND = "command"
    AUTH_RESPONSE = "response in an AUTH exchange"
    DATA = "mail data"
    DATA_END = "the service has to be told that mail data is over"
    TLS = "handshake"
    # Each of these waits for `send`
    GREETING = "greeting"
    HELLO = "EHLO or HELO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA_START = "DATA"
    BODY_END = "end of mail data"
    AUTH = "AUTH or a response in its exchange"


_READS = frozenset({_Phase.COMMAND, _Phase.AUTH_RESPONSE, _Phase.DATA, _Phase.DATA_END, _Phase.TLS})


class SmtpServer:
    """One connection. `tls` says whether it began with a handshake (RFC 8314 §3.3)."""

    __slots__ = (
        "_commands",
        "_data",
        "_eof",
        "_errors",
        "_extended",
        "_greeted",
        "_in_transaction",
        "_lines",
        "_options",
        "_output",
        "_phase",
        "_recipients",
        "_refusals",
        "_refuses_client",
        "_shutting_down",
        "_tried_recipients",
        "authenticated",
        "closing",
        "tls",
        "wants_tls",
    )

    def __init__(self, options: ServerOptions, *, tls: bool = False) -> None:
        self._options = options
        self.tls = tls
        self.authenticated = False
        self.closing = False
        self.wants_tls = False
        self._phase = _Phase.GREETING
        self._lines = CommandLines()
        self._data = DataDecoder()
        self._output: list[bytes] = []
        self._eof = False
        self._in_transaction = False
        self._recipients = 0  # accepted in this transaction
        self._tried_recipients = False
        self._refuses_client = False
        self._shutting_down = False
        self._greeted = False
        self._extended = False
        self._errors = 0
        self._refusals = 0
        self._commands = 0

    # What the driver calls

    def receive(self, data: bytes) -> None:
        """Buffer input; `b""` is the end of the stream: what came before it is still served."""
        if self.closing:
            return
        if self._phase is _Phase.TLS:
            # Plain text where the handshake should be: never to be read as a command (RFC 3207 §4.2).
            self.closing = True
        elif data:
            self._lines.feed(data)
        else:
            self._eof = True

    def next_event(self) -> Event | Wait:
        outcome: Event | Reply | None
        while not self.closing:
            phase = self._phase
            if phase is _Phase.COMMAND:
                line = self._lines.next_line(self._options.limits.command_line)
                if line is None:
                    return self._starved()
                outcome = self._command(line)
            elif phase is _Phase.DATA:
                if not self._lines:
                    return self._starved()
                outcome = self._mail_data()
            elif phase is _Phase.DATA_END:
                outcome = self._mail_data_end()
            elif phase is _Phase.AUTH_RESPONSE:
                line = self._lines.next_line(self._options.limits.auth_line)
                if line is None:
                    return self._starved()
                outcome = self._auth_response(line)
            else:
                break
            if isinstance(outcome, Reply):
                self._answer(outcome)
            elif outcome is not None:
                return outcome
        return PAUSED

    def data_to_send(self) -> list[bytes]:
        output = self._output
        self._output = []
        return output

    def tls_started(self) -> None:
        """The handshake is done: back to the state after the greeting (RFC 3207 §4.2)."""
        self.wants_tls = False
        self.tls = True
        self.authenticated = False
        self._greeted = False
        self._end_transaction()
        self._lines.clear()
        self._phase = _Phase.COMMAND

    def timeout(self) -> float | None:
        """None while an event waits for its answer. RFC 5321 §4.5.3.2.7"""
        return self._options.limits.timeout_s if self._phase in _READS else None

    def timed_out(self) -> None:
        if self._phase is _Phase.TLS:
            self.closing = True
        elif not self.closing:
            self._answer(replies.TIMED_OUT)

    @property
    def is_mail_data_clean(self) -> bool:
        """Whether the present message had no bare CR or LF yet, up to the last `BodyChunk`."""
        return not self._data.bare_cr_or_lf

    # What the service calls

    def send(self, reply: Reply) -> None:
        """Answer the event that waits. 421 also closes the connection.

        Raises RuntimeError if no event waits, or if 354 answers anything but `DataStart`.
        """
        phase = self._phase
        if phase in _READS:
            raise RuntimeError("no event waits for a reply")
        if reply.positive and (reply.code == 354) != (phase is _Phase.DATA_START):
            raise RuntimeError(f"{reply.code} does not answer {phase.value}")
        self._phase = _Phase.COMMAND
        self._output.append(format_reply(reply))
        if reply.code >= 500:
            if phase is _Phase.AUTH:
                self._errors += 1
            else:
                self._refusals += 1
        if phase is _Phase.RCPT:
            self._recipients += reply.positive
        elif phase is _Phase.MAIL:
            self._in_transaction = reply.positive
        elif phase is _Phase.DATA_START and reply.positive:
            self._data = DataDecoder()
            self._phase = _Phase.DATA
        elif phase in (_Phase.BODY_END, _Phase.DATA_START):
            self._end_transaction()
            if reply.positive:
                self._errors = self._refusals = self._commands = 0
        elif phase is _Phase.HELLO and reply.positive:
            self._greeted = True
            self._end_transaction()  # RFC 5321 §4.1.4: as if RSET had been issued
        elif phase is _Phase.AUTH:
            self.authenticated = reply.positive
        elif phase is _Phase.GREETING:
            self._refuses_client = not reply.positive
        if reply.code == 421:
            self._close()
        elif self._shutting_down and self._phase is _Phase.COMMAND:
            self._answer(replies.SHUTTING_DOWN)

    def send_challenge(self, challenge: bytes) -> None:
        """Answer `Auth` or `AuthResponse` with a challenge, not yet base64 (RFC 4954 §4).

        Raises RuntimeError if neither waits.
        """
        if self._phase is not _Phase.AUTH:
            raise RuntimeError("no AUTH exchange waits for a challenge")
        self._output.append(b"334 " + encode_base64(challenge) + b"\r\n")
        self._phase = _Phase.AUTH_RESPONSE

    def hello_reply(self) -> Reply:
        """What accepts the present `Hello` (RFC 5321 §4.1.1.1)."""
        lines = ehlo_lines(self._situation()) if self._extended else []
        return Reply(250, "", "\n".join([self._options.hostname, *lines]))

    def shut_down(self) -> None:
        """Finish the command or message in hand, then 421 (RFC 5321 §3.8)."""
        self._shutting_down = True
        if self._phase is _Phase.TLS:
            self.closing = True
        elif self._phase in (_Phase.COMMAND, _Phase.AUTH_RESPONSE) and not self.closing:
            self._answer(replies.SHUTTING_DOWN)

    # Input

    def _starved(self) -> Wait:
        if self._eof:
            self._close()
            return PAUSED
        return NEED_DATA

    def _command(self, line: bytes | BadLine) -> Event | Reply:
        limits = self._options.limits
        self._commands += 1
        # RFC 5321 §7.8 permits what §3.8 forbids otherwise: to close on a peer that only does damage.
        if self._commands > limits.commands:
            return replies.TOO_MANY_COMMANDS
        if self._errors >= limits.errors or self._refusals >= limits.refusals:
            return replies.TOO_MANY_ERRORS
        if not isinstance(line, bytes):
            return _bad_line(line, replies.LINE_TOO_LONG)
        if b"\r" in line or b"\n" in line:  # RFC 5321 §2.3.8
            return replies.BARE_CR_OR_LF_IN_COMMAND
        # RFC 5321 §4.1.1: tolerate trailing white space
        verb, _, argument = line.rstrip(b" \t").partition(b" ")
        verb = verb.upper()
        command = _COMMANDS.get(verb)
        if self._refuses_client and verb != b"QUIT":
            return replies.BAD_SEQUENCE  # RFC 5321 §3.1
        if command is None:
            if verb in _HTTP_METHODS:
                return replies.NOT_HTTP
            return replies.UNKNOWN_COMMAND
        problem = self._order_problem(command)
        if problem is None and command.usage is not None and not argument:
            problem = bad_syntax(command.usage)
        if problem is None and argument and not command.takes_argument:
            problem = replies.NO_ARGUMENT  # RFC 5321 §4.1.1
        if problem is not None:
            return problem
        return command.run(self, argument)

    def _order_problem(self, command: "_Command") -> Reply | None:
        """RFC 5321 §4.1.4"""
        if command.after_hello and not self._greeted:
            return replies.HELLO_FIRST
        if command.in_transaction is None or command.in_transaction == self._in_transaction:
            return None
        return replies.MAIL_FIRST if command.in_transaction else replies.IN_TRANSACTION

    def _mail_data(self) -> Event | None:
        data = self._data
        chunk = data.feed(self._lines.take())
        if data.rest is not None:
            self._lines.feed(data.rest)
            self._phase = _Phase.DATA_END
        if chunk and data.size <= self._options.size_limit_bytes:
            return BodyChunk(chunk)
        return None

    def _mail_data_end(self) -> Event:
        self._phase = _Phase.BODY_END
        data = self._data
        return BodyEnd(data.size, data.bare_cr_or_lf, data.size > self._options.size_limit_bytes)

    def _auth_response(self, line: bytes | BadLine) -> Event | Reply:
        """RFC 4954 §4"""
        self._phase = _Phase.COMMAND
        if not isinstance(line, bytes):
            return _bad_line(line, replies.AUTH_LINE_TOO_LONG)
        if line == b"*":
            return replies.AUTHENTICATION_CANCELLED
        response = decode_base64(line)
        if response is None:
            return replies.BAD_BASE64
        self._phase = _Phase.AUTH
        return AuthResponse(response)

    # Output and state

    def _answer(self, reply: Reply) -> None:
        """Say what needs no decision of the service."""
        self._output.append(format_reply(reply))
        if reply.code == 421:
            self._close()
        elif reply.code >= 500:
            self._errors += 1

    def _close(self) -> None:
        self.closing = True
        self._lines.clear()

    def _end_transaction(self) -> None:
        self._in_transaction = False
        self._recipients = 0
        self._tried_recipients = False

    def _situation(self) -> Situation:
        return Situation(self._options, self.tls)

    # Commands, in the order of the table

    def _ehlo(self, argument: bytes) -> Event | Reply:
        return self._hello(argument, extended=True)

    def _helo(self, argument: bytes) -> Event | Reply:
        return self._hello(argument, extended=False)

    def _hello(self, argument: bytes, *, extended: bool) -> Event | Reply:
        domain = parse_hello(argument)
        if domain is None:
            return bad_syntax("EHLO domain" if extended else "HELO domain")
        self._extended = extended
        self._phase = _Phase.HELLO
        return Hello(extended, domain)

    def _mail(self, argument: bytes) -> Event | Reply:
        options = self._options
        if options.requires_auth and not self.authenticated:
            auth_offered = self._situation().auth_offered
            return replies.AUTHENTICATION_REQUIRED if auth_offered else replies.TLS_FIRST
        path = parse_mail(argument, MAIL_PARAMETERS)
        if isinstance(path, Reply):
            return path
        declared = path.parameters.get("SIZE")
        size = int(declared) if declared else None
        if size is not None and size > options.size_limit_bytes:
            return replies.TOO_BIG  # RFC 1870 §6.1
        self._phase = _Phase.MAIL
        return Mail(path.address, size, path.parameters)

    def _rcpt(self, argument: bytes) -> Event | Reply:
        path = parse_rcpt(argument, RCPT_PARAMETERS)
        if isinstance(path, Reply):
            return path
        self._tried_recipients = True
        if self._recipients >= self._options.limits.recipients:
            return replies.TOO_MANY_RECIPIENTS  # RFC 5321 §4.5.3.1.10
        assert path.address is not None  # parse_rcpt refuses the null path
        self._phase = _Phase.RCPT
        return Rcpt(path.address, path.raw, path.parameters)

    def _data_command(self, argument: bytes) -> Event | Reply:
        if not self._recipients:  # RFC 5321 §3.3, RFC 2920 §3.2
            tried = self._tried_recipients
            return replies.NO_VALID_RECIPIENTS if tried else replies.RECIPIENT_FIRST
        self._phase = _Phase.DATA_START
        return DataStart()

    def _rset(self, argument: bytes) -> Event:
        self._end_transaction()
        self._answer(replies.OK)
        return Reset()

    def _noop(self, argument: bytes) -> Reply:
        return replies.OK

    def _vrfy(self, argument: bytes) -> Reply:
        return replies.CANNOT_VERIFY  # RFC 5321 §3.5.3

    def _expn(self, argument: bytes) -> Reply:
        return replies.NOT_IMPLEMENTED

    def _help(self, argument: bytes) -> Reply:
        verbs = " ".join(verb.decode("ascii") for verb in _COMMANDS)
        return Reply(214, "2.0.0", f"Commands: {verbs}")

    def _quit(self, argument: bytes) -> Event:
        self._answer(replies.BYE)
        self._close()
        return Quit()

    def _starttls(self, argument: bytes) -> Reply:
        if self.tls:
            return replies.TLS_ACTIVE
        if not self._options.starttls:
            return replies.NOT_IMPLEMENTED
        if self._lines:
            # What was sent in the clear behind STARTTLS must not count as sent under TLS (RFC 3207 §4).
            self._close()
            return replies.PIPELINED_STARTTLS
        self.wants_tls = True
        self._phase = _Phase.TLS
        return replies.READY_FOR_TLS

    def _auth(self, argument: bytes) -> Event | Reply:
        """RFC 4954 §4"""
        options = self._options
        name, _, encoded = argument.partition(b" ")
        mechanism = name.upper().decode("ascii", "replace")
        if not options.mechanisms:
            return replies.NOT_IMPLEMENTED
        if self.authenticated:
            return replies.ALREADY_AUTHENTICATED
        if mechanism not in options.mechanisms:
            return replies.UNKNOWN_MECHANISM
        if not self._situation().auth_offered:
            return replies.TLS_FOR_MECHANISM
        initial = decode_initial(encoded) if encoded else None
        if encoded and initial is None:
            return replies.BAD_BASE64
        self._phase = _Phase.AUTH
        return Auth(mechanism, initial)


def _bad_line(line: BadLine, too_long: Reply) -> Reply:
    return too_long if line is TOO_LONG else replies.TOO_MANY_ERRORS


@dataclass(slots=True, frozen=True)
class _Command:
    """A row of the command table."""

    run: Callable[[SmtpServer, bytes], Event | Reply]
    usage: str | None = None
    """How to write it, for commands that need an argument."""
    optional_argument: bool = False
    after_hello: bool = False
    in_transaction: bool | None = None
    """Only inside (True) or outside (False) a mail transaction; None: anywhere."""

    @property
    def takes_argument(self) -> bool:
        return self.optional_argument or self.usage is not None


_COMMANDS: dict[bytes, _Command] = {
    b"EHLO": _Command(SmtpServer._ehlo, "EHLO domain"),
    b"HELO": _Command(SmtpServer._helo, "HELO domain"),
    b"MAIL": _Command(
        SmtpServer._mail, "MAIL FROM:<address>", after_hello=True, in_transaction=False
    ),
    b"RCPT": _Command(SmtpServer._rcpt, "RCPT TO:<address>", after_hello=True, in_transaction=True),
    b"DATA": _Command(SmtpServer._data_command, after_hello=True, in_transaction=True),
    b"RSET": _Command(SmtpServer._rset),
    b"NOOP": _Command(SmtpServer._noop, optional_argument=True),
    b"VRFY": _Command(SmtpServer._vrfy, "VRFY address"),
    b"EXPN": _Command(SmtpServer._expn, "EXPN list"),
    b"HELP": _Command(SmtpServer._help, optional_argument=True),
    b"QUIT": _Command(SmtpServer._quit),
    b"STARTTLS": _Command(SmtpServer._starttls, after_hello=True),
    b"AUTH": _Command(
        SmtpServer._auth, "AUTH mechanism [response]", after_hello=True, in_transaction=False
    ),
}

_HTTP_METHODS = frozenset({b"GET", b"POST", b"PUT", b"CONNECT"})
"""A browser that is tricked into talking to this port could carry commands in a request's body."""
