"""The SMTP and LMTP client engine (RFC 5321 §3, §4.5.4; RFC 1870, 2033, 2920, 3207, 3461, 4954, 6152, 6531).

Shape: `core.engine`. A session gets ready by itself: greeting, EHLO (HELO if need be) or LHLO, STARTTLS and AUTH
as the options want. Then its service calls `send_message` for one message after the other, and `quit`. The body is
streamed: the engine asks for more when its output was taken, and asks once more before the final dot. It decides
nothing about routes, retries or leases, and checks no certificate.

Replies are told apart by a deque of what is expected, so that whole transactions are pipelined (RFC 2920).
Whatever the peer does, every `send_message` ends in one `Done` with an outcome for each recipient, and DELIVERED
is said only for a 2yz behind the final dot.

A turn of its driver is that of a server engine; after output was taken in mail data, `next_event` is asked again.
"""

from collections import deque
from enum import Enum

from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.sasl.exchange import encode_base64
from pillarbox.smtp import client_commands as commands
from pillarbox.smtp.client_data import DataEncoder
from pillarbox.smtp.client_events import (
    BodyWanted,
    ClientOptions,
    Closed,
    Credentials,
    Done,
    Envelope,
    Event,
    Failed,
    Ready,
    ReadyForDot,
    Stage,
    TlsMode,
)
from pillarbox.smtp.client_reply import Peer, ReplyReader, parse_hello_reply
from pillarbox.smtp.client_transaction import ALL, Room, Transaction, make_outcome
from pillarbox.smtp.reply import Reply

_MAX_COMMAND = 512
"""Octets of a command with its CRLF (RFC 5321 §4.5.3.1.4)."""


class _Phase(Enum):
    OPENING = "until the session is ready"
    TLS = "handshake"
    READY = "no transaction"
    COMMANDS = "MAIL, RCPT and DATA, or replies behind the dot"
    BODY = "mail data"
    DOT = "mail data is sent, the dot is not"
    QUIT = "QUIT was said"
    CLOSED = "over"


class SmtpClient:
    """One connection. `tls` says whether it began with a handshake (RFC 8314 §3.3)."""

    __slots__ = (
        "_asked",
        "_encoder",
        "_eof",
        "_events",
        "_expected",
        "_extended",
        "_needs_rset",
        "_options",
        "_output",
        "_phase",
        "_replies",
        "_room",
        "_sasl_responses",
        "_transaction",
        "_unsent",
        "closing",
        "peer",
        "tls",
        "wants_tls",
    )

    def __init__(self, options: ClientOptions, *, tls: bool = False) -> None:
        self._options = options
        self.tls = tls
        self.closing = False
        self.wants_tls = False
        self.peer = Peer("")
        """What the last EHLO told."""
        self._room = Room(self.peer)
        self._phase = _Phase.OPENING
        self._replies = ReplyReader()
        self._output: list[bytes] = []
        self._events: deque[Event] = deque()
        self._expected: deque[tuple[Stage, int]] = deque([(Stage.GREETING, ALL)])
        """What the next replies answer, and for which recipient."""
        self._unsent: deque[tuple[Stage, int, bytes]] = deque()
        self._eof = False
        self._extended = True
        self._asked = False  # the last event waits for an answer
        self._needs_rset = False
        self._sasl_responses: deque[bytes] = deque()
        self._transaction = Transaction(0)
        self._encoder = DataEncoder()

    # What the driver calls

    def receive(self, data: bytes) -> None:
        """Buffer input; `b""` is the end of the stream: what came before it is still read."""
        if self._phase is _Phase.CLOSED:
            return
        if not data:
            self._eof = True
        elif self._phase is _Phase.TLS:
            # Plain text where the handshake should be must never be read as a reply (RFC 3207 §6).
            self._lose(commands.TLS_INJECTION)
        else:
            self._replies.feed(data)

    def next_event(self) -> Event | Wait:
        while not self._events and not self._asked and self._phase is not _Phase.CLOSED:
            reply = self._replies.next_reply()
            if isinstance(reply, Reply):
                self._take(reply)
            elif reply is not None:
                self._lose(commands.GARBLED)
            elif self._eof:
                self._lose(commands.CONNECTION_LOST)
            elif self._phase is _Phase.BODY or self._phase is _Phase.DOT:
                return self._ask()
            else:
                return PAUSED if self._phase is _Phase.TLS else NEED_DATA
        return self._events.popleft() if self._events else PAUSED

    def data_to_send(self) -> list[bytes]:
        output = self._output
        self._output = []
        return output

    def tls_started(self) -> None:
        """The handshake is done: what the peer said before counts no more (RFC 3207 §4.2)."""
        self.wants_tls = False
        self.tls = True
        self._replies.clear()
        self._phase = _Phase.OPENING
        self._hello(extended=True)

    def timeout(self) -> float | None:
        """None while the service has the word. RFC 5321 §4.5.3.2"""
        timeouts = self._options.timeouts
        if self._phase in (_Phase.BODY, _Phase.DOT):
            return None if self._asked else timeouts.block_s
        if not self._expected:
            return timeouts.command_s if self._phase is _Phase.TLS else None
        match self._expected[0][0]:
            case Stage.GREETING:
                return timeouts.greeting_s
            case Stage.DATA:
                return timeouts.data_s
            case Stage.DOT:
                return timeouts.dot_s
            case Stage.QUIT:
                return timeouts.quit_s
        return timeouts.command_s

    def timed_out(self) -> None:
        if self._phase is not _Phase.CLOSED:
            self._lose(commands.TIMED_OUT)

    # What the service calls

    def send_message(self, envelope: Envelope) -> None:
        """Begin a transaction, after `Ready` or `Done`.

        Raises RuntimeError if there is a transaction or no session; ValueError for control characters in addresses
        or parameters, and for a domain that has no A-labels where the peer needs them.
        """
        if self._phase is not _Phase.READY or not envelope.recipients:
            raise RuntimeError("not ready for a message")
        transaction = Transaction(len(envelope.recipients), dsn=self.peer.offers("DSN"))
        lines = self._transaction_lines(envelope, transaction)
        self._transaction = transaction
        self._room.messages += 1
        self._phase = _Phase.COMMANDS
        self._unsent.extend(lines)
        if lines:
            self._needs_rset = True
            self._advance()
        else:
            self._end_transaction()

    def send_body(self, data: bytes, *, is_last: bool) -> None:
        """Answer `BodyWanted` with the next piece, cut anywhere, maybe empty; the last one leaves with the final dot.
        Raises RuntimeError if none is wanted."""
        self._ensure_asked(_Phase.BODY)
        if octets := self._encoder.feed(data):
            self._output.append(octets)
        if is_last:
            self._phase = _Phase.DOT

    def finish(self) -> None:
        """Answer `ReadyForDot`: the message shall be delivered. Raises RuntimeError if nothing waits for it."""
        self._ensure_asked(_Phase.DOT)
        if self._replies.holds_more:
            # Said before the dot, so it is no reply to it, and there will be no dot.
            reply = self._replies.next_reply()
            if isinstance(reply, Reply):
                self._take(reply)
            else:
                self._lose(commands.UNEXPECTED)
            return
        self._output.append(self._encoder.finish())
        self._phase = _Phase.COMMANDS
        if self._options.lmtp:
            # RFC 2033 §4.2: one reply for each accepted recipient, in order
            self._expected.extend((Stage.DOT, index) for index in self._transaction.accepted)
        else:
            self._expected.append((Stage.DOT, ALL))

    def abort(self) -> None:
        """End the connection so that the message in transfer is not delivered; without a transaction, just end it.

        Behind the final dot it is too late: the outcome is in doubt then.
        """
        if self._phase is not _Phase.CLOSED:
            self._asked = False
            self._output.clear()
            self._lose(commands.ABORTED)

    @property
    def has_room(self) -> bool:
        """Whether another message may follow, as far as the peer's LIMITS go."""
        return self._room.is_left

    def quit(self) -> None:
        """Say QUIT, between messages (RFC 5321 §4.1.1.10). Raises RuntimeError during a transaction."""
        if self._phase is not _Phase.READY:
            raise RuntimeError("no session to end")
        self._phase = _Phase.QUIT
        self._command(Stage.QUIT, b"QUIT\r\n")

    # Replies

    def _take(self, reply: Reply) -> None:
        """A reply goes to what expects it."""
        if reply.code == 421 or not self._expected:
            # RFC 5321 §4.2.1: 421 may answer any command. Without a command, the only other sense of a reply
            # is that the peer has had enough of the message.
            if reply.code < 400:
                self._lose(commands.UNEXPECTED)
            else:
                self._lose(reply, from_peer=True)
            return
        stage, index = self._expected.popleft()
        match stage:
            case Stage.MAIL:
                self._mail_reply(reply)
            case Stage.RCPT:
                self._rcpt_reply(reply, index)
            case Stage.DATA:
                self._data_reply(reply)
            case Stage.DOT:
                self._dot_reply(reply, index)
            case Stage.QUIT:
                self._close()
            case Stage.RSET:
                if reply.code // 100 != 2:
                    self._lose(commands.UNEXPECTED, stage)
            case _:
                self._opening_reply(reply, stage)
        if self._phase is _Phase.COMMANDS:
            self._advance()

    def _opening_reply(self, reply: Reply, stage: Stage) -> None:
        if stage is Stage.AUTH and reply.code == 334:
            if self._sasl_responses:
                self._command(stage, self._sasl_responses.popleft())
            else:
                self._lose(commands.UNEXPECTED, stage)
        elif reply.code // 100 == 3:
            self._lose(commands.UNEXPECTED, stage)
        elif stage is Stage.STARTTLS:
            self._starttls_reply(reply)
        elif reply.code >= 400:
            may_be_old = stage is Stage.HELLO and self._extended and not self._options.lmtp
            if may_be_old and reply.code >= 500:
                self._hello(extended=False)  # RFC 5321 §3.2
            else:
                self._output.append(b"QUIT\r\n")  # RFC 5321 §3.1: it ends every session
                self._lose(reply, stage, from_peer=True)
        elif stage is Stage.GREETING:
            self._hello(extended=True)
        elif stage is Stage.HELLO:
            peer = parse_hello_reply(reply)
            self.peer = peer if self._extended else Peer(peer.name)
            self._room = Room(self.peer)
            self._secure()
        else:
            self._become_ready()

    def _starttls_reply(self, reply: Reply) -> None:
        if self._replies.holds_more:
            # What came in the clear must not count as said under TLS (RFC 3207 §6).
            self._lose(commands.TLS_INJECTION, Stage.STARTTLS)
        elif reply.code < 400:
            self.wants_tls = True
            self._phase = _Phase.TLS
        elif self._options.tls is TlsMode.ALWAYS:
            self._give_up(reply, Stage.STARTTLS, from_peer=True)
        else:
            self._authenticate()

    def _mail_reply(self, reply: Reply) -> None:
        if reply.code // 100 == 3:
            self._lose(commands.UNEXPECTED, Stage.MAIL)
        elif reply.code >= 400:
            self._transaction.decide_all(reply, Stage.MAIL)

    def _rcpt_reply(self, reply: Reply, index: int) -> None:
        if reply.code // 100 == 3:
            self._lose(commands.UNEXPECTED, Stage.RCPT)
        elif reply.code >= 400:
            self._transaction.decide(index, reply, Stage.RCPT)
        elif self._transaction.outcomes[index] is None:
            self._transaction.accepted.append(index)

    def _data_reply(self, reply: Reply) -> None:
        transaction = self._transaction
        if reply.code // 100 == 2:
            self._lose(commands.UNEXPECTED, Stage.DATA)
        elif reply.code >= 400:
            transaction.decide_all(reply, Stage.DATA)
        elif transaction.accepted:
            self._encoder = DataEncoder()
            self._phase = _Phase.BODY
        elif self._options.lmtp:
            # RFC 2033 §4.2 forbids this 354, and no reply would follow the dot.
            self._lose(commands.UNEXPECTED, Stage.DATA)
        else:
            # RFC 2920 §3.1: a pipelined DATA that got through with no recipient is ended by a single dot
            self._command(Stage.DOT, b".\r\n")

    def _dot_reply(self, reply: Reply, index: int) -> None:
        transaction = self._transaction
        if reply.code // 100 == 3:
            self._lose(commands.UNEXPECTED, Stage.DOT)
        elif index != ALL:
            transaction.decide(index, reply, Stage.DOT)
        elif transaction.accepted:
            transaction.decide_all(reply, Stage.DOT)
        self._needs_rset = False

    # The way to Ready

    def _hello(self, *, extended: bool) -> None:
        self._extended = extended
        verb = "LHLO" if self._options.lmtp else "EHLO" if extended else "HELO"
        self._command(Stage.HELLO, f"{verb} {self._options.hostname}\r\n".encode("ascii"))

    def _secure(self) -> None:
        mode = self._options.tls
        if self.tls or mode is TlsMode.NEVER:
            self._authenticate()
        elif self.peer.offers("STARTTLS"):
            self._command(Stage.STARTTLS, b"STARTTLS\r\n")
        elif mode is TlsMode.ALWAYS:
            self._give_up(commands.NO_TLS, Stage.STARTTLS)
        else:
            self._authenticate()

    def _authenticate(self) -> None:
        credentials = self._options.credentials
        if credentials is None:
            self._become_ready()
        elif not self.tls:
            self._give_up(commands.NO_TLS_FOR_AUTH, Stage.AUTH)
        elif "PLAIN" in self.peer.mechanisms:
            self._auth_plain(credentials)
        elif "LOGIN" in self.peer.mechanisms:
            username, password = credentials.username, credentials.password.reveal()
            self._sasl_responses.extend(_sasl_line(text.encode()) for text in (username, password))
            self._command(Stage.AUTH, b"AUTH LOGIN\r\n")
        else:
            self._give_up(commands.NO_AUTH, Stage.AUTH)

    def _auth_plain(self, credentials: Credentials) -> None:
        message = f"\0{credentials.username}\0{credentials.password.reveal()}".encode()
        line = b"AUTH PLAIN " + _sasl_line(message)
        if len(line) > _MAX_COMMAND:  # RFC 4954 §4: then it goes after an empty challenge
            self._sasl_responses.append(_sasl_line(message))
            line = b"AUTH PLAIN\r\n"
        self._command(Stage.AUTH, line)

    def _become_ready(self) -> None:
        self._phase = _Phase.READY
        self._events.append(Ready(self.peer))

    # Transactions

    def _transaction_lines(
        self, envelope: Envelope, transaction: Transaction
    ) -> list[tuple[Stage, int, bytes]]:
        """What is to be said; nothing if the peer can be given none of it, and then `transaction` is decided."""
        peer = self.peer
        if refusal := commands.check_envelope(envelope, peer):
            transaction.decide_all(refusal, Stage.CHECK, from_peer=False)
            return []
        lines: list[tuple[Stage, int, bytes]] = []
        for index, recipient in enumerate(envelope.recipients):
            if refusal := commands.check_recipient(recipient, peer):
                transaction.decide(index, refusal, Stage.CHECK, from_peer=False)
            elif not self._room.take(recipient.address.domain, len(lines)):
                transaction.decide(index, commands.OVER_LIMIT, Stage.RCPT, from_peer=False)
            else:
                lines.append((Stage.RCPT, index, commands.rcpt_command(recipient, peer)))
        if not lines:
            return []
        mail = (Stage.MAIL, ALL, commands.mail_command(envelope, peer))
        rset = [(Stage.RSET, ALL, b"RSET\r\n")] if self._needs_rset else []
        return [*rset, mail, *lines, (Stage.DATA, ALL, b"DATA\r\n")]

    def _advance(self) -> None:
        """Say the next command, or with PIPELINING all of them; end the transaction when nothing is left."""
        if self._unsent and self.peer.offers("PIPELINING"):
            self._output.append(b"".join(line for _, _, line in self._unsent))
            self._expected.extend((stage, index) for stage, index, _ in self._unsent)
            self._unsent.clear()
        if self._expected:
            return
        if self._unsent:
            stage, index, line = self._unsent.popleft()
            if not self._transaction.decided:
                self._expected.append((stage, index))
                self._output.append(line)
                return
        self._end_transaction()

    def _end_transaction(self) -> None:
        self._phase = _Phase.READY
        self._unsent.clear()
        self._events.append(Done(self._transaction.results()))

    def _ask(self) -> Event | Wait:
        """In mail data: the next question to the service, once the output was taken; the last piece goes together with
        the final dot."""
        if self._output and self._phase is _Phase.BODY:
            return PAUSED
        self._asked = True
        return BodyWanted() if self._phase is _Phase.BODY else ReadyForDot()

    def _ensure_asked(self, phase: _Phase) -> None:
        if not self._asked or self._phase is not phase:
            raise RuntimeError("nothing of this kind was asked")
        self._asked = False

    # Output and the end

    def _command(self, stage: Stage, line: bytes) -> None:
        self._expected.append((stage, ALL))
        self._output.append(line)

    def _give_up(self, reply: Reply, stage: Stage, *, from_peer: bool = False) -> None:
        """End a session that works but is of no use."""
        self._output.append(b"QUIT\r\n")
        self._lose(reply, stage, from_peer=from_peer)

    def _lose(self, reply: Reply, stage: Stage | None = None, *, from_peer: bool = False) -> None:
        """The connection is of no use any more: whatever is undecided gets `reply`."""
        stage = stage or self._stage()
        match self._phase:
            case _Phase.COMMANDS | _Phase.BODY | _Phase.DOT:
                self._transaction.decide_all(reply, stage, from_peer=from_peer)
                self._end_transaction()
            case _Phase.READY:
                self._events.append(Closed(make_outcome(reply, stage, from_peer)))
            case _Phase.OPENING | _Phase.TLS:
                self._events.append(Failed(make_outcome(reply, stage, from_peer)))
        self._close()

    def _stage(self) -> Stage:
        if self._phase is _Phase.TLS:
            return Stage.STARTTLS
        if self._phase in (_Phase.BODY, _Phase.DOT):
            return Stage.BODY
        return self._expected[0][0] if self._expected else Stage.IDLE

    def _close(self) -> None:
        self.closing = True
        self.wants_tls = False
        self._phase = _Phase.CLOSED
        self._asked = False
        self._expected.clear()
        self._unsent.clear()
        self._sasl_responses.clear()
        self._replies.clear()


def _sasl_line(message: bytes) -> bytes:
    return encode_base64(message) + b"\r\n"
