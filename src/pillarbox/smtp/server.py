"""The SMTP server engine: MX, submission and lab servers alike (RFC 5321, 1870, 2034, 2920, 3030, 3207, 4954).

Shape: `core.engine`. It owns framing, order of commands, limits and transparency; it decides nothing
about mailboxes and passwords. A session begins with `send(greeting(hostname))`, or with a 554 or 421
reply to refuse the client. Commands that need no decision (NOOP, RSET, HELP, VRFY, EXPN, QUIT, STARTTLS,
and everything that is wrong) are answered here, in order with the others.

Pipelined commands wait until the event before them is answered. The driver must stop reading while
`next_event` says PAUSED: `receive` only buffers.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.sasl.exchange import encode_base64
from pillarbox.smtp import reply as replies
from pillarbox.smtp.auth import parse_auth, parse_auth_response
from pillarbox.smtp.chunks import Chunk, ChunkDecoder, parse_chunk
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
from pillarbox.smtp.server_phase import READS, STARTS, Phase
from pillarbox.smtp.server_transaction import Transaction

_BDAT_USAGE = "BDAT size [LAST]"


class SmtpServer:
    """One connection. `tls` says whether it began with a handshake (RFC 8314 §3.3)."""

    __slots__ = (
        "_chunk",
        "_commands",
        "_data",
        "_eof",
        "_errors",
        "_extended",
        "_greeted",
        "_lines",
        "_options",
        "_output",
        "_phase",
        "_refusals",
        "_refuses_client",
        "_shutting_down",
        "_transaction",
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
        self._phase = Phase.GREETING
        self._lines = CommandLines()
        self._data = DataDecoder()
        self._output: list[bytes] = []
        self._eof = False
        self._transaction = Transaction()
        self._chunk = Chunk(0, 0, is_last=False)
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
        if self._phase is Phase.TLS:
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
            if phase is Phase.COMMAND:
                line = self._lines.next_line(self._options.limits.command_line)
                if line is None:
                    return self._starved()
                outcome = self._command(line)
            elif phase is Phase.DATA:
                if not self._lines:
                    return self._starved()
                outcome = self._mail_data()
            elif phase is Phase.CHUNK:
                if not self._lines and self._chunk.left:
                    return self._starved()
                outcome = self._chunk_data()
            elif phase is Phase.CHUNK_END:
                outcome = self._chunk_end()
            elif phase is Phase.DATA_END:
                outcome = self._mail_data_end()
            elif phase is Phase.AUTH_RESPONSE:
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
        self._phase = Phase.COMMAND

    def timeout(self) -> float | None:
        """None while an event waits for its answer. RFC 5321 §4.5.3.2.7"""
        return self._options.limits.timeout_s if self._phase in READS else None

    def timed_out(self) -> None:
        if self._phase is Phase.TLS:
            self.closing = True
        elif not self.closing:
            self._answer(replies.TIMED_OUT)

    @property
    def is_mail_data_clean(self) -> bool:
        """Whether the present message had no bare CR or LF yet, up to the last `BodyChunk`."""
        return not (self._transaction.chunks or self._data).bare_cr_or_lf

    # What the service calls

    def send(self, reply: Reply) -> None:
        """Answer the event that waits. 421 also closes the connection.

        Raises RuntimeError if no event waits, or if 354 answers anything but `DataStart`.
        """
        phase = self._phase
        if phase in READS:
            raise RuntimeError("no event waits for a reply")
        if reply.positive and (reply.code == 354) != (phase in STARTS):
            raise RuntimeError(f"{reply.code} does not answer {phase.value}")
        self._phase = Phase.COMMAND
        if phase is Phase.CHUNK_START:
            self._chunk_started(reply)
            return
        self._output.append(format_reply(reply))
        if reply.code >= 500:
            if phase is Phase.AUTH:
                self._errors += 1
            else:
                self._refusals += 1
        if phase is Phase.RCPT:
            self._transaction.recipients += reply.positive
        elif phase is Phase.MAIL:
            self._transaction.is_open = reply.positive
        elif phase is Phase.DATA_START and reply.positive:
            self._data = DataDecoder()
            self._phase = Phase.DATA
        elif phase in (Phase.BODY_END, Phase.DATA_START):
            self._end_transaction()
            if reply.positive:
                self._errors = self._refusals = self._commands = 0
        elif phase is Phase.HELLO and reply.positive:
            self._greeted = True
            self._end_transaction()  # RFC 5321 §4.1.4: as if RSET had been issued
        elif phase is Phase.AUTH:
            self.authenticated = reply.positive
        elif phase is Phase.GREETING:
            self._refuses_client = not reply.positive
        if reply.code == 421:
            self._close()
        elif self._shutting_down and self._phase is Phase.COMMAND:
            self._answer(replies.SHUTTING_DOWN)

    def send_challenge(self, challenge: bytes) -> None:
        """Answer `Auth` or `AuthResponse` with a challenge, not yet base64 (RFC 4954 §4).

        Raises RuntimeError if neither waits.
        """
        if self._phase is not Phase.AUTH:
            raise RuntimeError("no AUTH exchange waits for a challenge")
        self._output.append(b"334 " + encode_base64(challenge) + b"\r\n")
        self._phase = Phase.AUTH_RESPONSE

    def hello_reply(self) -> Reply:
        """What accepts the present `Hello` (RFC 5321 §4.1.1.1)."""
        lines = ehlo_lines(self._situation()) if self._extended else []
        return Reply(250, "", "\n".join([self._options.hostname, *lines]))

    def shut_down(self) -> None:
        """Finish the command or message in hand, then 421 (RFC 5321 §3.8)."""
        self._shutting_down = True
        if self._phase is Phase.TLS:
            self.closing = True
        elif self._phase in (Phase.COMMAND, Phase.AUTH_RESPONSE) and not self.closing:
            self._answer(replies.SHUTTING_DOWN)

    # Input

    def _starved(self) -> Wait:
        if self._eof:
            self._close()
            return PAUSED
        return NEED_DATA

    def _command(self, line: bytes | BadLine) -> Event | Reply | None:
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
        is_open = self._transaction.is_open
        if command.in_transaction is None or command.in_transaction == is_open:
            return None
        return replies.MAIL_FIRST if command.in_transaction else replies.IN_TRANSACTION

    def _mail_data(self) -> Event | None:
        data = self._data
        chunk = data.feed(self._lines.take())
        if data.rest is not None:
            self._lines.feed(data.rest)
            self._phase = Phase.DATA_END
        if chunk and data.size <= self._options.size_limit_bytes:
            return BodyChunk(chunk)
        return None

    def _chunk_started(self, reply: Reply) -> None:
        """The service takes the message that the first chunk begins, or not."""
        if reply.code == 421:
            self._answer(reply)
            return
        self._phase = Phase.CHUNK
        self._transaction.chunks = ChunkDecoder()
        if not reply.positive:
            self._refusals += reply.code >= 500
            self._chunk.refusal = reply

    def _chunk_data(self) -> Event | None:
        chunk, decoder = self._chunk, self._transaction.chunks
        data = self._lines.take_up_to(chunk.left)
        chunk.left -= len(data)
        if not chunk.left:
            self._phase = Phase.CHUNK_END
        if chunk.refusal is not None or decoder is None:
            return None
        octets = decoder.feed(data)
        return BodyChunk(octets) if octets else None

    def _chunk_end(self) -> Event | Reply | None:
        """RFC 3030 §2: an answer for each chunk, after its octets."""
        chunk, decoder = self._chunk, self._transaction.chunks
        self._phase = Phase.COMMAND
        if self._shutting_down and not chunk.is_last:
            return replies.SHUTTING_DOWN
        if chunk.refusal is not None or decoder is None:
            # What was pipelined behind the first refused chunk is no error of its own.
            self._errors -= self._transaction.failed
            self._answer(chunk.refusal or replies.MAIL_FIRST)
            self._end_transaction()
            self._transaction.failed = True
            return Reset()
        self._commands -= chunk.size > 0  # they are as many as the size of the message allows
        if not chunk.is_last:
            return Reply(250, "2.0.0", f"{chunk.size} octets received")
        self._phase = Phase.DATA_END
        rest = decoder.finish()
        return BodyChunk(rest) if rest else None

    def _mail_data_end(self) -> Event:
        self._phase = Phase.BODY_END
        chunks = self._transaction.chunks
        if chunks is not None:
            return BodyEnd(chunks.size, chunks.bare_cr_or_lf, too_big=False)
        data = self._data
        return BodyEnd(data.size, data.bare_cr_or_lf, data.size > self._options.size_limit_bytes)

    def _auth_response(self, line: bytes | BadLine) -> Event | Reply:
        self._phase = Phase.COMMAND
        if not isinstance(line, bytes):
            return _bad_line(line, replies.AUTH_LINE_TOO_LONG)
        outcome = parse_auth_response(line)
        if isinstance(outcome, AuthResponse):
            self._phase = Phase.AUTH
        return outcome

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
        self._transaction = Transaction()

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
        self._phase = Phase.HELLO
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
        self._transaction = Transaction(body=path.parameters.get("BODY", "").upper())
        self._phase = Phase.MAIL
        return Mail(path.address, size, path.parameters)

    def _rcpt(self, argument: bytes) -> Event | Reply:
        path = parse_rcpt(argument, RCPT_PARAMETERS)
        if isinstance(path, Reply):
            return path
        if problem := self._transaction.rcpt_problem(self._options.limits.recipients):
            return problem
        assert path.address is not None  # parse_rcpt refuses the null path
        self._phase = Phase.RCPT
        return Rcpt(path.address, path.raw, path.parameters)

    def _data_command(self, argument: bytes) -> Event | Reply:
        if problem := self._transaction.data_problem():
            return problem
        self._phase = Phase.DATA_START
        return DataStart()

    def _bdat(self, argument: bytes) -> Event | Reply | None:
        """RFC 3030 §2: the octets come, whatever we think of them."""
        chunk = parse_chunk(argument)
        if chunk is None:
            return bad_syntax(_BDAT_USAGE)
        self._chunk = chunk
        self._phase = Phase.CHUNK
        transaction = self._transaction
        chunk.refusal = transaction.chunk_problem(chunk.size, self._options.size_limit_bytes)
        if chunk.refusal is None and transaction.chunks is None:
            self._phase = Phase.CHUNK_START
            return DataStart()
        return None

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
        self._phase = Phase.TLS
        return replies.READY_FOR_TLS

    def _auth(self, argument: bytes) -> Event | Reply:
        offered = self._situation().auth_offered
        outcome = parse_auth(argument, self._options.mechanisms, self.authenticated, offered)
        if isinstance(outcome, Auth):
            self._phase = Phase.AUTH
        return outcome


def _bad_line(line: BadLine, too_long: Reply) -> Reply:
    return too_long if line is TOO_LONG else replies.TOO_MANY_ERRORS


@dataclass(slots=True, frozen=True)
class _Command:
    """A row of the command table."""

    run: Callable[[SmtpServer, bytes], Event | Reply | None]
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
    b"BDAT": _Command(SmtpServer._bdat, _BDAT_USAGE),
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
