"""Who looks on at the sessions of a process: `pillarbox trace`, by a socket of its own in the data folder, `watch-1`
for worker 1. Only the server's user, and root, can connect.

A viewer says what it wants to see (`Wish`, a line of JSON) and gets lines of JSON until it hangs up: first how things
stand, or why not; then what is said (`Shown`). Sessions never wait for a viewer: what does not fit into its buffer is
dropped, and the number of lines told. While nobody looks on, no session knows of this.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec

from pillarbox.app.control import bind_control
from pillarbox.core.errors import Failure, Refused
from pillarbox.core.networks import Networks, parse_networks
from pillarbox.core.tally import SERVICES
from pillarbox.net.connection import Connection
from pillarbox.net.service import Service
from pillarbox.net.session import Session
from pillarbox.net.tap import Said, Tap
from pillarbox.store.directory import Directory

WISH_S = 10.0
"""For a viewer to say what it wants."""

MOST_VIEWERS = 8
BUFFER_OCTETS = 1 << 20
"""That wait for a viewer to be read; more is dropped."""
CATCH_UP_S = 0.1
"""How soon a viewer that was too slow is looked at again."""

MOST_BACKLOG = 50
"""Lines of a session that are kept until it is known whose it is."""
BACKLOG_OCTETS = 4 << 20
"""In all such sessions, for one viewer."""

ATTACHED_A_TURN = 100
"""Sessions that are attached to before others get their turn."""


def watch_name(worker: int) -> str:
    """Of the socket, in the data folder."""
    return f"watch-{worker}"


class Wish(msgspec.Struct):
    """What a viewer wants to see; "" and [] stand for all."""

    account: str = ""
    networks: list[str] = []
    services: list[str] = []


class Standing(msgspec.Struct):
    """How things stand at the beginning."""

    worker: int
    sessions: int
    """That are open, and fit."""
    problem: str = ""
    """Why nothing follows."""


class Shown(msgspec.Struct, omit_defaults=True):
    """A line of a session, or so many that are not shown."""

    at: float = 0.0
    """Epoch seconds."""
    session: str = ""
    service: str = ""
    client: str = ""
    """Its address."""
    account: str = ""
    tls: bool = False
    stage: str = ""
    who: str = ""
    """client, server, or "" for what happened."""
    text: str = ""
    secret: bool = False
    octets: int = 0
    """Of a message."""
    missed: int = 0


_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Part:
    """What a viewer has to do with a session."""

    key: tuple[object, ...] = ()
    """What the verdict was made from."""
    fits: bool | None = None
    """None: it is not known yet, for nobody has logged in."""
    backlog: deque[bytes] = field(default_factory=deque)
    missed: int = 0
    """Lines that found no room there."""


class _Viewer:
    """One that is connected."""

    def __init__(self, writer: asyncio.StreamWriter, wish: Wish, account: int) -> None:
        self._writer = writer
        self._account = account
        self._networks: Networks = parse_networks(wish.networks)
        self.services = frozenset(wish.services or SERVICES)
        self._parts: dict[Tap, _Part] = {}
        self._missed = 0
        self._kept = 0

    def concerns(self, connection: Connection) -> bool | None:
        """Whether a session is wanted; None: that depends on who logs in."""
        if connection.service.name not in self.services:
            return False
        if self._networks.networks and connection.peer[0] not in self._networks:
            return False
        if not self._account:
            return True
        if connection.account:
            return self._account in (connection.account, connection.supporter)
        return True if connection.tried == self._account else None

    def show(self, tap: Tap, make: Callable[[], bytes]) -> None:
        """A line of a session; `make` gives it, if it is needed."""
        connection = tap.connection
        part = self._parts.get(tap)
        if part is None:
            part = self._parts[tap] = _Part()
        key = (connection.peer, connection.account, connection.supporter, connection.tried)
        if part.key != key:
            part.key, part.fits = key, self.concerns(connection)
            if part.fits is not None:
                self._let_go(part, shown=part.fits)
        if part.fits:
            self._send(make())
        elif part.fits is None:
            self._keep(part, make())

    def _keep(self, part: _Part, line: bytes) -> None:
        """Until it is known whose session it is."""
        part.backlog.append(line)
        self._kept += len(line)
        while part.backlog and (len(part.backlog) > MOST_BACKLOG or self._kept > BACKLOG_OCTETS):
            self._kept -= len(part.backlog.popleft())
            part.missed += 1

    def _let_go(self, part: _Part, *, shown: bool) -> None:
        """Whose session it is, is known now."""
        if part.missed and shown:
            self._send(_encode(Shown(at=time.time(), missed=part.missed)) + b"\n")
        part.missed = 0
        for line in part.backlog:
            self._kept -= len(line)
            if shown:
                self._send(line)
        part.backlog.clear()

    def forget(self, tap: Tap) -> None:
        part = self._parts.pop(tap, None)
        if part is not None:
            self._let_go(part, shown=False)

    def say(self, what: Standing) -> None:
        self._writer.write(_encode(what) + b"\n")

    def _send(self, line: bytes) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            return
        if self._missed or transport.get_write_buffer_size() > BUFFER_OCTETS:
            if not self._missed:
                asyncio.get_running_loop().call_later(CATCH_UP_S, self._catch_up)
            self._missed += 1
            return
        transport.write(line)

    def _catch_up(self) -> None:
        """Say what was left out, once there is room again."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > BUFFER_OCTETS // 2:
            asyncio.get_running_loop().call_later(CATCH_UP_S, self._catch_up)
            return
        transport.write(_encode(Shown(at=time.time(), missed=self._missed)) + b"\n")
        self._missed = 0

    def close(self) -> None:
        self._writer.close()


class Watching:
    """From `start` to `close`, on the loop of the sessions."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._path = folder / watch_name(worker)
        self._worker = worker
        self._services: dict[str, Service] = {}
        self._connections: Callable[[], Iterable[Any]] = tuple
        self._directory: Directory
        self._makers: dict[str, Callable[[Connection], Session]] = {}
        """Of the sessions of services that are looked at."""
        self._viewers: set[_Viewer] = set()
        self._taps: dict[Connection, Tap] = {}
        self._names: dict[int, str] = {}
        """Of the accounts on tapped connections."""
        self._server: asyncio.AbstractServer | None = None

    async def start(
        self,
        services: dict[str, Service],
        connections: Callable[[], Iterable[Any]],
        directory: Directory,
    ) -> None:
        """`connections` are those that there are. Raises OSError."""
        self._services, self._connections, self._directory = services, connections, directory
        self._server = await asyncio.start_unix_server(self._serve, sock=bind_control(self._path))

    def close(self) -> None:
        for viewer in list(self._viewers):
            viewer.close()
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    # Viewers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        viewer = None
        try:
            viewer = await self._welcome(reader, writer)
            if viewer is not None:
                await self._begin(viewer)
                while await reader.read(1024):
                    pass  # a viewer has nothing more to say: this waits for its end
        except (OSError, TimeoutError, ValueError):
            pass  # it is gone, or does not speak our language
        finally:
            if viewer is not None:
                self._part_from(viewer)
            writer.close()

    async def _welcome(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> _Viewer | None:
        """None: it was told why not."""
        async with asyncio.timeout(WISH_S):
            line = await reader.readline()
        try:
            wish = msgspec.json.decode(line, type=Wish)
            if len(self._viewers) >= MOST_VIEWERS:
                raise Refused(f"{MOST_VIEWERS} others look on already: end one of them")
            account = self._account(wish.account) if wish.account else 0
            viewer = _Viewer(writer, wish, account)
        except (Refused, msgspec.DecodeError, ValueError, RecursionError) as failure:
            problem = failure.text if isinstance(failure, Refused) else str(failure)
            writer.write(_encode(Standing(self._worker, 0, problem)) + b"\n")
            with suppress(TimeoutError):
                async with asyncio.timeout(WISH_S):
                    await writer.drain()
            return None
        return viewer

    async def _begin(self, viewer: _Viewer) -> None:
        self._viewers.add(viewer)
        self._change_services()
        present = [each for each in self._connections() if isinstance(each, Connection)]
        fitting = sum(viewer.concerns(each) is True for each in present)
        viewer.say(Standing(self._worker, fitting))
        for count, connection in enumerate(present, 1):
            if viewer.concerns(connection) is not False:
                self._attach(connection)
            if count % ATTACHED_A_TURN == 0:
                await asyncio.sleep(0)

    def _account(self, address: str) -> int:
        """Raises Refused."""
        try:
            return self._directory.known_account(address).id
        except Refused as refused:
            raise Refused(f"{refused.text}; see: pillarbox account list") from refused

    def _part_from(self, viewer: _Viewer) -> None:
        self._viewers.discard(viewer)
        self._change_services()
        self._sweep(iter(list(self._taps)))

    def _sweep(self, connections: Iterator[Connection]) -> None:
        """Let go of those that nobody looks at any more."""
        for connection in islice(connections, ATTACHED_A_TURN):
            tap = self._taps.get(connection)
            if tap is not None and not self._is_wanted(connection):
                self._detach(connection, tap)
        if (left := next(connections, None)) is not None:
            asyncio.get_running_loop().call_soon(self._sweep, chain((left,), connections))

    def _is_wanted(self, connection: Connection) -> bool:
        return any(viewer.concerns(connection) is not False for viewer in self._viewers)

    # Sessions

    def _change_services(self) -> None:
        """Sessions that begin are looked at where somebody wants to."""
        wanted = {name for viewer in self._viewers for name in viewer.services}
        for name, service in self._services.items():
            if name in wanted and name not in self._makers:
                self._makers[name] = service.new_session
                service.new_session = self._new_session
            elif name not in wanted and name in self._makers:
                service.new_session = self._makers.pop(name)

    def _new_session(self, connection: Connection) -> Session:
        session = self._makers[connection.service.name](connection)
        return self._tap(connection, session)

    def _tap(self, connection: Connection, session: Session) -> Tap:
        tap = self._taps[connection] = Tap(connection, session, self._told, self._over)
        return tap

    def _attach(self, connection: Connection) -> None:
        """To a session that began before."""
        if connection in self._taps:
            self._taps[connection].note("somebody else looks on, too")
            return

        connection.change_session(lambda session: self._tap(connection, session))
        if connection in self._taps:
            self._taps[connection].note("is open already")

    def _detach(self, connection: Connection, tap: Tap) -> None:
        connection.change_session(lambda _: tap.inner)
        tap.end()
        self._over(tap)

    def _told(self, tap: Tap, said: Said) -> None:
        """By a session."""
        line = b""

        def make() -> bytes:
            nonlocal line
            line = line or _encode(self._shown(tap.connection, said)) + b"\n"
            return line

        for viewer in self._viewers:
            viewer.show(tap, make)

    def _over(self, tap: Tap) -> None:
        self._taps.pop(tap.connection, None)
        for viewer in self._viewers:
            viewer.forget(tap)

    def _shown(self, connection: Connection, said: Said) -> Shown:
        return Shown(
            round(time.time(), 3),
            connection.id,
            connection.service.name,
            connection.peer[0],
            self._name_of(connection.account),
            connection.channel.is_tls,
            said.stage,
            said.who,
            said.text.decode("utf-8", "backslashreplace"),
            said.is_secret,
            said.octets,
            said.missed,
        )

    def _name_of(self, account: int) -> str:
        if not account:
            return ""
        if account not in self._names:
            if len(self._names) > 1000:
                self._names.clear()
            found = None
            with suppress(Failure):
                found = self._directory.account_by_id(account)
            self._names[account] = found.address if found is not None else f"account {account}"
        return self._names[account]
