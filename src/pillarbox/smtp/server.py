"""The SMTP server engine: MX, submission and lab servers alike (RFC 5321, 1870, 2033, 2034, 2920, 3030, 3207, 4954).

Shape: `core.engine`. It owns framing, order of commands, limits and transparency; it decides nothing
about mailboxes and passwords. A session begins with `send(greeting(hostname))`, or with a 554 or 421
reply to refuse the client. Commands that need no decision (NOOP, RSET, HELP, VRFY, EXPN, QUIT, STARTTLS,
and everything that is wrong) are answered here, in order with the others.

Pipelined commands wait until the event before them is answered. The driver must stop reading while
`next_event` says PAUSED: `receive` only buffers.
"""

from collections.abc import Callable

from pillarbox.core.engine import NEED_DATA, PAUSED, Heard, Wait
from pillarbox.sasl.exchange import encode_base64
from pillarbox.smtp import reply as replies
from pillarbox.smtp.auth import parse_auth_response
from pillarbox.smtp.chunks import ChunkDecoder
from pillarbox.smtp.conduct import Conduct
from pillarbox.smtp.data import DataDecoder
from pillarbox.smtp.events import AuthResponse, BodyChunk, BodyEnd, Delay, Event, Reset
from pillarbox.smtp.extensions import ehlo_lines
from pillarbox.smtp.lines import TOO_LONG, BadLine
from pillarbox.smtp.options import ServerOptions
from pillarbox.smtp.reply import Reply, format_reply
from pillarbox.smtp.server_commands import COMMANDS, HTTP_METHODS, LMTP_COMMANDS, Outcome, Said
from pillarbox.smtp.server_output import Output
from pillarbox.smtp.server_phase import READS, STARTS, Phase
from pillarbox.smtp.server_state import State, stage_of
from pillarbox.smtp.server_transaction import Transaction
from pillarbox.smtp.shown import show_line

MOST_REFUSED = 20
"""Commands that are told as refused until the service is asked something again."""
LONGEST_REFUSED = 400
"""Characters that are told of one."""


class SmtpServer:
    """One connection. `tls` says whether it began with a handshake (RFC 8314 §3.3)."""

    __slots__ = (
        "_conduct",
        "_data",
        "_eof",
        "_lines",
        "_next_line",
        "_output",
        "_refuses_client",
        "_shutting_down",
        "_state",
        "_told",
        "closing",
        "on_refused",
    )

    def __init__(self, options: ServerOptions, *, tls: bool = False, xclient: bool = False) -> None:
        """`xclient`: the client may speak for others."""
        self._state = State(options, tls=tls, xclient=xclient)
        self.closing = False
        self.on_refused: Callable[[str, Reply], None] | None = None
        """Gets each command that is refused without a question to the service, as far as it may be shown, and the
        reply."""
        self._told = 0  # of these, since the service answered
        self._lines = self._state.lines
        self._next_line = self._lines.next_line
        self._data = DataDecoder()
        self._output = Output()
        self._eof = False
        self._refuses_client = False
        self._shutting_down = False
        self._conduct = Conduct(options.limits)

    @property
    def wants_tls(self) -> bool:
        """The go-ahead for STARTTLS is queued: write it, do the handshake, `tls_started`."""
        return self._state.phase is Phase.TLS and not self.closing

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """SASL mechanisms, upper case; those of the options until the service knows better. Shown by EHLO."""
        return self._state.mechanisms

    @mechanisms.setter
    def mechanisms(self, value: tuple[str, ...]) -> None:
        self._state.mechanisms = value

    @property
    def authenticated(self) -> bool:
        return self._state.authenticated

    @authenticated.setter
    def authenticated(self, value: bool) -> None:
        """For a login that a client with XCLIENT vouches for."""
        self._state.authenticated = value

    # What the driver calls

    def receive(self, data: bytes) -> None:
        """Buffer input; `b""` is the end of the stream: what came before it is still served."""
        if self.closing:
            return
        if self._state.phase is Phase.TLS:
            # Plain text where the handshake should be: never to be read as a command (RFC 3207 §4.2).
            self.closing = True
        elif data:
            self._lines.feed(data)
        else:
            self._eof = True

    def next_event(self) -> Event | Wait:
        state, lines = self._state, self._lines
        outcome: Outcome
        line: bytes | BadLine | None
        while not self.closing:
            phase = state.phase
            if phase is Phase.COMMAND:
                if self._output.delay_s:
                    return self._delay()
                line = self._next_line(state.options.limits.command_line)
                if line is None:
                    return self._starved()
                outcome = self._command(line)
            elif phase is Phase.DATA:
                if not lines:
                    return self._starved()
                outcome = self._mail_data()
            elif phase is Phase.CHUNK:
                if not lines and state.chunk.left:
                    return self._starved()
                outcome = self._chunk_data()
            elif phase is Phase.CHUNK_END:
                outcome = self._chunk_end()
            elif phase is Phase.DATA_END:
                outcome = self._mail_data_end()
            elif phase is Phase.AUTH_RESPONSE:
                line = self._next_line(state.options.limits.auth_line)
                if line is None:
                    return self._starved()
                outcome = self._auth_response(line)
            else:
                break
            if outcome is None:
                continue
            if isinstance(outcome, Reply):
                if outcome.code >= 400 and phase is Phase.COMMAND:
                    self._tell_refused(line, outcome)
                self._answer(outcome)
            elif isinstance(outcome, Said):
                self._answer(outcome.reply)
                if outcome.closes:
                    self._close()
                if outcome.event is not None:
                    return outcome.event
            else:
                return outcome
        return PAUSED

    def data_to_send(self) -> list[bytes]:
        output = self._output
        parts, output.parts = output.parts, []
        return parts

    def tls_started(self) -> None:
        """The handshake is done: back to the state after the greeting (RFC 3207 §4.2)."""
        state = self._state
        state.tls = True
        state.authenticated = False
        state.begin_anew()
        state.phase = Phase.COMMAND
        self._lines.clear()

    def timeout(self) -> float | None:
        """None while an event waits for its answer. RFC 5321 §4.5.3.2.7"""
        is_reading = self._state.phase in READS and not self._output.is_delaying
        return self._state.options.limits.timeout_s if is_reading else None

    @property
    def is_amid_message(self) -> bool:
        """Whether octets of a message are on their way, of which each piece is an event."""
        state = self._state
        return state.phase in (Phase.DATA, Phase.CHUNK) or state.transaction.chunks is not None

    def timed_out(self) -> None:
        if self._state.phase is Phase.TLS:
            self.closing = True
        elif not self.closing:
            self._answer(replies.TIMED_OUT)

    @property
    def is_mail_data_clean(self) -> bool:
        """Whether the present message had no bare CR or LF yet, up to the last `BodyChunk`."""
        return not (self._state.transaction.chunks or self._data).bare_cr_or_lf

    @property
    def stage(self) -> str:
        """Where the conversation is, in a word."""
        return stage_of(self._state)

    def observe(self, heard: Callable[[Heard], None] | None) -> None:
        """From now on, `heard` gets each line, also within AUTH, before it is answered; None: nobody does."""
        lines, state = self._lines, self._state
        if heard is None:
            self._next_line = lines.next_line
            return

        def next_line(limit: int) -> bytes | BadLine | None:
            line = lines.next_line(limit)
            if line is not None:
                heard(show_line(line, is_response=state.phase is Phase.AUTH_RESPONSE))
            return line

        self._next_line = next_line

    # What the service calls

    def send(self, reply: Reply) -> None:
        """Answer the event that waits. 421 also closes the connection.

        Raises RuntimeError if no event waits, or if 354 answers anything but `DataStart`.
        """
        state, conduct = self._state, self._conduct
        phase, transaction = state.phase, state.transaction
        if phase in READS:
            raise RuntimeError("no event waits for a reply")
        if reply.positive and (reply.code == 354) != (phase in STARTS):
            raise RuntimeError(f"{reply.code} does not answer {phase.value}")
        state.phase = Phase.COMMAND
        self._told = 0
        if phase is Phase.CHUNK_START:
            self._chunk_started(reply)
            return
        if reply.code >= 500:
            conduct.errors += phase is Phase.AUTH
            conduct.refusals += phase is not Phase.AUTH
        # RFC 2033 §4.2: behind a message, one for each recipient
        is_each = phase is Phase.BODY_END and state.options.lmtp and reply.code != 421
        if is_each or reply.code >= 500:
            self._say(reply, transaction.recipients if is_each else 1)
        else:
            self._output.parts.append(format_reply(reply))
        if phase is Phase.RCPT:
            transaction.recipients += reply.positive
        elif phase is Phase.MAIL:
            transaction.is_open = reply.positive
        elif phase is Phase.DATA_START and reply.positive:
            self._data = DataDecoder()
            state.phase = Phase.DATA
        elif phase in (Phase.BODY_END, Phase.DATA_START):
            state.end_transaction()
            if reply.positive:
                conduct.message_accepted()
        elif phase is Phase.HELLO and reply.positive:
            state.greeted = True
            state.end_transaction()  # RFC 5321 §4.1.4: as if RSET had been issued
        elif phase is Phase.AUTH:
            state.authenticated = reply.positive
        elif phase is Phase.GREETING:
            self._refuses_client = not reply.positive
        elif phase is Phase.XCLIENT and reply.positive:
            state.begin_anew()
        if reply.code == 421:
            self._close()
        elif self._shutting_down and state.phase is Phase.COMMAND:
            self._answer(replies.SHUTTING_DOWN)

    def send_challenge(self, challenge: bytes) -> None:
        """Answer `Auth` or `AuthResponse` with a challenge, not yet base64 (RFC 4954 §4).

        Raises RuntimeError if neither waits.
        """
        if self._state.phase is not Phase.AUTH:
            raise RuntimeError("no AUTH exchange waits for a challenge")
        self._output.say(b"334 " + encode_base64(challenge) + b"\r\n")
        self._state.phase = Phase.AUTH_RESPONSE

    def hello_reply(self) -> Reply:
        """What accepts the present `Hello` (RFC 5321 §4.1.1.1)."""
        state = self._state
        lines = ehlo_lines(state.situation) if state.extended else []
        return Reply(250, "", "\n".join([state.options.hostname, *lines]))

    @property
    def has_input(self) -> bool:
        """Whether the client said something that was not looked at yet: before the greeting, it is too early."""
        return len(self._lines) > 0

    def refuse(self, reply: Reply) -> None:
        """Answer to the connection itself, and close it. Raises RuntimeError after the greeting."""
        if self._state.phase is not Phase.GREETING:
            raise RuntimeError("the greeting was said")
        self._say(reply)
        self._close()

    def end_delay(self) -> None:
        """The answer to `Delay`: what had to wait may go."""
        self._output.release()

    def shut_down(self) -> None:
        """Finish the command or message in hand, then 421 (RFC 5321 §3.8)."""
        self._shutting_down = True
        if self._state.phase is Phase.TLS:
            self.closing = True
        elif self._state.phase in (Phase.COMMAND, Phase.AUTH_RESPONSE) and not self.closing:
            self._answer(replies.SHUTTING_DOWN)

    # Input

    def _starved(self) -> Wait:
        if self._eof:
            self._close()
            return PAUSED
        return NEED_DATA

    def _command(self, line: bytes | BadLine) -> Outcome:
        state = self._state
        if problem := self._conduct.next_command():
            return problem
        if not isinstance(line, bytes):
            return _bad_line(line, replies.LINE_TOO_LONG)
        if b"\r" in line or b"\n" in line:  # RFC 5321 §2.3.8
            return replies.BARE_CR_OR_LF_IN_COMMAND
        # RFC 5321 §4.1.1: tolerate trailing white space
        verb, _, argument = line.rstrip(b" \t").partition(b" ")
        verb = verb.upper()
        if self._refuses_client and verb != b"QUIT":
            return replies.BAD_SEQUENCE  # RFC 5321 §3.1
        command = (LMTP_COMMANDS if state.options.lmtp else COMMANDS).get(verb)
        if command is None:
            return replies.NOT_HTTP if verb in HTTP_METHODS else replies.UNKNOWN_COMMAND
        if problem := command.problem(state, argument):
            return problem
        return command.run(state, argument)

    def _tell_refused(self, line: bytes | BadLine | None, reply: Reply) -> None:
        """Only addresses are shown with their command: what else stands behind one may be a secret."""
        if self.on_refused is not None and self._told < MOST_REFUSED and isinstance(line, bytes):
            self._told += 1
            shown = line.decode("utf-8", "replace")
            verb = shown.split(" ", 1)[0].upper()
            if verb not in ("MAIL", "RCPT"):
                shown = verb if verb.encode() in COMMANDS else "?"
            self.on_refused(shown[:LONGEST_REFUSED], reply)

    def _mail_data(self) -> Event | None:
        data = self._data
        chunk = data.feed(self._lines.take())
        if data.rest is not None:
            self._lines.feed(data.rest)
            self._state.phase = Phase.DATA_END
        if chunk and data.size <= self._state.options.size_limit_bytes:
            return BodyChunk(chunk)
        return None

    def _chunk_started(self, reply: Reply) -> None:
        """The service takes the message that the first chunk begins, or not."""
        if reply.code == 421:
            self._answer(reply)
            return
        self._state.phase = Phase.CHUNK
        self._state.transaction.chunks = ChunkDecoder()
        if not reply.positive:
            self._conduct.refusals += reply.code >= 500
            self._state.chunk.refusal = reply

    def _chunk_data(self) -> Event | None:
        state = self._state
        chunk, decoder = state.chunk, state.transaction.chunks
        data = self._lines.take_up_to(chunk.left)
        chunk.left -= len(data)
        if not chunk.left:
            state.phase = Phase.CHUNK_END
        if chunk.refusal is not None or decoder is None:
            return None
        octets = decoder.feed(data)
        return BodyChunk(octets) if octets else None

    def _chunk_end(self) -> Event | Reply | None:
        """RFC 3030 §2: an answer for each chunk, after its octets."""
        state = self._state
        chunk, decoder = state.chunk, state.transaction.chunks
        state.phase = Phase.COMMAND
        if self._shutting_down and not chunk.is_last:
            return replies.SHUTTING_DOWN
        if chunk.refusal is not None or decoder is None:
            self._refuse_chunk(chunk.refusal or replies.MAIL_FIRST)
            return Reset()
        self._conduct.commands -= (
            chunk.size > 0
        )  # they are as many as the size of the message allows
        if not chunk.is_last:
            return Reply(250, "2.0.0", f"{chunk.size} octets received")
        state.phase = Phase.DATA_END
        rest = decoder.finish()
        return BodyChunk(rest) if rest else None

    def _refuse_chunk(self, reply: Reply) -> None:
        """Others may be under way behind it (RFC 3030 §2)."""
        state = self._state
        recipients, had_failed = state.transaction.recipients, state.transaction.failed
        # RFC 2033 §4.3: behind the last chunk, one for each recipient, though there be none
        is_each = state.options.lmtp and state.chunk.is_last
        # What was pipelined behind the first refused chunk is no error of its own.
        self._conduct.errors += reply.code >= 500 and not had_failed
        self._say(reply, recipients if is_each else 1)
        state.transaction = Transaction(failed=True, recipients=recipients)

    def _mail_data_end(self) -> Event:
        self._state.phase = Phase.BODY_END
        chunks = self._state.transaction.chunks
        if chunks is not None:
            return BodyEnd(chunks.size, chunks.bare_cr_or_lf, too_big=False)
        data = self._data
        return BodyEnd(
            data.size, data.bare_cr_or_lf, data.size > self._state.options.size_limit_bytes
        )

    def _auth_response(self, line: bytes | BadLine) -> Event | Reply:
        self._state.phase = Phase.COMMAND
        if not isinstance(line, bytes):
            return _bad_line(line, replies.AUTH_LINE_TOO_LONG)
        outcome = parse_auth_response(line)
        if isinstance(outcome, AuthResponse):
            self._state.phase = Phase.AUTH
        return outcome

    # Output and state

    def _answer(self, reply: Reply) -> None:
        """Say what needs no decision of the service."""
        self._conduct.errors += reply.code >= 500
        self._say(reply)
        if reply.code == 421:
            self._close()

    def _say(self, reply: Reply, times: int = 1) -> None:
        """Errors of a client that makes many have to wait."""
        octets = format_reply(reply)
        delay_s = self._conduct.delay_s() if reply.code >= 500 else 0.0
        for _ in range(times):
            self._output.say(octets, delay_s)

    def _delay(self) -> Event | Wait:
        if self._output.is_delaying:
            return PAUSED
        self._output.is_delaying = True
        return Delay(self._output.delay_s)

    def _close(self) -> None:
        self.closing = True
        self._output.release()
        self._lines.clear()


def _bad_line(line: BadLine, too_long: Reply) -> Reply:
    return too_long if line is TOO_LONG else replies.TOO_MANY_ERRORS
