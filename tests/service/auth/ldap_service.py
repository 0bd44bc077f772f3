"""An LDAP server on a free port of this machine that says what a test wants it to, right or wrong."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

BIND, UNBIND, SEARCH = 0x60, 0x42, 0x63
"""Tags of requests (RFC 4511 §4.2, §4.3, §4.5)."""

_ANSWERS = {BIND: 0x61, SEARCH: 0x65}

Answer = Callable[[int, int, bytes], bytes]
"""Of a request's message id, tag and octets."""


def ber(tag: int, content: bytes) -> bytes:
    """An element of BER."""
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def _number(value: int) -> bytes:
    return ber(2, value.to_bytes(4, "big"))


def result(message: int, tag: int, code: int = 0, words: bytes = b"", *referrals: str) -> bytes:
    """The answer to a request with this tag."""
    urls = b"".join(ber(4, each.encode()) for each in referrals)
    content = ber(10, bytes([code])) + ber(4, b"") + ber(4, words)
    content += ber(0xA3, urls) if urls else b""
    return ber(0x30, _number(message) + ber(_ANSWERS[tag], content))


def odd_result(message: int, kind: int, code: bytes) -> bytes:
    """An answer of any kind, with a result code of any octets."""
    return ber(0x30, _number(message) + ber(kind, code + ber(4, b"") + ber(4, b"")))


def entry(message: int, dn: str = "cn=bob,dc=x", address: str = "bob@example.test") -> bytes:
    values = ber(0x31, ber(4, address.encode("utf-8", "surrogatepass")))
    attributes = ber(0x30, ber(0x30, ber(4, b"mail") + values))
    content = ber(0x64, ber(4, dn.encode()) + attributes)
    return ber(0x30, _number(message) + content)


def good(message: int, tag: int, _octets: bytes) -> bytes:
    """Finds bob, whatever is searched for, and takes any password."""
    return (entry(message) if tag == SEARCH else b"") + result(message, tag)


class LdapService:
    def __init__(self, answer: Answer = good, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.drips = False
        """An octet now and then."""
        self.requests: list[tuple[int, bytes]] = []
        self._tls = tls
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "ldap" if tls is None else "ldaps"
        self.url = f"{scheme}://localhost:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed.is_set():
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                while request := connection.recv(65536):
                    start = 2 if request[1] < 128 else 2 + (request[1] & 127)
                    end = start + 2 + request[start + 1]
                    message, tag = int.from_bytes(request[start + 2 : end]), request[end]
                    self.requests.append((tag, request))
                    if tag == UNBIND:
                        return
                    self._send(connection, self.answer(message, tag, request))

    def _send(self, connection: socket.socket, octets: bytes) -> None:
        if not self.drips:
            connection.sendall(octets)
            return
        for each in octets:
            connection.sendall(bytes([each]))
            if self._closed.wait(0.05):
                return

    def close(self) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
