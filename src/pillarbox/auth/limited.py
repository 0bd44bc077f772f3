"""Connections of which all waits together end at a moment, and that bring so many octets at most, however a library
reads from them and whatever their peer sends."""

import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from pillarbox.auth.failure import NoAnswer, words_of
from pillarbox.config.regular_file import read_regular


class Limited:
    """A socket, with what http.client and ldap3 need of one. Closed when its context ends, and not by them.

    Whatever goes wrong it raises NoAnswer, which neither of them takes for an error of its own."""

    def __init__(self, sock: socket.socket, until: float, most: int) -> None:
        """`until` by time.monotonic(); `most`: octets."""
        self._sock = sock
        self._until = until
        self._most = most
        self._left = most

    def __enter__(self) -> "Limited":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._sock.close()

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        with self._waiting() as sock:
            self._sock = context.wrap_socket(sock, server_hostname=host)

    def sendall(self, octets: bytes) -> None:
        with self._waiting() as sock:
            sock.sendall(octets)

    def recv(self, most: int) -> bytes:
        with self._waiting() as sock:
            octets = sock.recv(most)
        self._left -= len(octets)
        if self._left < 0:
            raise NoAnswer(f"it sends more than {self._most} octets")
        return octets

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def shutdown(self, _how: int) -> None:
        """Who made it closes it."""

    def close(self) -> None:
        """Likewise."""

    @contextmanager
    def _waiting(self) -> Iterator[socket.socket]:
        self._sock.settimeout(left(self._until))
        try:
            yield self._sock
        except OSError as error:
            raise NoAnswer(words_of(error)) from error


class _Reader(io.RawIOBase):
    def __init__(self, limited: Limited) -> None:
        self._limited = limited

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        octets = self._limited.recv(len(buffer))
        buffer[: len(octets)] = octets
        return len(octets)


def left(until: float) -> float:
    """Seconds. Raises NoAnswer."""
    found = until - time.monotonic()
    if found <= 0:
        raise NoAnswer("timed out")
    return found


def connect(host: str, port: int, until: float) -> socket.socket:
    """To the first address that answers; each has its share of the time. The name is looked up by the system, whose
    limits are its own. Raises OSError, NoAnswer."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError("no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left(until) / (len(found) - number))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def trusting(ca_file: str) -> ssl.SSLContext:
    """For a server whose certificate somebody in the file signed; "": somebody whom the machine trusts. Raises
    NoAnswer for a file that cannot be read, or has no certificate."""
    if not ca_file:
        return ssl.create_default_context()
    try:
        pem = read_regular(Path(ca_file)).decode(
            "ascii", "ignore"
        )  # between certificates may be any text
        return ssl.create_default_context(cadata=pem or "-")  # "" would mean the CAs of the machine
    except ssl.SSLError as error:
        raise NoAnswer(f"{ca_file}: it is not PEM with a certificate") from error
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{ca_file}: {getattr(error, 'strerror', None) or error}") from error
