"""A small HTTP server for programs that look after us: GET and HEAD, one request for each connection (RFC 9112).

Nobody can keep it busy: a request head has a size and a time, an answer has a time, and so many peers are served at
once. Where there are more, the one that has kept us waiting longest goes, so silent ones do not shut others out. It has
no TLS, no bodies in requests, and no persistent connections.
"""

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import cast

MOST_PEERS = 32
LARGEST_HEAD = 8192
"""Octets of a request line and its fields."""
HEAD_S = 3.0
"""From the connection to the end of the request's head."""
ANSWER_S = 10.0
"""For making an answer, and again for its reader."""
LINGER_S = 2.0
"""How long we listen after an answer, so that input which we did not read does not make the kernel drop it."""

BACKLOG = 16

log = logging.getLogger("pillarbox.net")

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e\x80-\xff]+) HTTP/(\d)\.(\d)" % _TOKEN)
_FIELD = re.compile(rb"(%b):[\t\x20-\x7e\x80-\xff]*" % _TOKEN)
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


@dataclass(slots=True, frozen=True)
class Answer:
    """What a path is answered with."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


@dataclass(slots=True, frozen=True)
class Request:
    """What we need of one."""

    method: str
    path: str
    """Without a query, as it was written."""


class BadRequest(Exception):
    """It cannot be answered as it was meant; `status` says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def parse_request(head: bytes) -> Request:
    """A request line and its fields, without the empty line behind them. Raises BadRequest.

    b"GET /metrics?x HTTP/1.1\\r\\nHost: a" is a GET of "/metrics".
    """
    first, *fields = re.split(rb"\r?\n", head.lstrip(b"\r\n"))
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadRequest(400)
    method, target, major, minor = match.groups()
    if major != b"1":
        raise BadRequest(505)
    if not all(_FIELD.fullmatch(field) for field in fields):
        raise BadRequest(400)  # RFC 9112 §5.1, §5.2
    hosts = sum(field[:5].lower() == b"host:" for field in fields)
    if hosts > 1 or (not hosts and minor != b"0"):
        raise BadRequest(400)  # RFC 9112 §3.2
    text = target.decode("latin-1")
    # RFC 9112 §3.2.2: some name us, too
    path = _AUTHORITY.sub("", text, count=1) if not text.startswith("/") else text
    return Request(method.decode("ascii"), re.split(r"[?#]", path, maxsplit=1)[0] or "/")


Answerer = Callable[[str], Awaitable[Answer | None]]
"""For a path; None: there is no such thing here."""


class HttpServer:
    """Answers on some sockets, from `start` to `close`."""

    def __init__(self, answer: Answerer) -> None:
        self.answer = answer
        self.peers: dict[_Peer, None] = {}
        """In the order in which they came."""
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: list[socket.socket]) -> None:
        """`sockets` are bound, and belong to the server from now on."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._servers.append(
                await loop.create_server(lambda: _Peer(self), sock=sock, backlog=BACKLOG)
            )

    def make_room(self) -> bool:
        """Whether one more can be served: one that waits for no answer of ours, the oldest, goes for it if it must."""
        if len(self.peers) < MOST_PEERS:
            return True
        idle = next((peer for peer in self.peers if not peer.is_owed), None)
        if idle is not None:
            idle.cut_off()
        return idle is not None

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for peer in list(self.peers):
            await peer.end()


class _Peer(asyncio.Protocol):
    """One connection: a request, an answer, the end."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_answered = False

    @property
    def is_owed(self) -> bool:
        """Whether it asked, and its answer is being made."""
        return self._task is not None and not self._is_answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the class.
        self._transport = transport = cast(asyncio.Transport, transport)
        if not self._server.make_room():
            self._send(503, "too many connections\n")
            transport.close()
            return
        self._server.peers[self] = None
        self._timer = self._loop.call_later(HEAD_S, self._send, 408, "too slow\n")

    def data_received(self, data: bytes) -> None:
        if self._is_answered or self._task is not None:
            return  # nobody wants it
        self._head += data
        end = _HEAD_END.search(self._head)
        if end is None and len(self._head) <= LARGEST_HEAD:
            return
        if end is None or end.start() > LARGEST_HEAD:
            is_one_line = b"\n" not in self._head[:LARGEST_HEAD]
            self._send(414 if is_one_line else 431, "too long\n")
            return
        try:
            request = parse_request(self._head[: end.start()])
        except BadRequest as error:
            self._send(error.status, "that is no request for this server\n")
            return
        self._stop_timer()
        if request.method not in ("GET", "HEAD"):
            self._send(405, "only GET and HEAD\n")
            return
        self._task = self._loop.create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        answer: Answer | None
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._server.answer(request.path)
        except TimeoutError:
            answer = Answer(503, b"the answer took too long\n")
        except Exception:
            log.exception("a bug in the answer to %s", request.path)
            answer = Answer(500, b"a bug; it has been logged\n")
        self._write(
            answer or Answer(404, b"there is /metrics, /healthz and /readyz\n"),
            has_body=request.method == "GET",
        )

    def _send(self, status: int, text: str) -> None:
        if not self._is_answered:
            self._write(Answer(status, text.encode()))

    def _write(self, answer: Answer, *, has_body: bool = True) -> None:
        transport = self._transport
        self._stop_timer()
        self._is_answered = True
        if transport is None or transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n"
            + ("Allow: GET, HEAD\r\n" if answer.status == 405 else "")  # RFC 9110 §15.5.6
            + "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        transport.write(head.encode("ascii") + (answer.body if has_body else b""))
        transport.write_eof()
        is_taken = not transport.get_write_buffer_size()
        self._timer = self._loop.call_later(LINGER_S if is_taken else ANSWER_S, self.cut_off)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cut_off(self) -> None:
        """At once; from now on it counts no more."""
        self._server.peers.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def eof_received(self) -> bool:
        return self.is_owed

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_timer()
        self._server.peers.pop(self, None)
        if self._task is not None:
            self._task.cancel()

    async def end(self) -> None:
        """Cut off at once."""
        task = self._task
        self.cut_off()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
