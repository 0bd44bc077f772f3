"""What a SASL exchange is made of: the outcomes of a step, and base64 as protocols carry it (RFC 4422 §3).

A mechanism is a step machine. `start` takes the initial response, `respond` each further one; both return
a `Challenge` to send, the `Credentials` to verify, or a `SaslError` to refuse. A machine serves one
exchange. Nothing here verifies a password, and no identity or password is prepared (see `saslprep`).

SCRAM and tokens take more steps: a `VerifierWanted` is answered by `Scram.found`, a `BearerToken` that is refused by
`refused`; the other steps are final.
"""

import binascii
import re
from dataclasses import dataclass, field
from typing import Protocol

from pillarbox.core.secret import Secret

MAX_IDENTITY_OCTETS = 255
"""RFC 4616 §2: at least 255 octets must be accepted."""
MAX_PASSWORD_OCTETS = 1024


@dataclass(slots=True)
class Challenge:
    """Send `data` (not yet base64) and pass the client's answer to `respond`."""

    data: bytes


@dataclass(slots=True)
class Credentials:
    """What the client claims. An empty `authzid` means: act as `username` (RFC 4422 §3.4.1)."""

    authzid: str
    username: str
    password: Secret


@dataclass(slots=True)
class SaslError:
    """The client's message breaks the mechanism's rules. `text` is public plain English."""

    text: str


@dataclass(slots=True)
class VerifierWanted:
    """Call `Scram.found` with the verifiers of the user, or with false ones."""

    authzid: str
    username: str


@dataclass(slots=True)
class Proven:
    """The client knows a password: that of the verifier with this index."""

    authzid: str
    username: str
    index: int


@dataclass(slots=True)
class Disproven:
    """The client does not know any of the passwords that count."""

    authzid: str
    username: str
    void: int = -1
    """The index of the void verifier that it knows the password of; -1: it knows none of those either."""


@dataclass(slots=True)
class BearerToken:
    """A token that says who the client is. An empty `authzid`: the token alone says it."""

    authzid: str
    token: Secret


@dataclass(slots=True)
class CertificateClaim:
    """The client's certificate says who it is (RFC 4422 appendix A)."""

    authzid: str


Step = (
    Challenge
    | Credentials
    | VerifierWanted
    | Proven
    | Disproven
    | BearerToken
    | CertificateClaim
    | SaslError
)


@dataclass(slots=True, frozen=True)
class ChannelBinding:
    """What is the same at both ends of one TLS connection, and of no other."""

    kind: str
    """Its registered name, such as "tls-exporter"."""
    data: bytes = field(repr=False)


@dataclass(slots=True, frozen=True)
class Surroundings:
    """What a mechanism gets from outside."""

    nonce: str
    """Printable ASCII without a comma, random, new for each exchange."""
    binding: ChannelBinding | None = None
    """Of the connection; None: there is none to be had."""


class Mechanism(Protocol):
    """The shape of every step machine."""

    def start(self, initial: bytes | None) -> Step:
        """`initial` is the decoded initial response, None if the client sent none."""

    def respond(self, response: bytes) -> Step:
        """The decoded answer to the last challenge."""


_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
# binascii's strict mode lets surplus padding through (CPython 3.11), so the syntax is checked here.


def decode_base64(encoded: bytes) -> bytes | None:
    """Strictly: no white space, exact padding (RFC 4422 §4, RFC 4648 §3). None if malformed.

    Example: `b"dGlt"` -> `b"tim"`.
    """
    return binascii.a2b_base64(encoded) if _BASE64.fullmatch(encoded) else None


def encode_base64(data: bytes) -> bytes:
    """Without line ends."""
    return binascii.b2a_base64(data, newline=False)


def decode_initial(encoded: bytes) -> bytes | None:
    """An initial response on a command line, where "=" stands for an empty one (RFC 4954 §4)."""
    return b"" if encoded == b"=" else decode_base64(encoded)


def decode_text(octets: bytes, max_octets: int) -> str | None:
    """Strict UTF-8 of 1 to `max_octets` octets without NUL (RFC 4616 §2), else None."""
    if not 0 < len(octets) <= max_octets or b"\0" in octets:
        return None
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
