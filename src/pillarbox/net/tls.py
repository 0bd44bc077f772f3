"""TLS over octets that somebody else moves (`ssl.MemoryBIO`), and the settings for server contexts.

TLS 1.2 and 1.3 only (RFC 8996, RFC 9325 §3.1.1).
"""

import ssl
from pathlib import Path

from pillarbox.net.binding import channel_binding
from pillarbox.sasl.exchange import ChannelBinding

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 §4.2)."""

_READ_OCTETS = 65536


def server_context(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """A context for accepted connections; with `client_ca` (PEM) clients may show certificates that it has signed.

    Raises OSError or ssl.SSLError when the files are no good.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.load_cert_chain(certificate, key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(*, verified: bool) -> ssl.SSLContext:
    """A context for connections to other servers. Unverified: encryption against onlookers only, which is all that
    opportunistic TLS gives (RFC 7435 §4)."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TlsLayer:
    """One side of TLS on one connection: the server's, or with `server_hostname` the client's."""

    __slots__ = (
        "_binding",
        "_has_looked",
        "_incoming",
        "_object",
        "_outgoing",
        "established",
    )

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self.established = False
        self._has_looked = False
        self._binding: ChannelBinding | None = None

    def receive(self, octets: bytes) -> bytes:
        """Take octets from the peer; returns what they say in the clear, maybe b"".

        Raises ssl.SSLError when the peer breaks the protocol, EOFError when it ends TLS (close_notify).
        """
        self._incoming.write(octets)
        if not self.established:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                return b""
            self.established = True
        plain: list[bytes] = []
        while True:
            try:
                chunk = self._object.read(_READ_OCTETS)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                chunk = b""
            if not chunk:
                if plain:
                    break  # what came before the end first; the next call raises
                raise EOFError
            plain.append(chunk)
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def send(self, parts: list[bytes]) -> None:
        """Encrypt; `outgoing` has the result."""
        self._object.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def outgoing(self) -> bytes:
        """Octets for the peer."""
        return self._outgoing.read()

    def end(self) -> None:
        """Say close_notify (RFC 8446 §6.1)."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            return  # the peer's own close_notify is not waited for

    def binding(self) -> ChannelBinding | None:
        """What ties a login to this connection, once it is established; None where there is none to be had."""
        if not self._has_looked:
            self._has_looked = True
            self._binding = channel_binding(self._object)
        return self._binding

    def peer_certificate(self) -> bytes | None:
        """DER of the peer's verified certificate, None without one."""
        if self._object.context.verify_mode is ssl.CERT_NONE:
            return None
        return self._object.getpeercert(binary_form=True)

    def version(self) -> str:
        """Such as "TLSv1.3"."""
        return self._object.version() or ""

    def cipher(self) -> str:
        """The name of the cipher suite."""
        cipher = self._object.cipher()
        return cipher[0] if cipher else ""
