"""A session with another server, used for message after message.

A host that cannot be talked to gives an `Outcome`, never an exception. Opportunistic TLS whose handshake fails is
tried once more in the clear (RFC 7435 §3); where TLS is demanded, never.
"""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from pillarbox.net.client import ClientConnection, TlsFailed
from pillarbox.outbound.fit import fit
from pillarbox.smtp.client import SmtpClient
from pillarbox.smtp.client_events import (
    BodyWanted,
    ClientOptions,
    Done,
    Envelope,
    Failed,
    Kind,
    Outcome,
    Ready,
    ReadyForDot,
    Stage,
    TlsMode,
)
from pillarbox.smtp.reply import Reply

CONNECT_S = 30.0
"""Until another address of the host is tried: long enough for three lost SYN packets."""

CHUNK_OCTETS = 64 * 1024

BeforeDot = Callable[[], Awaitable[bool]]
"""Asked before the final dot: False means that the message must not be delivered now."""


@dataclass(slots=True, frozen=True)
class Host:
    """One address of one host to try."""

    name: str
    """As in the MX record or the configuration; what its certificate should say."""
    address: str
    """IPv4 or IPv6."""
    port: int
    implicit_tls: bool = False
    verified: bool = False
    """Whether its certificate must be right; goes with options that demand TLS."""
    role: str = ""
    """What it is for us where the configuration names it, such as "the smarthost"; "" where the DNS does."""

    def __str__(self) -> str:
        return f"{self.name} [{self.address}]"


@dataclass(slots=True, frozen=True)
class TlsContexts:
    """Made once: a verified and an unverified client context."""

    verified: ssl.SSLContext
    unverified: ssl.SSLContext


class HostSession:
    """An open session, ready for messages."""

    def __init__(self, host: Host, connection: ClientConnection, engine: SmtpClient) -> None:
        self.host = host
        self._connection = connection
        self._engine = engine
        self._in_transaction = False
        self.messages = 0
        """How many were sent over it."""

    def is_usable(self) -> bool:
        """Whether another message may follow, as far as is known. Notes what the peer said since the last."""
        return self._engine.has_room and self._is_alive()

    def _is_alive(self) -> bool:
        engine = self._engine
        if not self._in_transaction and not engine.closing:
            engine.next_event()  # between messages it tells but one thing: the peer has closed
        return not self._in_transaction and not engine.closing

    @property
    def tls_version(self) -> str:
        """Such as "TLSv1.3"; '' in the clear."""
        return self._connection.tls_version

    async def send(self, envelope: Envelope, octets: bytes, before_dot: BeforeDot) -> list[Outcome]:
        """Send a message; one outcome for each recipient, in order. Raises ValueError for an envelope that cannot be
        said in SMTP."""
        engine, connection = self._engine, self._connection
        self.messages += 1
        envelope, octets = await fit(envelope, octets, engine.peer)
        engine.send_message(envelope)
        self._in_transaction = True
        position = 0
        while True:
            event = await self._event()
            if isinstance(event, Done):
                self._in_transaction = False
                return event.outcomes
            if isinstance(event, BodyWanted):
                if not await connection.drained(engine.timeout() or CONNECT_S * 6):
                    engine.timed_out()
                else:
                    chunk = octets[position : position + CHUNK_OCTETS]
                    position += CHUNK_OCTETS
                    engine.send_body(chunk, is_last=position >= len(octets))
            elif isinstance(event, ReadyForDot):
                if await before_dot():
                    engine.finish()
                else:
                    engine.abort()
            elif event is None:
                return [_lost("the connection was closed")] * len(envelope.recipients)

    async def _event(self) -> object:
        try:
            return await self._connection.event()
        except TlsFailed as error:
            self._connection.abort()
            return Failed(_lost(f"TLS: {error}"))

    async def close(self) -> None:
        """Say QUIT if that is possible. A transaction that was broken off is not finished."""
        try:
            if self._is_alive():
                self._engine.quit()
                while await self._event() is not None:
                    continue
            if not self._in_transaction:
                await self._connection.close()
        finally:
            self._connection.abort()


def _lost(text: str, stage: Stage = Stage.GREETING) -> Outcome:
    return Outcome(Kind.TEMPORARY, stage, Reply(451, "4.4.2", text), from_peer=False)


async def open_session(
    host: Host, options: ClientOptions, contexts: TlsContexts
) -> HostSession | Outcome:
    """Connect and get ready for messages, or tell why not. An outcome of a host counts for this host alone."""
    result = await _open(host, options, contexts)
    if isinstance(result, TlsFailed):
        if options.tls is TlsMode.IF_OFFERED and not host.implicit_tls:
            result = await _open(host, replace(options, tls=TlsMode.NEVER), contexts)
        if isinstance(result, TlsFailed):
            return _lost(f"TLS with the server failed: {result}", Stage.STARTTLS)
    return result


async def _open(
    host: Host, options: ClientOptions, contexts: TlsContexts
) -> HostSession | Outcome | TlsFailed:
    engine = SmtpClient(options, tls=host.implicit_tls)
    context = contexts.verified if host.verified else contexts.unverified
    connection = ClientConnection(engine, context, host.name)
    session = None
    try:
        await connection.open(host.address, host.port, CONNECT_S)
        event = await connection.event()
        if isinstance(event, Ready):
            session = HostSession(host, connection, engine)
            return session
        await connection.close()
    except TlsFailed as failure:
        return failure
    except OSError as error:
        reason = (
            "it took too long" if isinstance(error, TimeoutError) else error.strerror or str(error)
        )
        where = f"{host.role} {host}:{host.port}".lstrip()
        reply = Reply(451, "4.4.1", f"cannot connect to {where}: {reason}")
        return Outcome(Kind.TEMPORARY, Stage.GREETING, reply, from_peer=False)
    finally:
        if session is None:  # also when the attempt is cancelled
            connection.abort()
    if isinstance(event, Failed):
        return event.outcome
    return _lost("the connection was closed")
