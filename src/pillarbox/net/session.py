"""What a connection asks of a service."""

from typing import Any, Protocol

from pillarbox.core.engine import Engine


class ServerEngine(Engine[Any], Protocol):
    """The server side of a protocol."""

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

    async def handle(self, event: Any) -> None:
        """Answer one event by the engine."""

    def failed(self, event: Any) -> None:
        """`handle` raised what it should not: answer that we have a bug, if an answer is due."""

    def stop(self) -> None:
        """The server shuts down: queue the protocol's parting words and set `engine.closing`, now or once the
        message in hand is done."""

    def closed(self) -> None:
        """The connection is gone: let go of everything. Called once."""
