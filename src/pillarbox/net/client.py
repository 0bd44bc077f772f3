"""The driver of client engines: one connection that we open, its events asked for one by one.

Whatever happens to the connection is told to the engine (`receive(b"")`, `timed_out`), which makes an event of it; only
opening and the TLS handshake raise.
"""

import asyncio
import ssl
from typing import Any, Protocol

from pillarbox.core.engine import PAUSED, Engine, Wait
from pillarbox.net.output import write
from pillarbox.net.tls import TlsLayer

HANDSHAKE_S = 60.0
EVENT_S = 1800.0
"""Until an event comes, whatever trickles in meanwhile: the engine's time-outs only count silence."""
CLOSE_WAIT_S = 5.0
WRITE_HIGH_OCTETS = 256 * 1024
READ_HIGH_OCTETS = 256 * 1024
"""Input that the engine has not been asked about; then the peer has to wait."""


class TlsFailed(Exception):
    """The handshake did not work: the peer may still do without TLS."""


class ClientEngine(Engine[Any], Protocol):
    """A client engine; `tls` says whether what is said is encrypted."""

    tls: bool


class ClientConnection(asyncio.Protocol):
    """One connection to another server."""

    def __init__(self, engine: ClientEngine, context: ssl.SSLContext, server_hostname: str) -> None:
        """`context` and `server_hostname` are for STARTTLS and for implicit TLS (an engine with `tls` set)."""
        self._engine = engine
        self._context = context
        self._server_hostname = server_hostname
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._tls: TlsLayer | None = None
        self._tls_error = ""
        self._waiter: asyncio.Future[bool] | None = None
        self._deadline = 0.0
        """When the present wait is over, in time of the loop."""
        self._timer: asyncio.TimerHandle | None = None
        """Goes off at some deadline or before: waits are many and rarely last, so none has a timer of its own."""
        self._timer_at = 0.0
        self._write_paused = False
        self._unread_octets = 0
        self.tls_version = ""
        """Such as "TLSv1.3"; '' without TLS."""

    async def open(self, address: str, port: int, timeout_s: float) -> None:
        """Connect. Raises OSError (also when the time is over), TlsFailed."""
        async with asyncio.timeout(timeout_s):
            await self._loop.create_connection(lambda: self, address, port)
        if self._engine.tls:
            await self._handshake()

    async def event(self) -> Any:
        """The next event of the engine; None: the connection is over. What the engine wants sent is sent before the
        connection waits, so it may go together with the answer to an event.

        Raises TlsFailed when a handshake that the engine wanted failed; then nothing more can be said.
        """
        engine = self._engine
        end = self._loop.time() + EVENT_S
        while True:
            event = engine.next_event()
            if event.__class__ is not Wait:
                return event
            if self._flush() and event is PAUSED:
                continue  # the engine waits for its output to be taken
            if engine.wants_tls:
                await self._handshake()
                engine.tls_started()
            elif engine.closing:
                return None
            else:
                self._read_on()
                left_s = end - self._loop.time()
                silence_s = engine.timeout()
                if not await self._wait(left_s if silence_s is None else min(silence_s, left_s)):
                    engine.timed_out()

    def _read_on(self) -> None:
        """The engine has looked at all input: more may come."""
        if self._unread_octets > READ_HIGH_OCTETS and self._transport is not None:
            self._transport.resume_reading()
        self._unread_octets = 0

    def _flush(self) -> bool:
        parts = self._engine.data_to_send()
        transport = self._transport
        if not parts:
            return False
        if transport is not None and not transport.is_closing():
            if self._tls is not None:
                try:
                    self._tls.send(parts)
                except ssl.SSLError:
                    transport.abort()
                    return True
                transport.write(self._tls.outgoing())
            else:
                write(transport, parts)
        return True

    async def _wait(self, timeout_s: float) -> bool:
        """Until something came or output was taken; False: the time is over."""
        self._deadline = self._loop.time() + timeout_s
        if self._timer is None or self._timer_at > self._deadline:
            self._set_timer()
        waiter = self._waiter = self._loop.create_future()
        try:
            return bool(await waiter)
        finally:
            self._waiter = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._loop.time() >= self._deadline:
            waiter.set_result(False)
        else:
            self._set_timer()

    async def drained(self, timeout_s: float) -> bool:
        """Until the peer has taken enough of our output; False: it did not in time."""
        end = self._loop.time() + timeout_s
        while self._write_paused and self._transport is not None:
            if not await self._wait(end - self._loop.time()):
                return False
        return True

    async def _handshake(self) -> None:
        if self._transport is None:
            raise TlsFailed("the connection was closed")
        try:
            self._tls = TlsLayer(self._context, self._server_hostname)
        except ValueError as error:  # a name from the DNS that can be in no certificate
            raise TlsFailed(f"the name of the host cannot be checked: {error}") from error
        self._tls_error = ""
        end = self._loop.time() + HANDSHAKE_S
        self._advance_tls(b"")
        while not self._tls.established:
            if self._tls_error or self._transport is None:
                raise TlsFailed(self._tls_error or "the connection was closed")
            if not await self._wait(end - self._loop.time()):
                self.abort()
                raise TlsFailed("the handshake took too long")
        self.tls_version = self._tls.version()

    def _advance_tls(self, data: bytes) -> bytes:
        """Plain text; on an error the connection is over."""
        assert self._tls is not None
        plain = b""
        try:
            plain = self._tls.receive(data)
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._tls_error = getattr(error, "verify_message", "") or error.reason or str(error)
            self._over()
        except EOFError:
            self._over()
        outgoing = self._tls.outgoing()
        if outgoing and self._transport is not None:
            self._transport.write(outgoing)
        return plain

    async def close(self) -> None:
        """Close, waiting a little for the last words to leave."""
        if self._transport is None:
            return
        self._flush()
        if self._tls is not None and self._tls.established:
            self._tls.end()
            self._transport.write(self._tls.outgoing())
        self._transport.close()
        await self._wait(CLOSE_WAIT_S)
        self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(WRITE_HIGH_OCTETS)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        if self._tls is not None:
            data = self._advance_tls(data)
        if data:
            self._engine.receive(data)
            before = self._unread_octets
            self._unread_octets += len(data)
            if before <= READ_HIGH_OCTETS < self._unread_octets and self._transport is not None:
                self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._over()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._write_paused = False
        self._over()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake()

    def _over(self) -> None:
        self._engine.receive(b"")
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)
