"""The one driver for all protocols: feeds an engine, lets a session answer, writes once a turn.

A session's `handle` is a coroutine. It is stepped once by hand: what can be answered at once costs no task; a task is
made only when it suspends, and the engine's input waits until it is done. Reading stops while a peer does not read
our answers, or sends faster than we handle.
"""

import asyncio
import logging
import socket
import ssl
import time
import types
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, cast

from pillarbox.core.engine import Wait
from pillarbox.net.admission import Admission
from pillarbox.net.channel import Channel
from pillarbox.net.output import write
from pillarbox.net.patience import HANDSHAKE_S, PROXY_HEADER_S, Patience
from pillarbox.net.proxy import parse_proxy_header
from pillarbox.net.service import Service
from pillarbox.net.session import Session
from pillarbox.net.turns import TURN_S, Turns
from pillarbox.trace.events import Refused
from pillarbox.trace.events import Session as Introduction

EVENTS_A_TURN = 64
"""After so many events other connections get their turn."""

READ_AHEAD_OCTETS = 256 * 1024
"""Input that may wait while a handler is at work."""

BULK_OCTETS = 32 * 1024
"""A read of this size waits for its turn: uvloop would go on to read up to 8 MiB from one connection."""

WRITE_HIGH_OCTETS = 256 * 1024
WRITE_LOW_OCTETS = 64 * 1024

CLOSE_WAIT_S = 5.0
"""How long the last words may take to leave."""

SESSION: ContextVar[str] = ContextVar("session", default="")
"""For the log: the id of the connection that has its turn, also in what awaits something for it. Tasks that serve
others and happen to begin there inherit it, so it means nothing in their lines."""

log = logging.getLogger("pillarbox.net")


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, None], waiting: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine that was stepped by hand and now waits for `waiting`."""
    while True:
        try:
            try:
                value = yield waiting
            except BaseException as error:
                waiting = None  # it knows the error, which knows this frame
                waiting = coroutine.throw(error)
            else:
                waiting = coroutine.send(value)
        except StopIteration:
            return


class Connection(asyncio.Protocol):
    """One accepted connection."""

    __slots__ = (
        "_admission",
        "_buffered",
        "_closing",
        "_drain_waiters",
        "_eof",
        "_held",
        "_interjection",
        "_introduced",
        "_loop",
        "_opened",
        "_opened_at",
        "_parting",
        "_patience",
        "_proxy_header",
        "_reading_paused",
        "_session",
        "_since",
        "_slice_began",
        "_stopping",
        "_task",
        "_transport",
        "_turn_scheduled",
        "_turns",
        "_write_paused",
        "account",
        "channel",
        "hello",
        "id",
        "local",
        "peer",
        "proxy",
        "service",
        "supporter",
        "tried",
    )

    def __init__(self, service: Service, number: str, admission: Admission, turns: Turns) -> None:
        self.service = service
        self.id = number
        """For logs and traces."""
        self.peer: tuple[str, int] = ("", 0)
        """Address and port of the client, also where a proxy speaks for it."""
        self.local: tuple[str, int] = ("", 0)
        self.proxy = ""
        """The address of who speaks for the client, "" for nobody."""
        self.hello = ""
        """What an SMTP client calls itself."""
        self.account = 0
        """The account that logged in, set by the session; when it is disabled or removed, we part."""
        self.supporter = 0
        """The account whose owner logged in to the other one; likewise."""
        self.tried = 0
        """The account that a login failed for last."""
        self.channel = Channel(service.tls)
        """TLS and compression."""
        self._introduced: tuple[object, ...] = ()
        self._opened_at = 0
        self._admission = admission
        self._proxy_header: bytes | None = None  # what came of it, while one is awaited
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._patience = Patience(self._loop, self._look_at_time)
        self._parting: asyncio.TimerHandle | None = None
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._buffered = 0
        self._held = b""  # input as it came, that waits for its turn
        self._interjection: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._since = time.monotonic()
        self._slice_began = 0.0
        self._opened = self._eof = self._closing = self._stopping = False
        self._reading_paused = self._write_paused = self._turn_scheduled = False

    # What sessions use

    def introduce(self) -> str:
        """Let the trace know who is on this connection, unless it does; returns its id, for the events that follow."""
        recorder, channel = self.service.recorder, self.channel
        if recorder.is_on:
            who = (self.peer, channel.tls_version, self.hello)
            if who != self._introduced:
                self._introduced = who
                host, port = self.local
                tls = f"{channel.tls_version} {channel.tls_cipher}" if channel.is_tls else ""
                recorder.add(
                    Introduction(
                        self.id,
                        self.service.name,
                        *self.peer,
                        f"{host}:{port}",
                        self.proxy,
                        tls,
                        self.hello,
                        self._opened_at,
                    )
                )
        return self.id

    def login_failed(self, account: int) -> None:
        """Nobody logged in to an account (0: to none that there is)."""
        self.tried = account
        self.introduce()

    def _tell_refused(self, text: str) -> None:
        """Nothing comes of this connection."""
        if self.service.recorder.is_on:
            refused = Refused(self.introduce(), "connection", "", "", 0, "", text, "")
            self.service.recorder.add(refused)

    def flush(self) -> bool:
        """Write what the engine has queued; for output outside of `handle` (IDLE) and between slices. Whether there was
        something."""
        session, transport = self._session, self._transport
        if session is None or transport is None or transport.is_closing():
            return False
        try:
            parts = self.channel.send(session.engine.data_to_send())
        except ssl.SSLError:
            self.abort()
            return False
        if self.channel.is_behind:
            self.wake()
        write(transport, parts)
        return bool(parts)

    def _acknowledge(self) -> None:
        """Let the kernel send its ACK now, not some 40 ms later: a peer that writes the rest of a command by itself, as
        imaplib does with what follows a literal, may hold it until then (Nagle's algorithm)."""
        if self._transport is not None and not self._transport.is_closing():
            with suppress(OSError):  # it may be gone, or no TCP
                self._transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1
                )

    def compress(self) -> None:
        """Compress all that is said from now on; what is queued goes out as it is (RFC 4978 §3)."""
        self.flush()
        self.channel.compress()

    def end_compression(self) -> None:
        """What is queued goes out compressed, the rest no more; the peer's compression ends with what was handled so
        far. If it sent more of it already, the connection is cut off."""
        session, transport = self._session, self._transport
        if session is None or transport is None or not self.channel.is_compressed:
            return
        self._flush_all()
        parts, rest = self.channel.end_compression()
        if rest is None:
            self.abort()
            return
        transport.writelines(parts)
        if rest:
            session.engine.receive(rest)

    async def drained(self) -> None:
        """Flush, and wait until the peer has taken enough. Raises ConnectionError when it is gone."""
        self.flush()
        while self._is_behind():
            await self._turns.next()
            self.flush()
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError
        if self._write_paused:
            waiter = self._loop.create_future()
            self._drain_waiters.append(waiter)
            await waiter

    async def pause(self) -> None:
        """Between the slices of long work: flush, wait until the peer has taken enough, and let others have their turn.

        Raises ConnectionError when the peer is gone.
        """
        await self.drained()
        # A wait costs more than a small slice: without others, some go in one turn.
        if self._turns.is_idle and time.monotonic() - self._slice_began < TURN_S:
            return
        await self._turns.next()
        self._slice_began = time.monotonic()

    def has_left(self) -> bool:
        """Whether the peer is known to hear no more: within TLS nobody says that he has nothing more to say, and goes
        on listening."""
        transport = self._transport
        return transport is None or transport.is_closing() or (self._eof and self.channel.is_tls)

    @property
    def is_at_work(self) -> bool:
        """Whether an answer is being made, and may be half said."""
        return self._task is not None

    def change_session(self, changed: Callable[[Session], Session]) -> None:
        """Between events: from now on, something else is driven, which stands for the session; or the session again."""
        self.flush()
        if self._session is not None:
            self._session = changed(self._session)

    def wake(self) -> None:
        """Something outside of `handle` changed the engine: take its events and output up again."""
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._turns.add(self._scheduled_turn)

    def interject(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` soon, once, in place of an event: when no handler is at work and the peer takes our output; the
        next event waits for its end."""
        self._interjection = work
        self.wake()

    @property
    def is_blocked(self) -> bool:
        """Whether we wait for the peer to take our output."""
        return self._write_paused

    @property
    def stranger_since(self) -> float | None:
        """See `net.admission`."""
        return None if self.account or self._task is not None else self._since

    def give_way(self) -> None:
        """Part from the peer now: others need the place."""
        self._admission.leave(self)
        self.service.tally.turned_away["too_many"] += 1
        self._tell_refused("too many connections")
        self.flush()
        transport = self._transport
        if transport is None or self._write_paused:
            self.abort()
            return
        if self._opened and (self.channel.is_tls or not self.channel.has_tls):
            transport.writelines(self.channel.send([self.service.turned_away]))
        self._close()

    def stop(self) -> None:
        """Part from the peer once the present command is done."""
        self._stopping = True
        if self._task is None:
            self._say_stop()

    def abort(self) -> None:
        """Cut the connection off at once."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the class.
        self._transport = transport = cast(asyncio.Transport, transport)
        self.peer = tuple(transport.get_extra_info("peername", ("", 0))[:2])
        self.local = tuple(transport.get_extra_info("sockname", ("", 0))[:2])
        self._opened_at = self.service.recorder.now()
        if not self._admit():
            return
        transport.set_write_buffer_limits(WRITE_HIGH_OCTETS, WRITE_LOW_OCTETS)
        if self.peer[0] in self._admission.proxies:
            self._proxy_header = b""
            self._patience.begin(self._timeout())
        else:
            self._begin()

    def _begin(self) -> None:
        """Who the client is, is known: only now is there a session, which may trust it or not."""
        self._session = self.service.new_session(self)
        self.service.tally.connections[self.service.name] += 1
        if self.service.implicit_tls:
            self.channel.start_tls()
        else:
            self._open()
        self._patience.begin(self._timeout())

    def _open(self) -> None:
        assert self._session is not None
        self._opened = True
        self._session.opened()
        self._turn()

    def _admit(self) -> bool:
        """Count the connection in; if there are too many, say so (where that needs no handshake) and close."""
        if self._admission.admit(self, self.peer[0]):
            return True
        is_banned = self.peer[0] in self._admission.banned
        why = "is banned" if is_banned else "too many connections"
        self.service.tally.turned_away["banned" if is_banned else "too_many"] += 1
        log.log(
            logging.INFO if is_banned else logging.WARNING,
            "%s %s: %s (%s)",
            self.id,
            self.peer[0],
            why,
            self.service.name,
        )
        self._tell_refused(why)
        assert self._transport is not None
        if not self.service.implicit_tls:
            self._transport.write(self.service.turned_away)
        self._transport.close()
        return False

    def _take_proxy_header(self, data: bytes) -> bytes:
        """What comes behind the header; b"" also while it is not whole. Without one, the connection is over."""
        assert self._proxy_header is not None
        octets = self._proxy_header + data
        try:
            header = parse_proxy_header(octets)
        except ValueError as error:
            self._refuse_proxy(str(error))
            return b""
        if header is None:
            self._proxy_header = octets
            return b""
        self._proxy_header = None
        self._patience.heard = self._loop.time()
        if header.client is not None and header.server is not None:
            self._admission.leave(self)
            self.proxy = self.peer[0]
            self.peer, self.local = header.client, header.server
            if not self._admit():
                return b""
        self._begin()
        return octets[header.length :]

    def _refuse_proxy(self, why: str) -> None:
        log.warning("%s %s: %s; closed", self.id, self.peer[0], why)
        self._tell_refused(why)
        self.abort()

    def data_received(self, data: bytes) -> None:
        self._patience.received += len(data)
        if self._held or len(data) >= BULK_OCTETS or self._turns.is_late() or self.channel.has_more:
            self._held += data
            self._pause_reading()
            self.wake()
        else:
            self._take(data)
            self._turns.input_done()

    def _take(self, data: bytes) -> None:
        if self._proxy_header is not None:
            data = self._take_proxy_header(data)
            if not data:
                return
        session = self._session
        if session is None or self._closing:
            return
        if self.channel.has_tls or self.channel.is_compressed:
            plain = self._unwrap(session, data)
            if plain is None:
                return
            data = plain
        if data:
            session.engine.receive(data)
            if self._task is not None:
                self._buffered += len(data)
                if self._buffered > READ_AHEAD_OCTETS:
                    self._pause_reading()
                return
        if self._turn():
            self._acknowledge()

    def _is_behind(self) -> bool:
        """Whether there is output that was not compressed yet."""
        return (
            self.channel.is_behind
            and self._transport is not None
            and not self._transport.is_closing()
        )

    def _flush_all(self) -> None:
        self.flush()
        while self._is_behind():
            self.flush()

    def _unwrap(self, session: Session, data: bytes) -> bytes | None:
        """What octets say within TLS and compression; None: the connection is over."""
        channel, transport = self.channel, self._transport
        assert transport is not None
        was_tls = channel.is_tls
        try:
            plain = channel.receive(data)
        except EOFError:
            self.eof_received()
            return None
        except ssl.SSLError as error:
            log.info("%s %s: TLS: %s", self.id, self.peer[0], error.reason or error)
            self._tell_refused(f"TLS: {error.reason or error}")
            transport.write(channel.outgoing())  # the alert
            transport.close()
            return None
        except zlib.error as error:
            log.info("%s %s: compression: %s", self.id, self.peer[0], error)
            self.abort()
            return None
        outgoing = channel.outgoing()
        if outgoing:
            transport.write(outgoing)
        if channel.has_more:
            self._pause_reading()
            self.wake()
        if channel.is_tls and not was_tls:
            self._patience.heard = self._loop.time()
            if self._opened:
                session.engine.tls_started()
                session.secured()
            else:
                self._open()
        return plain

    def eof_received(self) -> bool:
        """The peer sends no more; what it sent is still answered."""
        if self._session is None or self._eof or not self._opened:
            return False  # nothing was said yet: close
        self._eof = True
        if self._held or self.channel.has_more:
            return True  # `_scheduled_turn` tells the engine
        self._session.engine.receive(b"")
        if self._task is None:
            self._turn()
        return True

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._transport is not None:
            self._patience.watch_output(self._transport, self._stalled)

    def resume_writing(self) -> None:
        self._write_paused = False
        self._patience.end_watch()
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.wake()

    def _stalled(self) -> None:
        log.info("%s %s: does not read; closed", self.id, self.peer[0])
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.end()
        if self._parting is not None:
            self._parting.cancel()
        self._transport = None
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_exception(ConnectionResetError())
        self._drain_waiters.clear()
        if self._task is None:
            if self._turns.is_late():  # thousands may go at once
                self._turns.add(self._let_go)
            else:
                self._let_go()
        # else the handler goes on: a commit may be under way; what it wants to say is dropped

    def _let_go(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.closed()
        self._admission.leave(self)

    # Turns

    def _scheduled_turn(self) -> None:
        self._turn_scheduled = False
        held, self._held = self._held, b""
        has_more = self.channel.has_more and self._buffered <= READ_AHEAD_OCTETS
        if held or has_more:
            self._resume_reading()
            self._take(held)
            if (
                self._eof
                and not self._held
                and not self.channel.has_more
                and self._session is not None
            ):
                self._session.engine.receive(b"")
                self.wake()
        if self._task is not None:
            self.flush()
        elif not held and not has_more:
            self._turn()

    def _turn(self) -> bool:
        """Let the session answer events until there is none, one has to wait, or others are due. Whether nothing was
        said, and the peer has to go on."""
        session = self._session
        if session is None or self._transport is None or not self._opened:
            return False
        SESSION.set(self.id)
        engine = session.engine
        events, began = 0, time.monotonic()
        is_short = has_said = False
        while not engine.closing:
            if self._write_paused:
                self._pause_reading()
                break
            if events >= EVENTS_A_TURN:
                self._pause_reading()
                self.wake()
                break
            if self._interjection is not None:
                work, self._interjection = self._interjection, None
                if not self._step(session, None, work()):
                    break
                continue
            event = engine.next_event()
            if event.__class__ is Wait:
                is_short = event is Wait.NEED_DATA
                self._resume_reading()
                break
            events += 1
            if not self._step(session, event, session.handle(event)):
                break
            is_over = time.monotonic() - began > TURN_S
            if is_over or self.channel.is_compressed:
                has_said = self.flush() or has_said
            if is_over or self._is_behind():
                self._pause_reading()
                self.wake()
                break
        if events:
            self._patience.heard = self._loop.time()
        has_said = self.flush() or has_said
        if engine.closing:
            if self._task is None and not self._is_behind():
                self._close()
        elif engine.wants_tls and not self.channel.has_tls:
            self.channel.start_tls()
        elif self._eof and self._task is None and not self._turn_scheduled:
            self._close()
        return is_short and not has_said

    def _step(self, session: Session, event: Any, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Begin what handles an event, or an interjection (None); False when a task goes on with it."""
        began = self._slice_began = time.monotonic()
        try:
            waiting = coroutine.send(None)
        except (StopIteration, ConnectionError):
            self.service.note_time(event, began, self.account)
            return True
        except Exception:
            self._report(session, event)
            return True
        rest = _resume(coroutine, waiting)
        self._task = self._loop.create_task(self._finish(session, event, rest, began))
        return False

    async def _finish(
        self,
        session: Session,
        event: Any,
        rest: Awaitable[None],
        began: float,
    ) -> None:
        try:
            await rest
            self.service.note_time(event, began, self.account)
        except ConnectionError:
            pass  # the peer is gone; `connection_lost` knows
        except Exception:
            self._report(session, event)
        finally:
            self._task = None
            self._buffered = 0
            if event is not None:
                self._patience.heard = self._loop.time()
            if self._transport is None:
                self._let_go()
            elif self._stopping:
                self._say_stop()
            else:
                self.wake()

    def _report(self, session: Session, event: Any) -> None:
        log.exception("%s %s: a bug in %s", self.id, self.peer[0], type(event).__name__)
        session.failed(event)

    def _pause_reading(self) -> None:
        transport = self._transport
        if not self._reading_paused and transport is not None and not transport.is_closing():
            self._reading_paused = True
            transport.pause_reading()

    def _resume_reading(self) -> None:
        transport = self._transport
        if self._reading_paused and transport is not None and not transport.is_closing():
            self._reading_paused = False
            transport.resume_reading()

    # Endings

    def _timeout(self) -> float | None:
        """Seconds that the peer may stay silent now; None: for ever."""
        if self._proxy_header is not None:
            return PROXY_HEADER_S
        if not self._opened:
            return HANDSHAKE_S
        return self._session.engine.timeout() if self._session is not None else None

    def _look_at_time(self) -> None:
        session = self._session
        if self._transport is None or self._closing:
            return
        if session is None and self._proxy_header is None:
            return  # it was turned away
        timeout = self._timeout()
        if timeout is None or self._task is not None or self._write_paused:
            self._patience.suspend(timeout)
            return
        is_amid_message = session is not None and self._opened and session.engine.is_amid_message
        if not self._patience.is_over(timeout, is_amid_message=is_amid_message):
            return
        if session is not None and self._opened:
            session.engine.timed_out()
            self.flush()
        elif self._proxy_header is not None:
            self._refuse_proxy("no whole PROXY header in time")
            return
        self._close()

    def _say_stop(self) -> None:
        if self._closing:
            return
        if self._session is None or not self._opened:
            self._close()
            return
        self._session.stop()
        if self._session.engine.closing:
            self.flush()
            self._close()
        else:  # a message is on its way in
            self.wake()

    def _close(self) -> None:
        """Close once all is written, or after a while in any case."""
        if self._closing or self._transport is None:
            return
        self._flush_all()
        self._closing = True
        last = self.channel.end_tls()
        if last:
            self._transport.write(last)
        self._parting = self._loop.call_later(CLOSE_WAIT_S, self.abort)
        self._transport.close()
