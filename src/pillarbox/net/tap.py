"""Looking on at a session: what client and server say to each other, line by line, with the state of the session.

A `Tap` stands between a connection and its session as long as somebody looks on; a session that nobody looks at has
none, and pays nothing. What the client says is told by the engine when it takes it up, with all secrets masked there;
what the server says is cut into lines before it is encrypted. Messages are told by their size. A fault of the tap ends
the looking on, never the session.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pillarbox.core.engine import Heard, Wait
from pillarbox.core.shown import LONGEST_SHOWN, Answers
from pillarbox.core.tally import PROTOCOL_OF
from pillarbox.imap import shown as shown_imap
from pillarbox.imap.events import AppendData
from pillarbox.net.connection import Connection
from pillarbox.net.session import ServerEngine, Session
from pillarbox.pop3 import shown as shown_pop3
from pillarbox.smtp import shown as shown_smtp
from pillarbox.smtp.events import BodyChunk, BodyEnd

CLIENT, SERVER, NEITHER = "client", "server", ""
"""Who says a line."""

_ANSWERS: dict[str, Callable[..., Answers]] = {
    "smtp": shown_smtp.answers,
    "lmtp": shown_smtp.answers,
    "imap": shown_imap.answers,
    "pop3": shown_pop3.answers,
}

log = logging.getLogger("pillarbox.net")


@dataclass(slots=True, frozen=True)
class Said:
    """A line of a conversation, or what happened to it."""

    who: str
    text: bytes
    stage: str
    """Where the conversation was when it was said."""
    is_secret: bool = False
    """It belongs to a login, and says nothing."""
    octets: int = 0
    """Of a message, of which nothing else is told."""
    missed: int = 0
    """So many lines are not told here."""


class Tap:
    """A `Session` around one, whose engine is a `ServerEngine` around its."""

    def __init__(
        self,
        connection: Connection,
        inner: Session,
        told: Callable[["Tap", Said], None],
        over: Callable[["Tap"], None],
    ) -> None:
        """`told` gets all that is said from now on; `over` is called when the connection is gone."""
        self.connection = connection
        self.inner = inner
        self._told: Callable[[Tap, Said], None] | None = told
        self._over = over
        protocol = PROTOCOL_OF[connection.service.name]
        self._answers = _ANSWERS[protocol](is_lost=connection.is_at_work)
        self._octets = 0  # of a message, that were not told yet
        self.engine: ServerEngine = _TappedEngine(inner.engine, self)
        inner.engine.observe(self._heard)

    def end(self) -> None:
        """Nobody looks on any more."""
        self._told = None
        self.inner.engine.observe(None)

    # What is told

    def note(self, text: str) -> None:
        """What happened to the connection."""
        self._tell(Said(NEITHER, text.encode(), self.inner.stage()))

    def _tell(self, said: Said) -> None:
        if self._told is None:
            return
        try:
            self._told(self, said)
        except Exception:
            log.exception(
                "%s: a bug in what is told of it; nobody looks on now", self.connection.id
            )
            self.end()

    def _heard(self, line: Heard) -> None:
        """The engine takes this up: what it said before comes first."""
        tapped = self.engine
        assert isinstance(tapped, _TappedEngine)
        tapped.hold()
        self.end_of_message()
        self._answers.heard(line)
        text = line.text
        if len(text) > LONGEST_SHOWN:
            text = b"%b<%d octets more>" % (text[:LONGEST_SHOWN], len(text) - LONGEST_SHOWN)
        self._tell(Said(CLIENT, text, self.inner.stage(), line.is_secret))

    def event(self, event: Any) -> None:
        """What the engine gives out, of which only messages are no lines."""
        if event.__class__ is BodyChunk:
            self._octets += len(event.data)
        elif event.__class__ is AppendData:
            self._octets += len(event.chunk)
        elif event.__class__ is BodyEnd:
            self._octets = event.size_bytes
            self.end_of_message()

    def end_of_message(self) -> None:
        octets, self._octets = self._octets, 0
        if octets:
            text = b"<%d octets of a message>" % octets
            self._tell(Said(CLIENT, text, self.inner.stage(), octets=octets))

    def answered(self, parts: list[bytes]) -> None:
        """The server says this."""
        if self._told is None or not parts:
            return
        self.end_of_message()
        stage, answers = self.inner.stage(), self._answers
        for line in answers.feed(parts[0] if len(parts) == 1 else b"".join(parts)):
            self._tell(Said(SERVER, line, stage))
        missed, answers.missed = answers.missed, 0
        if missed:
            self._tell(Said(SERVER, b"", stage, missed=missed))

    # The session

    def opened(self) -> None:
        host, port = self.connection.local
        self.note(f"connected to {host} port {port}")
        self.inner.opened()

    def secured(self) -> None:
        self.note("TLS begins")
        self.inner.secured()

    def stage(self) -> str:
        return self.inner.stage()

    async def handle(self, event: Any) -> None:
        await self.inner.handle(event)

    def failed(self, event: Any) -> None:
        self.inner.failed(event)

    def stop(self) -> None:
        self.inner.stop()

    def closed(self) -> None:
        self.note("closed")
        self._over(self)
        self.inner.closed()


class _TappedEngine:
    """What is driven in the place of the engine."""

    def __init__(self, inner: ServerEngine, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap
        self._held: list[bytes] = []

    def hold(self) -> None:
        """Take what the engine has to say so far, to send it later."""
        parts = self._inner.data_to_send()
        self._held += parts
        self._tap.answered(parts)

    def data_to_send(self) -> list[bytes]:
        self.hold()
        parts, self._held = self._held, []
        return parts

    def next_event(self) -> Any | Wait:
        event = self._inner.next_event()
        self._tap.event(event)
        return event

    @property
    def closing(self) -> bool:
        return self._inner.closing

    @property
    def is_amid_message(self) -> bool:
        return self._inner.is_amid_message

    @property
    def wants_tls(self) -> bool:
        return self._inner.wants_tls

    @property
    def is_amid_message(self) -> bool:
        return self._inner.is_amid_message

    def receive(self, data: bytes) -> None:
        self._inner.receive(data)

    def tls_started(self) -> None:
        self._inner.tls_started()

    def timeout(self) -> float | None:
        return self._inner.timeout()

    def timed_out(self) -> None:
        self._inner.timed_out()

    def observe(self, heard: Callable[[Heard], None] | None) -> None:
        self._inner.observe(heard)
