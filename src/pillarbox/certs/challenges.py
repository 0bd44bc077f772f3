"""Answers to the challenges by which a CA makes sure that a name is ours: http-01, tls-alpn-01 and dns-01 (RFC 8555 §8,
RFC 8737 §3). Small and slow, in threads: it runs only during an order, in the program that places it.
"""

import base64
import contextlib
import datetime
import hashlib
import shlex
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pillarbox.config.schema import Tls
from pillarbox.core.duration import parse_duration
from pillarbox.core.errors import Refused
from pillarbox.net.listener import bind

ALPN = "acme-tls/1"  # RFC 8737 §6.2
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 §6.1
_HTTP_PREFIX = "/.well-known/acme-challenge/"  # RFC 8555 §8.3

_MOST_PEERS = 64
_PEER_S = 10.0
_CLOSE_S = 5.0
_MOST_OCTETS = 8192
_HOOK_S = 120.0


class Answers(Protocol):
    """To challenges of one kind, until `close`."""

    def add(self, name: str, token: str, key_authorization: str) -> None:
        """For a name, without "*.". Raises Refused."""

    def settle(self) -> None:
        """Returns when the CA can see all that was added."""

    def close(self) -> None: ...


def make_answers(tls: Tls, bound: Sequence[socket.socket] = ()) -> Answers:
    """As configured. `bound`: sockets to listen on instead of ones of our own. Raises Refused when it cannot listen."""
    if tls.acme_challenge == "dns-01":
        return DnsAnswers(tls.acme_hook, parse_duration(tls.acme_dns_wait))
    kind = HttpAnswers if tls.acme_challenge == "http-01" else TlsAnswers
    return kind(bound or bind_all(tls.challenge_addresses))


def bind_all(addresses: Sequence[str]) -> list[socket.socket]:
    """Bound, not yet listening. Raises Refused."""
    made: list[socket.socket] = []
    for address in addresses:
        try:
            made.append(bind(address))
        except OSError as error:
            if made and address.startswith("[::]"):
                continue  # a machine without IPv6
            for sock in made:
                sock.close()
            raise Refused(
                f"cannot listen on {address} for the CA's challenge: {error.strerror}"
            ) from error
    return made


class _Listener:
    """Calls `serve` in a thread for each connection; it may raise OSError. Where there are too many, the oldest is cut
    off: the CA is answered at once, while others may only want to keep it out."""

    def __init__(
        self, bound: Sequence[socket.socket], serve: Callable[[socket.socket], None]
    ) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._handles: dict[socket.socket, None] = {}  # one for each connection, the oldest first
        self._sockets = list(bound)
        self._threads: list[threading.Thread] = []
        for sock in self._sockets:
            sock.setblocking(True)
            sock.listen(_MOST_PEERS)
            thread = threading.Thread(target=self._accept, args=(sock,), daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def ports(self) -> list[int]:
        """Listened on."""
        return [sock.getsockname()[1] for sock in self._sockets]

    def settle(self) -> None:
        """It listens."""

    def _accept(self, sock: socket.socket) -> None:
        while True:
            try:
                peer, _ = sock.accept()
            except OSError:
                return  # closed
            peer.settimeout(_PEER_S)
            handle = self._make_room_for(peer)
            threading.Thread(target=self._handle, args=(peer, handle), daemon=True).start()

    def _make_room_for(self, peer: socket.socket) -> socket.socket:
        """A handle by which its connection can be cut off, whoever has the socket then."""
        handle = peer.dup()
        with self._lock:
            if len(self._handles) >= _MOST_PEERS:
                oldest = next(iter(self._handles))
                del self._handles[oldest]
                with contextlib.suppress(OSError):  # it has hung up
                    oldest.shutdown(socket.SHUT_RDWR)
            self._handles[handle] = None
        return handle

    def _handle(self, peer: socket.socket, handle: socket.socket) -> None:
        try:
            with peer, contextlib.suppress(OSError):
                self._serve(peer)
        finally:
            with self._lock:
                self._handles.pop(handle, None)
            handle.close()

    def close(self) -> None:
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                # Nobody listens, whoever else has it; that wakes `accept`, which must end before another listens.
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_CLOSE_S)
        for sock in self._sockets:
            sock.close()


class HttpAnswers(_Listener):
    """RFC 8555 §8.3: the key authorization under a path that has the token."""

    def __init__(self, bound: Sequence[socket.socket]) -> None:
        self._found: dict[str, str] = {}
        super().__init__(bound, self._talk)

    def add(self, name: str, token: str, key_authorization: str) -> None:
        self._found[_HTTP_PREFIX + token] = key_authorization

    def _talk(self, peer: socket.socket) -> None:
        request = b""
        deadline = time.monotonic() + _PEER_S
        while b"\r\n\r\n" not in request and len(request) < _MOST_OCTETS:
            more = peer.recv(1024)
            if not more or time.monotonic() > deadline:
                return
            request += more
        method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        answer = self._found.get(rest.partition(" ")[0]) if method == "GET" else None
        status = "404 Not Found" if answer is None else "200 OK"
        body = (answer or "").encode()
        peer.sendall(
            f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )


class TlsAnswers(_Listener):
    """RFC 8737 §3: a handshake for the name, with a certificate that has the digest of the key authorization."""

    def __init__(self, bound: Sequence[socket.socket]) -> None:
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.sni_callback = self._choose
        super().__init__(bound, self._talk)

    def add(self, name: str, token: str, key_authorization: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8737 §4
        context.set_alpn_protocols([ALPN])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "challenge.pem"
            path.touch(0o600)
            path.write_bytes(challenge_certificate(name, key_authorization))
            context.load_cert_chain(path)
        self._contexts[name] = context

    def _choose(
        self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        found = self._contexts.get((name or "").lower())
        if found is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = found
        return None

    def _talk(self, peer: socket.socket) -> None:
        self._context.wrap_socket(peer, server_side=True).close()  # RFC 8737 §4: no more is said


def challenge_certificate(name: str, key_authorization: str) -> bytes:
    """RFC 8737 §3: signed by itself, with that one name and a critical acmeIdentifier; PEM, its key first."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    digest = hashlib.sha256(key_authorization.encode()).digest()
    octets = bytes((4, len(digest))) + digest  # DER: OCTET STRING
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, octets), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem + certificate.public_bytes(serialization.Encoding.PEM)


class DnsAnswers:
    """RFC 8555 §8.4: a TXT record, which a command of the administrator's sets and removes."""

    def __init__(self, command: str, wait_s: float) -> None:
        self._command = shlex.split(command)
        self._wait_s = wait_s
        self._added: list[tuple[str, str]] = []

    def add(self, name: str, token: str, key_authorization: str) -> None:
        digest = hashlib.sha256(key_authorization.encode()).digest()
        value = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        record = f"_acme-challenge.{name}", value
        self._added.append(record)
        self._run("add", *record)

    def settle(self) -> None:
        """Wait for the servers of the zone."""
        time.sleep(self._wait_s)

    def close(self) -> None:
        for record in self._added:
            with contextlib.suppress(Refused):  # what was ordered is not lost for it
                self._run("remove", *record)

    def _run(self, *arguments: str) -> None:
        try:
            done = subprocess.run(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_HOOK_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Refused(f"the hook {self._command[0]} cannot be run: {error}") from error
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace").strip()
            last = said.splitlines()[-1] if said else "nothing"
            raise Refused(
                f"the hook {self._command[0]} {arguments[0]} ended with code {done.returncode} and said: {last}"
            )
