"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): what a server keeps so that it can verify a password, and
its side of the exchange.

To derive a verifier takes milliseconds: do it off the event loop. The exchange takes two HMACs for each verifier.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import (
    MAX_IDENTITY_OCTETS,
    Challenge,
    Disproven,
    Proven,
    SaslError,
    Step,
    Surroundings,
    VerifierWanted,
    decode_base64,
    decode_text,
    encode_base64,
)
from pillarbox.sasl.saslprep import saslprep

Hash = Literal["sha1", "sha256"]
"""SCRAM-SHA-1 (RFC 5802) or SCRAM-SHA-256 (RFC 7677)."""

MIN_ITERATIONS = 4096
"""RFC 5802 §5.1, RFC 7677 §4."""


@dataclass(slots=True, frozen=True)
class Verifier:
    """One credential. Whoever has `server_key` can pose as the server, so neither key is shown."""

    hash: Hash
    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def derive_verifier(password: Secret, salt: bytes, iterations: int, hash: Hash) -> Verifier:
    """`salt` is random, 16 octets or more, new for each password.

    Raises ValueError if SASLprep refuses the password or nothing of it is left, or if there are fewer
    than `MIN_ITERATIONS`.
    """
    prepared = saslprep(password.reveal(), stored=True)
    if not prepared:
        raise ValueError("the password is empty")
    if iterations < MIN_ITERATIONS:
        raise ValueError(f"at least {MIN_ITERATIONS} iterations")
    # RFC 5802 §3: SaltedPassword, ClientKey, StoredKey, ServerKey
    salted = hashlib.pbkdf2_hmac(hash, prepared.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", hash)
    stored_key = hashlib.new(hash, client_key).digest()
    return Verifier(hash, salt, iterations, stored_key, hmac.digest(salted, b"Server Key", hash))


@dataclass(slots=True)
class _ClientFirst:
    """What the first message says (RFC 5802 §7)."""

    gs2_header: bytes
    binding_flag: bytes
    authzid: str
    username: str
    bare: bytes
    nonce: bytes


_MALFORMED = SaslError("Not a message of SCRAM")
_MOST_OCTETS = 4096


class Scram:
    """The server's side of one exchange; `plus` where the mechanism's name says so. Serves one exchange."""

    __slots__ = (
        "_binding",
        "_first",
        "_index",
        "_nonce",
        "_plus",
        "_server_first",
        "_verifiers",
        "_void",
    )

    def __init__(self, surroundings: Surroundings, *, plus: bool) -> None:
        self._binding = surroundings.binding
        self._nonce = surroundings.nonce.encode("ascii")
        self._plus = plus
        self._first: _ClientFirst | None = None
        self._verifiers: Sequence[Verifier] = ()
        self._void: Sequence[Verifier] = ()
        self._server_first = b""
        self._index = -1

    def start(self, initial: bytes | None) -> Step:
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        if len(response) > _MOST_OCTETS:
            return _MALFORMED
        if self._first is None:
            return self._client_first(response)
        if self._index < 0:
            return self._client_final(response)
        # RFC 4954 §4, RFC 5034 §4: the server's last word goes out as a challenge, and is answered by nothing.
        if response:
            return _MALFORMED
        return Proven(self._first.authzid, self._first.username, self._index)

    def found(self, verifiers: Sequence[Verifier], void: Sequence[Verifier] = ()) -> Step:
        """Go on with the verifiers of the user: one or more, all with the same salt and iterations. Those that are
        `void` prove nothing; Disproven tells which of them it was, for the log."""
        assert self._first is not None
        self._verifiers = verifiers
        self._void = void
        salt, iterations = verifiers[0].salt, verifiers[0].iterations
        self._server_first = b"r=%b,s=%b,i=%d" % (
            self._first.nonce + self._nonce,
            encode_base64(salt),
            iterations,
        )
        return Challenge(self._server_first)

    def _client_first(self, message: bytes) -> Step:
        first = _parse_client_first(message)
        if first is None:
            return _MALFORMED
        problem = self._binding_problem(first.binding_flag)
        if problem:
            return SaslError(problem)
        self._first = first
        return VerifierWanted(first.authzid, first.username)

    def _binding_problem(self, flag: bytes) -> str:
        """RFC 5802 §6; '' if there is none."""
        binding = self._binding
        if flag.startswith(b"p="):
            if not self._plus:
                return "Channel binding needs the mechanism whose name ends in -PLUS"
            if binding is None or flag[2:] != binding.kind.encode("ascii"):
                return "There is no such channel binding on this connection"
        elif self._plus:
            return "This mechanism needs channel binding"
        elif flag == b"y" and binding is not None:
            return "The server does support channel binding: was somebody in the middle?"
        return ""

    def _client_final(self, message: bytes) -> Step:
        first = self._first
        assert first is not None
        without_proof, comma, proof = message.rpartition(b",p=")
        parts = without_proof.split(b",")
        # RFC 5802 §7: channel-binding "," nonce ["," extensions]
        if not comma or len(parts) < 2 or not _is_text(without_proof):
            return _MALFORMED
        expected = first.gs2_header
        if self._plus and self._binding is not None:
            expected += self._binding.data
        if parts[0] != b"c=" + encode_base64(expected):
            return Disproven(first.authzid, first.username)  # RFC 5802 §6: always validated
        client_proof = decode_base64(proof)
        if parts[1] != b"r=" + first.nonce + self._nonce or client_proof is None:
            return _MALFORMED
        signed = b",".join((first.bare, self._server_first, without_proof))
        self._index = _fitting(self._verifiers, signed, client_proof)
        if self._index < 0:
            void = _fitting(self._void, signed, client_proof)
            return Disproven(first.authzid, first.username, void)
        verifier = self._verifiers[self._index]
        signature = hmac.digest(verifier.server_key, signed, verifier.hash)
        return Challenge(b"v=" + encode_base64(signature))


def _fitting(verifiers: Sequence[Verifier], signed: bytes, client_proof: bytes) -> int:
    """The index of the verifier that a proof fits (RFC 5802 §3), -1 if none."""
    found = -1
    for index, verifier in enumerate(verifiers):
        client_signature = hmac.digest(verifier.stored_key, signed, verifier.hash)
        if len(client_proof) != len(client_signature):
            return -1
        client_key = bytes(a ^ b for a, b in zip(client_proof, client_signature, strict=True))
        stored_key = hashlib.new(verifier.hash, client_key).digest()
        if hmac.compare_digest(stored_key, verifier.stored_key):
            found = index
    return found


def _parse_client_first(message: bytes) -> _ClientFirst | None:
    """RFC 5802 §7; None if it breaks the grammar, or has a mandatory extension, of which we know none (§5.1)."""
    flag, _, rest = message.partition(b",")
    authorization, comma, bare = rest.partition(b",")
    if not comma or not (flag in (b"n", b"y") or (flag.startswith(b"p=") and len(flag) > 2)):
        return None
    authzid: str | None = ""
    if authorization:
        authzid = _saslname(authorization, b"a=")
    attributes = bare.split(b",")
    if len(attributes) < 2 or not _is_text(message):
        return None
    username, nonce = _saslname(attributes[0], b"n="), attributes[1]
    is_printable = all(0x21 <= octet <= 0x7E for octet in nonce)
    if authzid is None or username is None or not nonce.startswith(b"r=") or not is_printable:
        return None
    if len(nonce) < 3:
        return None
    header = flag + b"," + authorization + b","
    return _ClientFirst(header, flag, authzid, username, bare, nonce[2:])


def _saslname(attribute: bytes, prefix: bytes) -> str | None:
    """The prepared name of an attribute, in which =2C stands for a comma and =3D for "=" (RFC 5802 §5.1)."""
    if not attribute.startswith(prefix):
        return None
    quoted = attribute[len(prefix) :]
    plain = quoted.replace(b"=2C", b"").replace(b"=3D", b"")
    if b"=" in plain:
        return None
    name = decode_text(quoted.replace(b"=2C", b",").replace(b"=3D", b"="), MAX_IDENTITY_OCTETS)
    if name is None:
        return None
    try:
        return saslprep(name, stored=False) or None
    except ValueError:
        return None


def _is_text(octets: bytes) -> bool:
    """UTF-8 without NUL, as all messages are."""
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in octets
