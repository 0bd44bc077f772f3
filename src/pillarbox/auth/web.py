"""Small questions to web services: JSON answers, no redirects, bounded in size and time."""

import io
import json
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException, InvalidURL
from typing import Any, cast
from urllib.parse import urlsplit

from pillarbox.core.errors import Unavailable

MOST_OCTETS = 256 * 1024

MOST_RECEIVED = 4 * MOST_OCTETS
"""Octets of an answer with all that frames it: http.client knows framings that lead it past any limit of its caller, as
a chunk of -1 octets does."""

MOST_OF_AN_ERROR = 300
"""Characters of an error of somebody else that the log gets."""


class WebFailure(Exception):
    """Which service failed and how, in words for the log."""


class WebRefusal(WebFailure):
    """The service answered with an error status."""

    def __init__(self, shown: str, status: int) -> None:
        super().__init__(f"{shown} answers with status {status}")
        self.status = status


class _Limited:
    """A socket of which all waits together last until a moment; what http.client needs of one."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._until = until

    def sendall(self, octets: bytes) -> None:
        self._sock.settimeout(_left(self._until))
        self._sock.sendall(octets)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._until))

    def close(self) -> None:
        """The socket is closed by who made it."""


class _Reader(io.RawIOBase):
    """Ends with an error at the limit of time, and at that of octets."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._until = until
        self._left = MOST_RECEIVED

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._until))
        received = self._sock.recv_into(buffer)
        self._left -= received
        if self._left < 0:
            raise HTTPException(f"it sends more than {MOST_RECEIVED} octets")
        return received


def _left(until: float) -> float:
    """Seconds. Raises TimeoutError."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _connect(host: str, port: int, until: float) -> socket.socket:
    """To the first address that answers; each has its share of the time. The name is looked up by the system, whose
    limits are its own."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError("no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_left(until) / (len(found) - number))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _exchange(
    url: str, body: bytes | None, headers: Mapping[str, str], until: float, ca_file: str
) -> tuple[int, bytes]:
    """Status and octets of the answer, one more than MOST_OCTETS at most."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidURL
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    with ExitStack() as stack:
        sock = stack.enter_context(_connect(parts.hostname, port, until))
        if is_tls:
            context = ssl.create_default_context(cafile=ca_file or None)
            sock.settimeout(_left(until))
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname=parts.hostname))
        connection = HTTPConnection(parts.netloc.rpartition("@")[2])
        connection.sock = cast(Any, _Limited(sock, until))
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        connection.request("GET" if body is None else "POST", target, body, dict(headers))
        answer = connection.getresponse()
        is_good = 200 <= answer.status < 300
        return answer.status, answer.read(MOST_OCTETS + 1) if is_good else b""


def shown_url(url: str) -> str:
    """For people: without what stands before an @ or behind a ?, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def words_of(error: BaseException) -> str:
    """An error of somebody else, for the log. What is wrong with a value may be told with the value, a token that
    cannot be a header field, say: then only what kind of error it is."""
    if isinstance(error, ValueError | InvalidURL):
        return type(error).__name__
    return ascii(str(error))[1:-1][:MOST_OF_AN_ERROR]


def with_cause(error: Unavailable) -> str:
    """What failed and why, for the log."""
    cause = error.__cause__
    return error.text if cause is None else f"{error.text} ({words_of(cause)})"


def ask(
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout_s: float,
    *,
    ca_file: str = "",
) -> dict[str, Any]:
    """GET, or POST with a body; the JSON object of the answer. Blocks for `timeout_s` in all, however the answer comes:
    for a thread. `ca_file`: who signs the service's certificate, in place of those whom the machine trusts.

    Raises WebRefusal on 4xx, Unavailable, from a WebFailure, if there is no proper answer.
    """
    shown = shown_url(url)
    all_headers = {"Accept": "application/json", "Connection": "close", **headers}
    until = time.monotonic() + timeout_s
    try:
        status, octets = _exchange(url, body, all_headers, until, ca_file)
    except (OSError, HTTPException, ValueError) as error:
        failure = WebFailure(f"{shown}: {words_of(error)}")
        raise Unavailable("the login service does not answer") from failure
    if not 200 <= status < 300:
        refusal = WebRefusal(shown, status)
        if 400 <= status < 500 and status not in (408, 425, 429):
            raise refusal
        raise Unavailable("the login service does not answer as it should") from refusal
    if len(octets) > MOST_OCTETS:
        failure = WebFailure(f"{shown} sends more than {MOST_OCTETS} octets")
        raise Unavailable("the login service says too much") from failure
    try:
        found = json.loads(octets)
    except (ValueError, RecursionError):
        failure = WebFailure(f"{shown} does not send JSON")
        raise Unavailable("the login service does not answer as it should") from failure
    if not isinstance(found, dict):
        failure = WebFailure(f"{shown} does not send a JSON object")
        raise Unavailable("the login service does not answer as it should") from failure
    return cast(dict[str, Any], found)
