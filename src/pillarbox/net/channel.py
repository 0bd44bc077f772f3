"""What lies between the network and what a protocol says: TLS, and within it compression. Moves no octets itself."""

import ssl
from collections.abc import Callable

from pillarbox.net.compression import CompressionLayer
from pillarbox.net.tls import TlsLayer
from pillarbox.sasl.exchange import ChannelBinding


class Channel:
    """The server's side of one connection; without layers octets pass as they are."""

    __slots__ = ("_compression", "_context", "_tls")

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        """`context` is asked for the present one at the handshake."""
        self._context = context
        self._tls: TlsLayer | None = None
        self._compression: CompressionLayer | None = None

    def receive(self, octets: bytes) -> bytes:
        """Take octets from the peer; returns what they say, maybe b"". Where there is TLS, `outgoing` may have
        something to say to it, also after an error.

        Raises EOFError when the peer ends TLS, ssl.SSLError or zlib.error when it breaks a layer.
        """
        if self._tls is not None:
            octets = self._tls.receive(octets)
        if self._compression is not None:
            octets = self._compression.receive(octets)
        return octets

    @property
    def has_more(self) -> bool:
        """Whether `receive(b"")` may give another piece."""
        return self._compression is not None and self._compression.has_more

    def send(self, parts: list[bytes]) -> list[bytes]:
        """Octets for the peer: of what was given so far, as much as takes some milliseconds. Raises ssl.SSLError."""
        if self._compression is not None:
            octets = self._compression.send(parts)
            parts = [octets] if octets else []
        if parts and self._tls is not None:
            self._tls.send(parts)
            parts = [self._tls.outgoing()]
        return parts

    @property
    def is_behind(self) -> bool:
        """Whether `send([])` has more to give."""
        return self._compression is not None and self._compression.is_behind

    # TLS

    @property
    def has_tls(self) -> bool:
        """Whether TLS has begun, though maybe with no more than its handshake."""
        return self._tls is not None

    def start_tls(self) -> None:
        """What follows is the peer's handshake."""
        self._tls = TlsLayer(self._context())

    def outgoing(self) -> bytes:
        """What TLS itself says to the peer: its part of the handshake, an alert."""
        return self._tls.outgoing() if self._tls is not None else b""

    def end_tls(self) -> bytes:
        """Octets for the peer that end TLS; b"" where there is none."""
        if self._tls is None or not self._tls.established:
            return b""
        self._tls.end()
        return self._tls.outgoing()

    @property
    def is_tls(self) -> bool:
        """Whether what is said is encrypted."""
        return self._tls is not None and self._tls.established

    @property
    def tls_version(self) -> str:
        """Such as "TLSv1.3"; '' without TLS."""
        return self._tls.version() if self._tls and self._tls.established else ""

    @property
    def tls_cipher(self) -> str:
        """The cipher suite; '' without TLS."""
        return self._tls.cipher() if self._tls and self._tls.established else ""

    @property
    def binding(self) -> ChannelBinding | None:
        """What ties a login to this TLS connection; None: there is nothing."""
        return self._tls.binding() if self._tls and self._tls.established else None

    @property
    def client_certificate(self) -> bytes | None:
        """DER of the certificate that the client has shown, if it was asked for one and we trust it."""
        return self._tls.peer_certificate() if self._tls and self._tls.established else None

    # Compression

    @property
    def is_compressed(self) -> bool:
        """Whether what is said is compressed."""
        return self._compression is not None

    def compress(self) -> None:
        """Compress what is sent from now on, and expect the same of the peer (RFC 4978 §3)."""
        self._compression = CompressionLayer()

    def end_compression(self) -> tuple[list[bytes], bytes | None]:
        """(octets for the peer that end the compression, what it sent behind the end of its own). None: it sent more
        within its compression, which was not given yet."""
        layer, self._compression = self._compression, None
        assert layer is not None
        return self.send([layer.finish()]), layer.rest()
