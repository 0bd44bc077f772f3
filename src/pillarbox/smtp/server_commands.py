"""The commands of a server, each a function of the session's state and its argument, and the table of them.

A command changes nothing but the state. What needs a decision becomes an event, and the phase says that it waits.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pillarbox.smtp import reply as replies
from pillarbox.smtp.auth import parse_auth
from pillarbox.smtp.chunks import parse_chunk
from pillarbox.smtp.events import Auth, DataStart, Event, Hello, Mail, Quit, Rcpt, Reset, Xclient
from pillarbox.smtp.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS
from pillarbox.smtp.grammar import UTF8, parse_hello, parse_mail, parse_rcpt
from pillarbox.smtp.reply import Reply, bad_syntax
from pillarbox.smtp.server_phase import Phase
from pillarbox.smtp.server_state import State
from pillarbox.smtp.server_transaction import Transaction
from pillarbox.smtp.xclient import parse_xclient

FAR_TOO_LARGE = 16
"""A refused chunk of over so many times the largest message is not waited for."""


@dataclass(slots=True)
class Said:
    """Answered here, and yet the service has to know, or the connection is over."""

    reply: Reply
    event: Event | None = None
    closes: bool = False


Outcome = Event | Reply | Said | None
"""An event waits for the service, a reply answers; None: octets of a chunk follow."""

_BDAT_USAGE = "BDAT size [LAST]"
_XCLIENT_USAGE = "XCLIENT attribute=value ..."


def _ehlo(state: State, argument: bytes) -> Outcome:
    return _hello(state, argument, extended=True)


def _helo(state: State, argument: bytes) -> Outcome:
    return _hello(state, argument, extended=False)


def _hello(state: State, argument: bytes, *, extended: bool) -> Outcome:
    domain = parse_hello(argument)
    if domain is None:
        verb = "LHLO" if state.options.lmtp else "EHLO" if extended else "HELO"
        return bad_syntax(f"{verb} domain")
    state.extended = extended
    state.phase = Phase.HELLO
    return Hello(extended, domain)


def _mail(state: State, argument: bytes) -> Outcome:
    options = state.options
    if options.requires_auth and not state.authenticated:
        auth_offered = state.situation.auth_offered
        return replies.AUTHENTICATION_REQUIRED if auth_offered else replies.TLS_FIRST
    path = parse_mail(argument, MAIL_PARAMETERS)
    if isinstance(path, Reply):
        return path
    declared = path.parameters.get("SIZE")
    size = int(declared) if declared else None
    if size is not None and size > options.size_limit_bytes:
        return replies.TOO_BIG  # RFC 1870 §6.1
    body = path.parameters.get("BODY", "").upper()
    state.transaction = Transaction(body=body, utf8=UTF8 in path.parameters)
    state.phase = Phase.MAIL
    return Mail(path.address, size, path.parameters)


def _rcpt(state: State, argument: bytes) -> Outcome:
    path = parse_rcpt(argument, RCPT_PARAMETERS, utf8=state.transaction.utf8)
    if isinstance(path, Reply):
        return path
    if problem := state.transaction.rcpt_problem(state.options.limits.recipients):
        return problem
    assert path.address is not None  # parse_rcpt refuses the null path
    state.phase = Phase.RCPT
    return Rcpt(path.address, path.raw, path.parameters)


def _data_command(state: State, argument: bytes) -> Outcome:
    if problem := state.transaction.data_problem(lmtp=state.options.lmtp):
        return problem
    state.phase = Phase.DATA_START
    return DataStart()


def _bdat(state: State, argument: bytes) -> Outcome:
    """RFC 3030 §2: the octets come, whatever we think of them."""
    chunk = parse_chunk(argument)
    if chunk is None:
        return bad_syntax(_BDAT_USAGE)
    state.chunk = chunk
    state.phase = Phase.CHUNK
    transaction = state.transaction
    chunk.refusal = transaction.chunk_problem(chunk.size, state.options.size_limit_bytes)
    if chunk.refusal is None and transaction.chunks is None:
        state.phase = Phase.CHUNK_START
        return DataStart()
    if chunk.refusal is not None and chunk.size > FAR_TOO_LARGE * state.options.size_limit_bytes:
        # DEVIATES: RFC 3030 §2 wants the octets read; so many are no message that went wrong.
        return Said(chunk.refusal, Reset(), closes=True)
    return None


def _rset(state: State, argument: bytes) -> Outcome:
    state.end_transaction()
    return Said(replies.OK, Reset())


def _noop(state: State, argument: bytes) -> Outcome:
    return replies.OK


def _vrfy(state: State, argument: bytes) -> Outcome:
    return replies.CANNOT_VERIFY  # RFC 5321 §3.5.3


def _expn(state: State, argument: bytes) -> Outcome:
    return replies.NOT_IMPLEMENTED


def _help(state: State, argument: bytes) -> Outcome:
    known = LMTP_COMMANDS if state.options.lmtp else COMMANDS
    verbs = " ".join(verb.decode("ascii") for verb in known if verb != b"XCLIENT")
    return Reply(214, "2.0.0", f"Commands: {verbs}")


def _quit(state: State, argument: bytes) -> Outcome:
    return Said(replies.BYE, Quit(), closes=True)


def _starttls(state: State, argument: bytes) -> Outcome:
    if state.tls:
        return replies.TLS_ACTIVE
    if not state.options.starttls:
        return replies.NOT_IMPLEMENTED
    if state.lines:
        # What was sent in the clear behind STARTTLS must not count as sent under TLS (RFC 3207 §4).
        return Said(replies.PIPELINED_STARTTLS, closes=True)
    state.phase = Phase.TLS
    return replies.READY_FOR_TLS


def _auth(state: State, argument: bytes) -> Outcome:
    offered = state.situation.auth_offered
    outcome = parse_auth(argument, state.mechanisms, state.authenticated, offered)
    if isinstance(outcome, Auth):
        state.phase = Phase.AUTH
    return outcome


def _xclient(state: State, argument: bytes) -> Outcome:
    if not state.xclient:
        return replies.XCLIENT_DENIED
    attributes = parse_xclient(argument)
    if attributes is None:
        return bad_syntax(_XCLIENT_USAGE)
    state.phase = Phase.XCLIENT
    return Xclient(attributes)


@dataclass(slots=True, frozen=True)
class Command:
    """A row of the command table."""

    run: Callable[[State, bytes], Outcome]
    usage: str | None = None
    """How to write it, for commands that need an argument."""
    optional_argument: bool = False
    after_hello: bool = False
    in_transaction: bool | None = None
    """Only inside (True) or outside (False) a mail transaction; None: anywhere."""

    def problem(self, state: State, argument: bytes) -> Reply | None:
        """Why it cannot be run now (RFC 5321 §4.1.1, §4.1.4)."""
        if self.after_hello and not state.greeted:
            return replies.HELLO_FIRST
        if self.in_transaction not in (None, state.transaction.is_open):
            return replies.MAIL_FIRST if self.in_transaction else replies.IN_TRANSACTION
        if self.usage is not None and not argument:
            return bad_syntax(self.usage)
        return replies.NO_ARGUMENT if argument and not self.takes_argument else None

    @property
    def takes_argument(self) -> bool:
        return self.optional_argument or self.usage is not None


COMMANDS: dict[bytes, Command] = {
    b"EHLO": Command(_ehlo, "EHLO domain"),
    b"HELO": Command(_helo, "HELO domain"),
    b"MAIL": Command(_mail, "MAIL FROM:<address>", after_hello=True, in_transaction=False),
    b"RCPT": Command(_rcpt, "RCPT TO:<address>", after_hello=True, in_transaction=True),
    b"DATA": Command(_data_command, after_hello=True, in_transaction=True),
    b"BDAT": Command(_bdat, _BDAT_USAGE),
    b"RSET": Command(_rset),
    b"NOOP": Command(_noop, optional_argument=True),
    b"VRFY": Command(_vrfy, "VRFY address"),
    b"EXPN": Command(_expn, "EXPN list"),
    b"HELP": Command(_help, optional_argument=True),
    b"QUIT": Command(_quit),
    b"STARTTLS": Command(_starttls, after_hello=True),
    b"XCLIENT": Command(_xclient, _XCLIENT_USAGE, in_transaction=False),
    b"AUTH": Command(_auth, "AUTH mechanism [response]", after_hello=True, in_transaction=False),
}

LMTP_COMMANDS = {verb: row for verb, row in COMMANDS.items() if verb not in (b"EHLO", b"HELO")}
LMTP_COMMANDS[b"LHLO"] = Command(_ehlo, "LHLO domain")  # RFC 2033 §4.1

HTTP_METHODS = frozenset({b"GET", b"POST", b"PUT", b"CONNECT"})
"""A browser that is tricked into talking to this port could carry commands in a request's body."""
