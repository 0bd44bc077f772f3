"""An event loop whose time runs as fast as there is nothing to do, and an Internet inside it: no sockets, no threads.

Timers go off in their order, in no time; what would run in a thread runs at once. So days pass in a second, and the
same seed gives the same days.
"""

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pillarbox.dns.query import Answer, Asking, Mx, Query, RecordType, Result, Status

HOUR = 3600.0
DAY = 86400.0


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.net: Internet | None = None
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> list[Any]:
            events = select(0)
            if not events and timeout is None:
                raise RuntimeError("everybody waits, and nothing will happen any more")
            if not events and timeout:
                self.now += timeout
            return events

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now

    def add_reader(self, _descriptor: Any, _callback: Any, *_arguments: Any) -> None:
        """What the system tells by a descriptor would come in its time, not in ours."""
        raise NotImplementedError

    def run_in_executor(self, _executor: Any, work: Callable[..., Any], *arguments: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **_: Any):  # type: ignore[override]
        assert self.net is not None
        transport = await self.net.connect(str(host), factory())
        return transport, transport.protocol


@dataclass
class Took:
    """What a host has taken into its care."""

    at: float
    subject: str
    recipient: str
    answered: bool = False
    """The sender knows: the answer came in time."""


@dataclass
class Mood:
    """How a host behaves for a while. Probabilities are for each command."""

    until: float
    refuses: bool = False
    """Connections."""
    greeting: str = "220 host ESMTP"
    tls: bool = False
    """It offers STARTTLS and cannot do it."""
    temporary: float = 0.0
    permanent: float = 0.0
    """For a recipient, at once and for ever."""
    closing: float = 0.0
    """421, and the end."""
    drop: float = 0.0
    """The connection, without a word."""
    drop_at_dot: float = 0.0
    """After it took the message: what nobody can know."""
    garbage: float = 0.0
    slow_s: float = 0.0
    """Before each answer."""
    most_recipients: int = 1000
    greylist_s: float = 0.0


CALM = Mood(float("inf"))


@dataclass
class Host:
    moods: list[Mood]
    dice: random.Random
    took: list[Took] = field(default_factory=list)
    first_seen: dict[str, float] = field(default_factory=dict)
    """By recipient, for greylisting."""
    hopeless: set[str] = field(default_factory=set)
    """Recipients that it refused for ever."""

    def mood(self, now: float) -> Mood:
        return next((mood for mood in self.moods if now < mood.until), CALM)


class Transport:
    """The client's end of a connection; the host behind it answers line by line."""

    def __init__(self, loop: VirtualLoop, host: Host, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol
        self._loop = loop
        self._host = host
        self._input = b""
        self._closed = False
        self._dead = False
        self._quiet_until = loop.now
        self._recipients: list[str] = []
        self._in_data = self._begun = False

    # What the client calls

    def set_write_buffer_limits(self, *_: Any) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self._closed

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def write(self, octets: bytes) -> None:
        if not self._closed:
            self._loop.call_soon(self._receive, octets)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    # The host

    def greet(self) -> None:
        self.protocol.connection_made(self)  # type: ignore[arg-type]
        self._say(self._host.mood(self._loop.now).greeting)

    def _say(self, text: str, taken: Sequence[Took] = ()) -> None:
        """In order, and slowly if the host is slow. `taken` is what this answers for."""
        slow_s = self._host.mood(self._loop.now).slow_s
        # Timers of the same time go off in any order.
        self._quiet_until = max(self._quiet_until, self._loop.now) + slow_s + 0.001
        self._loop.call_at(self._quiet_until, self._deliver, text.encode() + b"\r\n", taken)

    def _deliver(self, octets: bytes, taken: Sequence[Took]) -> None:
        if not self._closed:
            for took in taken:
                took.answered = True
            self.protocol.data_received(octets)

    def _hang_up(self) -> None:
        self._dead = True
        self._loop.call_at(max(self._quiet_until, self._loop.now) + 0.001, self._lost)

    def _lost(self) -> None:
        if not self._closed:
            self._closed = True
            self.protocol.eof_received()
            self.protocol.connection_lost(None)

    def _receive(self, octets: bytes) -> None:
        self._input += octets
        while not self._dead:
            if self._in_data:
                message, end, rest = self._input.partition(b"\r\n.\r\n")
                if not end:
                    return
                self._input, self._in_data = rest, False
                self._end_of_data(message)
                continue
            line, end, rest = self._input.partition(b"\r\n")
            if not end:
                return
            self._input = rest
            self._command(line.decode())

    def _command(self, line: str) -> None:
        host, dice = self._host, self._host.dice
        mood = host.mood(self._loop.now)
        verb = line[:4].upper()
        if dice.random() < mood.drop:
            self._hang_up()
        elif dice.random() < mood.closing:
            self._say("421 4.3.2 going down")
            self._hang_up()
        elif dice.random() < mood.garbage:
            self._say("\x00\xff what?")
        elif verb == "EHLO":
            offers = ["PIPELINING", "8BITMIME", "SIZE 9000000"] + ["STARTTLS"] * mood.tls
            self._say("\r\n".join(["250-host", *(f"250-{one}" for one in offers), "250 DSN"]))
        elif verb == "STAR":
            self._say("220 go on")
            self._hang_up()
        elif verb == "MAIL":
            self._recipients, self._begun = [], True
            self._say("250 2.1.0 Ok")
        elif verb == "RCPT":
            self._say(self._rcpt(line, mood))
        elif verb == "DATA" and self._recipients:
            self._in_data = True
            self._say("354 go on")
        elif verb == "DATA":
            self._say("554 5.5.1 no valid recipients")
        elif verb == "RSET":
            self._recipients, self._begun = [], False
            self._say("250 2.0.0 Ok")
        elif verb == "QUIT":
            self._say("221 2.0.0 Bye")
            self._hang_up()
        else:
            self._say("250 2.0.0 Ok")

    def _rcpt(self, line: str, mood: Mood) -> str:
        recipient = line[line.index("<") + 1 : line.index(">")]
        now, host, dice = self._loop.now, self._host, self._host.dice
        if not self._begun:
            return "503 5.5.1 MAIL first"
        if len(self._recipients) >= mood.most_recipients:
            return "452 4.5.3 Too many recipients"
        if recipient in host.hopeless or dice.random() < mood.permanent:
            host.hopeless.add(recipient)
            return "550 5.1.1 No such user"
        if now < host.first_seen.setdefault(recipient, now) + mood.greylist_s:
            return "450 4.2.0 Greylisted, try again later"
        if dice.random() < mood.temporary:
            return "451 4.3.0 Not now"
        self._recipients.append(recipient)
        return "250 2.1.5 Ok"

    def _end_of_data(self, message: bytes) -> None:
        host, mood, now = self._host, self._host.mood(self._loop.now), self._loop.now
        recipients, self._recipients, self._begun = self._recipients, [], False
        if host.dice.random() < mood.temporary:
            self._say("451 4.3.0 Not now")
            return
        silent = host.dice.random() < mood.drop_at_dot
        found = re.search(rb"^Subject: (.*)$", message.replace(b"\r", b""), re.MULTILINE)
        assert found is not None
        taken = [Took(now, found[1].decode(), one) for one in recipients]
        host.took += taken
        if silent:
            self._hang_up()
        else:
            self._say("250 2.0.0 Ok", taken)


class Internet:
    """Hosts by address, and a zone."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        loop.net = self
        self.hosts: dict[str, Host] = {}
        self.mx: dict[str, list[Mx]] = {}
        self.addresses: dict[str, str] = {}
        self.dark: dict[str, float] = {}
        """Until when the DNS does not answer for a domain."""

    def add(self, domain: str, preference: int, host: Host) -> None:
        name = f"mx{preference}.{domain}"
        address = f"192.0.2.{len(self.hosts) + 1}"
        self.hosts[address] = host
        self.addresses[name] = address
        self.mx.setdefault(domain, []).append(Mx(preference, name))

    async def connect(self, address: str, protocol: asyncio.Protocol) -> Transport:
        host = self.hosts[address]
        if host.mood(self.loop.now).refuses:
            await asyncio.sleep(1)
            raise ConnectionRefusedError(111, "Connection refused")
        transport = Transport(self.loop, host, protocol)
        self.loop.call_soon(transport.greet)
        await asyncio.sleep(0.05)
        return transport

    async def run(self, asking: Asking[Result]) -> Result:
        """As `net.resolver.Resolver.run`."""
        answers: list[Answer] | None = None
        while True:
            try:
                queries = asking.send(answers) if answers is not None else next(asking)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            answers = [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Answer:
        name = query.name
        if self.loop.now < self.dark.get(name, 0.0):
            return Answer(Status.FAILED, name)
        if query.type is RecordType.MX and name in self.mx:
            return Answer(Status.OK, name, tuple(self.mx[name]), 300)
        if query.type is RecordType.A and name in self.addresses:
            return Answer(Status.OK, name, (self.addresses[name],), 300)
        if name in self.addresses or name in self.mx:
            return Answer(Status.OK, name, (), 300)
        return Answer(Status.NO_SUCH_NAME, name, ttl_s=300)
