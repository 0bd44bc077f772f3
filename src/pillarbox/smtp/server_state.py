"""What a server engine knows of its session, for the commands that depend on it and change it."""

from pillarbox.smtp.chunks import Chunk
from pillarbox.smtp.extensions import Situation
from pillarbox.smtp.lines import CommandLines
from pillarbox.smtp.options import ServerOptions
from pillarbox.smtp.server_phase import Phase
from pillarbox.smtp.server_transaction import Transaction


class State:
    """Of one connection."""

    __slots__ = (
        "_none",
        "authenticated",
        "chunk",
        "extended",
        "greeted",
        "lines",
        "mechanisms",
        "options",
        "phase",
        "tls",
        "transaction",
        "xclient",
    )

    def __init__(self, options: ServerOptions, *, tls: bool, xclient: bool) -> None:
        self.options = options
        self.tls = tls
        self.xclient = xclient
        """The client may speak for others."""
        self.mechanisms = options.mechanisms
        """Of SASL, as the present connection can have them."""
        self.authenticated = False
        self.greeted = False
        """EHLO, HELO or LHLO was accepted."""
        self.extended = False
        """The last one was not HELO."""
        self.phase = Phase.GREETING
        self.lines = CommandLines()
        """Input behind the present command."""
        self._none = Transaction()
        self.transaction = self._none
        self.chunk = Chunk(0, 0, is_last=False)

    @property
    def situation(self) -> Situation:
        return Situation(self.options, self.tls, self.xclient, self.mechanisms)

    def end_transaction(self) -> None:
        self.transaction = self._none

    def begin_anew(self) -> None:
        """As after the greeting."""
        self.greeted = False
        self.end_transaction()


_STAGES = {
    Phase.GREETING: "connected",
    Phase.TLS: "handshake",
    Phase.AUTH: "auth",
    Phase.AUTH_RESPONSE: "auth",
    **dict.fromkeys(
        (
            Phase.DATA_START,
            Phase.DATA,
            Phase.DATA_END,
            Phase.CHUNK_START,
            Phase.CHUNK,
            Phase.CHUNK_END,
            Phase.BODY_END,
        ),
        "data",
    ),
}


def stage_of(state: State) -> str:
    """For people: how far a session has come."""
    if state.phase in _STAGES:
        return _STAGES[state.phase]
    if state.transaction.is_open:
        return "rcpt" if state.transaction.recipients else "mail"
    return "ehlo" if state.greeted else "connected"
