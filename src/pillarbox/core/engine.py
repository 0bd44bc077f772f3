"""The one structural shape that every protocol engine has. There is no base class: engines just fit it.

An engine is sans-IO: bytes in, events out; responses in, bytes out. It owns framing, limits and protocol
state, and knows no socket, clock or store. Whoever drives it calls, in this order, each turn:
`receive`, then `next_event` until it says NEED_DATA or PAUSED, then `data_to_send` once, and writes that.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

Event = TypeVar("Event", covariant=True)


class Wait(Enum):
    """What `next_event` says when it has no event."""

    NEED_DATA = "need data"
    """Everything received was consumed; more input is needed."""
    PAUSED = "paused"
    """The last event still waits for its response (or TLS, or the end); buffered input stays in order."""


@dataclass(slots=True, frozen=True)
class Heard:
    """A line that a server engine takes up, as it may be shown to who looks on (`observe`)."""

    text: bytes
    """Without its end; what is secret, or may be, is told in words between < and >."""
    is_secret: bool = False
    """It belongs to a login, and nothing of it is shown."""
    hidden_tag: bytes = b""
    """What answers begin with, and may not be shown either."""


SECRET = b"<secret>"


NEED_DATA = Wait.NEED_DATA
PAUSED = Wait.PAUSED


class Engine(Protocol[Event]):
    """What the driver relies on."""

    @property
    def closing(self) -> bool:
        """True once the connection shall be closed after all output is written."""

    @property
    def wants_tls(self) -> bool:
        """True once the go-ahead for STARTTLS or STLS is queued: write it, do the handshake, `tls_started`."""

    def receive(self, data: bytes) -> None:
        """Buffer input. `b""` is the end of the stream. Never raises, whatever the peer sends."""

    def next_event(self) -> Event | Wait:
        """The next event in order. Never raises, whatever the peer sent."""

    def data_to_send(self) -> list[bytes]:
        """Take all queued output."""

    def tls_started(self) -> None:
        """The handshake is done: protocol state is reset as the RFC says."""

    def timeout(self) -> float | None:
        """Seconds that the peer may stay silent in the present state; None: for ever."""

    def timed_out(self) -> None:
        """The peer was silent for `timeout` seconds: queue the protocol's parting words and set `closing`."""
