"""All other hosts of a test's world: one SMTP server on loopback that takes mail for every domain and keeps it.

It speaks by the same engine as the real server, and has faults of its own: what they refuse comes back as a bounce.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from pillarbox.net.admission import Admission
from pillarbox.net.connection import Connection
from pillarbox.net.listener import Listeners, bind
from pillarbox.net.service import Service
from pillarbox.outbound.route import Route
from pillarbox.outbound.session import Host, TlsContexts
from pillarbox.smtp import reply as replies
from pillarbox.smtp.client_events import ClientOptions, TlsMode
from pillarbox.smtp.events import (
    BodyChunk,
    BodyEnd,
    DataStart,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
)
from pillarbox.smtp.options import ServerOptions
from pillarbox.smtp.server import SmtpServer
from pillarbox.testing.faults import Faults, with_faults

HOSTNAME = "mx.elsewhere.test"
SIZE_LIMIT_BYTES = 64 * 1024 * 1024
MOST_CONNECTIONS = 1000


@dataclass(slots=True)
class Received:
    """A message that another host took."""

    at: int
    """Epoch seconds."""
    reverse_path: str
    recipients: list[str]
    octets: bytes


class ElsewhereSession:
    """A `net.session.Session` that takes everything."""

    def __init__(self, keep: Callable[[Received], None]) -> None:
        self.engine = SmtpServer(ServerOptions(HOSTNAME, SIZE_LIMIT_BYTES))
        self._keep = keep
        self._begin("")

    def _begin(self, reverse_path: str) -> None:
        self._reverse_path = reverse_path
        self._recipients: list[str] = []
        self._chunks: list[bytes] = []

    def opened(self) -> None:
        self.engine.send(replies.greeting(HOSTNAME))

    def secured(self) -> None:
        """It offers no TLS."""

    async def handle(self, event: Event) -> None:
        match event:
            case Hello():
                self.engine.send(self.engine.hello_reply())
            case Mail():
                self._begin(str(event.reverse_path or ""))
                self.engine.send(replies.SENDER_OK)
            case Rcpt():
                self._recipients.append(event.raw)
                self.engine.send(replies.RECIPIENT_OK)
            case DataStart():
                self.engine.send(replies.START_MAIL_INPUT)
            case BodyChunk():
                self._chunks.append(event.data)
            case BodyEnd():
                self._body_end(event)
            case Reset() | Quit():
                self._begin("")
            case _:
                raise AssertionError(f"not offered: {event}")

    def _body_end(self, event: BodyEnd) -> None:
        if event.too_big:
            self.engine.send(replies.TOO_BIG)
            return
        octets = b"".join(self._chunks)
        self._keep(Received(int(time.time()), self._reverse_path, self._recipients, octets))
        self._begin("")
        self.engine.send(replies.queued("ELSEWHERE"))

    def failed(self, event: Event) -> None:
        self.engine.send(replies.LOCAL_ERROR)

    def stop(self) -> None:
        self.engine.shut_down()

    def closed(self) -> None:
        """It holds nothing."""


class OtherHosts:
    """Lives on the event loop of the server."""

    def __init__(self, hostname: str, faults: Faults) -> None:
        """`hostname` is what the server calls itself there."""
        self._options = ClientOptions(hostname, tls=TlsMode.NEVER)
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls = TlsContexts(plain, plain)
        """Never used: to read the system's certificates would take longer than all else at the start."""
        self._faults = faults
        self._admission = Admission(MOST_CONNECTIONS, MOST_CONNECTIONS)
        self._listeners = Listeners(self._admission, "elsewhere-")
        self._port = 0
        self._received: list[Received] = []

    async def start(self) -> None:
        sock = bind("127.0.0.1:0")
        self._port = sock.getsockname()[1]
        service = Service(
            "smtp",
            with_faults(self._new_session, self._faults),
            b"421 4.3.2 Too many connections\r\n",
            implicit_tls=False,
            tls=_no_tls,
        )
        await self._listeners.listen(sock, service)

    def _new_session(self, _connection: Connection) -> ElsewhereSession:
        return ElsewhereSession(self._received.append)

    async def find_route(self, next_hop: str) -> Route:
        """Every domain is here."""
        return Route((Host(f"mx.{next_hop}", "127.0.0.1", self._port),), self._options)

    def take_received(self) -> list[Received]:
        """What came since the last call."""
        taken = self._received[:]
        self._received.clear()
        return taken

    async def stop(self) -> None:
        await self._listeners.close(0.0)


def _no_tls() -> NoReturn:
    raise AssertionError("no TLS is offered")
