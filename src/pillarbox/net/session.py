"""What a connection asks of a service."""

from collections.abc import Callable
from typing import Any, Protocol

from pillarbox.core.engine import Engine, Heard


class ServerEngine(Engine[Any], Protocol):
    """The server side of a protocol."""

    def observe(self, heard: Callable[[Heard], None] | None) -> None:
        """From now on, `heard` gets each line that the peer says, secrets masked, when it is taken up and before
        anything comes of it; None: nobody does. Costs nothing where nobody looks on."""

    @property
    def is_amid_message(self) -> bool:
        """Octets of a message are on their way: each piece is an event, so silence is not all that can be too slow."""


class Session(Protocol):
    """A service's side of one connection."""

    @property
    def engine(self) -> ServerEngine:
        """The server side of the protocol."""

    def opened(self) -> None:
        """The peer is there (with implicit TLS: after the handshake): queue the greeting."""

    def secured(self) -> None:
        """A handshake after the greeting is done, and the engine knows it."""

    def stage(self) -> str:
        """Where the conversation is, in a few words for people."""

    async def handle(self, event: Any) -> None:
        """Answer one event by the engine."""

    def failed(self, event: Any) -> None:
        """`handle` raised what it should not: answer that we have a bug, if an answer is due."""

    def stop(self) -> None:
        """The server shuts down: queue the protocol's parting words and set `engine.closing`, now or once the
        message in hand is done."""

    def closed(self) -> None:
        """The connection is gone: let go of everything. Called once."""
