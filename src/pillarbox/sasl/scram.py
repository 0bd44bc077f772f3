"""What a server keeps so that SCRAM can verify a password later (RFC 5802 §3, RFC 7677).

Only the derivation: the exchange itself is not here. It takes milliseconds: do it off the event loop.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Literal

from pillarbox.core.secret import Secret
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
