"""What shall go wrong at a server of a test: refusals, greylisting, slow answers, connections that end at the dot.

The sessions of the real server know nothing of it: `FaultySession` stands between a connection and its SMTP session.
"""

import asyncio
import fnmatch
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, get_args

from pillarbox.net.connection import Connection
from pillarbox.net.session import Session
from pillarbox.smtp.events import BodyEnd, Event, Hello, Mail, Rcpt, Reset
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.server import SmtpServer
from pillarbox.testing.arguments import ensure_number, ensure_pattern, ensure_text

Point = Literal["greeting", "ehlo", "mail", "rcpt", "dot"]
"""Where in a session: before the greeting, or at the answer to EHLO, MAIL, RCPT, or the end of the message."""

_WITH_RECIPIENT = ("rcpt", "dot")

_POINTS: dict[type, Point] = {Hello: "ehlo", Mail: "mail", Rcpt: "rcpt", BodyEnd: "dot"}
_REPLY = re.compile(r"([45][0-9][0-9])(?: ([45]\.[0-9]{1,3}\.[0-9]{1,3}))?(?: (.*))?", re.DOTALL)


def parse_reply(text: str) -> Reply:
    """A refusal as it stands on the wire: "550 5.1.1 No such user" or "451". Raises ValueError for anything else."""
    match = _REPLY.fullmatch(text)
    if match is None or (match[2] and match[2][0] != match[1][0]):
        raise ValueError(f'no refusal: {text!r}; write it like "550 5.1.1 No such user"')
    return Reply(
        int(match[1]), match[2] or f"{match[1][0]}.0.0", match[3] or "Refused, as the test asked"
    )


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong. In a `with`, until its end."""

    at: Point
    to: str
    sender: str
    times: int | None
    """How often it happens; None: always."""
    _home: "Faults"
    reply: Reply | None = None
    delay_s: float = 0.0
    drops: bool = False
    stores: bool = False
    once_each: int | None = None
    """Greylisting: so often for each sender and recipient."""
    hits: int = 0
    """How often it happened."""
    _seen: dict[tuple[str, str], int] = field(default_factory=dict)

    def remove(self) -> None:
        """Harmless when done before."""
        self._home.remove(self)

    def __enter__(self) -> "Fault":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def happens(self, at: Point, sender: str, recipients: list[str]) -> bool:
        """Whether it does here; counted then."""
        if at != self.at or (self.times is not None and self.hits >= self.times):
            return False
        if not _matches(self.sender, sender):
            return False
        if self.to != "*" and not any(_matches(self.to, recipient) for recipient in recipients):
            return False
        if self.once_each is not None:
            pair = (sender.lower(), recipients[0].lower())
            self._seen[pair] = self._seen.get(pair, 0) + 1
            if self._seen[pair] > self.once_each:
                return False
        self.hits += 1
        return True


def _matches(pattern: str, address: str) -> bool:
    return fnmatch.fnmatchcase(address.lower(), pattern.lower())


class Faults:
    """What goes wrong for those who send mail to a server. Its methods may be called from any thread, and count at
    once.

    `to` and `sender` are addresses, or patterns like "*@example.test". `times` None: as long as the fault is not
    removed. Of several that fit, the first refusal counts, and all delays before it. What can never happen is an error
    of the test: TypeError or ValueError.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._faults: list[Fault] = []

    def refuse(
        self,
        to: str = "*",
        reply: str = "550 5.7.1 Refused, as the test asked",
        *,
        sender: str = "*",
        at: Point = "rcpt",
        times: int | None = None,
    ) -> Fault:
        """Answer with a 4yz or 5yz reply at `at`: "mail", "rcpt", or "dot" (the whole message, if one of its recipients
        fits). 421 also ends the session. Raises ValueError for another reply or place."""
        ensure_text("reply", reply)
        if at not in ("mail", "rcpt", "dot"):
            raise ValueError(f'refuse at "mail", "rcpt" or "dot", not {at!r}')
        return self._add(Fault(at, to, sender, times, self, reply=parse_reply(reply)))

    def greylist(
        self, to: str = "*", reply: str = "450 4.7.1 Greylisted, try again later", *, first: int = 1
    ) -> Fault:
        """Refuse the `first` attempts of each sender and recipient, then let them pass."""
        ensure_text("reply", reply)
        ensure_number("first", first, 1, whole=True)
        return self._add(
            Fault("rcpt", to, "*", None, self, reply=parse_reply(reply), once_each=first)
        )

    def slow(
        self,
        seconds: float,
        to: str = "*",
        *,
        sender: str = "*",
        at: Point = "dot",
        times: int | None = None,
    ) -> Fault:
        """Answer so many seconds later. `to` counts at "rcpt" and "dot", `sender` from "mail" on."""
        ensure_number("seconds", seconds, 0)
        return self._add(Fault(at, to, sender, times, self, delay_s=seconds))

    def drop(
        self,
        to: str = "*",
        *,
        sender: str = "*",
        at: Point = "dot",
        times: int | None = 1,
        stored: bool = False,
    ) -> Fault:
        """Close the connection without an answer. `stored`: what was asked for is done before, so the mail is there,
        and who sends it cannot know."""
        return self._add(Fault(at, to, sender, times, self, drops=True, stores=stored))

    def clear(self) -> None:
        """All is well again."""
        with self._mutex:
            self._faults.clear()

    def _add(self, fault: Fault) -> Fault:
        if fault.at not in get_args(Point):
            raise ValueError(f"at={fault.at!r}: it can be one of {', '.join(get_args(Point))}")
        ensure_pattern("to", fault.to)
        ensure_pattern("sender", fault.sender, is_empty_allowed=True)
        if fault.times is not None:
            ensure_number("times", fault.times, 1, whole=True)
        if fault.to != "*" and fault.at not in _WITH_RECIPIENT:
            raise ValueError(f'to={fault.to!r}: nobody is named yet at "{fault.at}"')
        if fault.sender != "*" and fault.at not in ("mail", *_WITH_RECIPIENT):
            raise ValueError(f'sender={fault.sender!r}: nobody is named yet at "{fault.at}"')
        with self._mutex:
            self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Harmless when done before."""
        with self._mutex:
            if fault in self._faults:
                self._faults.remove(fault)

    def that_happen(
        self, at: Point, sender: str = "", recipients: list[str] | None = None
    ) -> list[Fault]:
        """In the order in which they were made; none behind one that ends the matter."""
        found = []
        with self._mutex:
            for fault in self._faults:
                if fault.happens(at, sender, recipients or [""]):
                    found.append(fault)
                    if fault.reply is not None or fault.drops:
                        break
        return found


class FaultySession:
    """A `net.session.Session` around one of SMTP."""

    def __init__(
        self, inner: Session, engine: SmtpServer, connection: Connection, faults: Faults
    ) -> None:
        self.engine = engine
        self._inner = inner
        self._connection = connection
        self._faults = faults
        self._sender = ""
        self._recipients: list[str] = []
        self._late: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        found = self._faults.that_happen("greeting")
        if any(fault.drops for fault in found):
            self._connection.abort()
            return
        delay_s = sum(fault.delay_s for fault in found)
        if delay_s:
            self._late = asyncio.get_running_loop().call_later(delay_s, self._open_late)
        else:
            self._inner.opened()

    def _open_late(self) -> None:
        self._late = None
        if not self.engine.closing:
            self._inner.opened()
            self._connection.wake()

    def secured(self) -> None:
        self._inner.secured()

    def stage(self) -> str:
        return self._inner.stage()

    async def handle(self, event: Event) -> None:
        """As the session inside does, but for what shall go wrong."""
        if isinstance(event, Mail):
            self._sender = str(event.reverse_path or "")
            self._recipients = []
        at = _POINTS.get(type(event))
        asked = [event.raw] if isinstance(event, Rcpt) else self._recipients
        found = self._faults.that_happen(at, self._sender, asked) if at is not None else []
        for fault in found:
            await asyncio.sleep(fault.delay_s)
        last = found[-1] if found else None
        if last is not None and last.reply is not None:
            if isinstance(event, BodyEnd):
                await self._inner.handle(Reset())  # it forgets the message
            self.engine.send(last.reply)
            return
        if last is None or not last.drops or last.stores:
            if isinstance(event, Rcpt):
                self._recipients.append(event.raw)
            await self._inner.handle(event)
        if last is not None and last.drops:
            self._connection.abort()

    def failed(self, event: Event) -> None:
        self._inner.failed(event)

    def stop(self) -> None:
        self._inner.stop()

    def closed(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._inner.closed()


def with_faults(
    new_session: Callable[[Connection], Any], faults: Faults
) -> Callable[[Connection], Session]:
    """Sessions as a service makes them, with what shall go wrong; their engine is a `SmtpServer`."""

    def make(connection: Connection) -> Session:
        inner = new_session(connection)
        return FaultySession(inner, inner.engine, connection, faults)

    return make
