"""Whether a client that trusts the CAs of this system would trust a certificate with the chain that is shown with it.

By a handshake with ourselves, in memory: what a chain ends at, only the TLS library can say for sure.
"""

import ssl
from contextlib import suppress
from enum import Enum
from pathlib import Path

from pillarbox.certs.pair import Paths

# Of X509_V_ERR_ in OpenSSL's x509_vfy.h
_ITSELF = (18,)  # DEPTH_ZERO_SELF_SIGNED_CERT
_ROOT = (19,)  # SELF_SIGNED_CERT_IN_CHAIN
_ISSUER = (2, 20, 21)  # UNABLE_TO_GET_ISSUER_CERT, .._LOCALLY, UNABLE_TO_VERIFY_LEAF_SIGNATURE


class End(Enum):
    """Where a chain ends."""

    KNOWN = "known"
    """At a CA of this system; or nothing can be said."""
    ITSELF = "itself"
    """The certificate signed itself, and this system does not know it."""
    ROOT = "root"
    """At a root that stands in the file and that this system does not know."""
    ISSUER = "issuer"
    """Its last certificate is signed by one that is neither in the file nor known."""


def end_of(paths: Paths, private_ca: Path) -> End:
    """Of a pair that can be used. `private_ca`, if it exists, counts as known. Takes milliseconds: blocks."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # whoever reports the names does that
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        client.load_default_certs()
        if not _knows_any():
            return End.KNOWN
        with suppress(FileNotFoundError):
            client.load_verify_locations(private_ca)
        server.load_cert_chain(*paths)
        _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        for codes, end in ((_ITSELF, End.ITSELF), (_ROOT, End.ROOT), (_ISSUER, End.ISSUER)):
            if error.verify_code in codes:
                return end
    except OSError:  # also of TLS: a key that is too weak, a file that cannot be read
        return End.KNOWN
    return End.KNOWN


def _knows_any() -> bool:
    """Whether this system has CAs at all: without them nothing can be said of any."""
    places = ssl.get_default_verify_paths()
    folder = Path(places.capath) if places.capath else None
    return places.cafile is not None or (folder is not None and any(folder.iterdir()))


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Until the client has looked at the certificate. Raises ssl.SSLCertVerificationError, ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = client.wrap_bio(to_client, to_server)
    shows = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asks, shows, asks):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
