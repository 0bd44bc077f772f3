"""Passwords: how they are made into what the directory keeps (RFC 9106 Argon2id; RFC 5803 SCRAM verifier).

All functions here take a tenth of a second or so of CPU: call them in a thread.
"""

import base64
import hmac
import os
import secrets
from collections.abc import Sequence

import argon2

from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.sasl.saslprep import saslprep
from pillarbox.sasl.scram import Verifier, derive_verifier

SHORTEST_PASSWORD = 8
"""Characters."""
LONGEST_PASSWORD = 1024

SCRAM_ITERATIONS = 4096 * 4
SCRAM_SALT_OCTETS = 16

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without those that look alike."""

_hasher = argon2.PasswordHasher()  # RFC 9106 §4, second recommended option


def _random_hash() -> str:
    """In the form of a hash of `_hasher`, of no password that anybody knows."""
    salt, digest = (
        base64.b64encode(os.urandom(length)).rstrip(b"=").decode()
        for length in (_hasher.salt_len, _hasher.hash_len)
    )
    costs = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"


UNKNOWN_USER_HASH = _random_hash()
"""Verified for users that do not exist, so that they take as long as others."""


def check_new_password(password: Secret) -> None:
    """Raises Refused if a password cannot be set."""
    length = len(password.reveal())
    if length < SHORTEST_PASSWORD:
        raise Refused(f"a password needs at least {SHORTEST_PASSWORD} characters")
    if length > LONGEST_PASSWORD:
        raise Refused(f"a password has at most {LONGEST_PASSWORD} characters")
    try:
        saslprep(password.reveal(), stored=True)
    except ValueError as error:
        raise Refused("the password has characters that cannot be typed everywhere") from error


def hash_password(
    password: Secret, hasher: argon2.PasswordHasher = _hasher, salt: bytes = b""
) -> tuple[str, str]:
    """(Argon2id hash, SCRAM-SHA-256 verifier as in RFC 5803 §2). Blocks. `salt` is that of the account's other
    verifiers, b"" for a new one. Only tests want another `hasher`."""
    return hasher.hash(_prepared(password)), make_verifier(password, salt)


def make_verifier(password: Secret, salt: bytes = b"") -> str:
    """The SCRAM-SHA-256 verifier as in RFC 5803 §2. Blocks."""
    salt = salt or os.urandom(SCRAM_SALT_OCTETS)
    verifier = derive_verifier(password, salt, SCRAM_ITERATIONS, "sha256")
    salt_text, stored_key, server_key = (
        base64.b64encode(part).decode()
        for part in (verifier.salt, verifier.stored_key, verifier.server_key)
    )
    return f"SCRAM-SHA-256${verifier.iterations}:{salt_text}${stored_key}:{server_key}"


def parse_verifier(text: str) -> Verifier | None:
    """What `make_verifier` made; None for an empty text."""
    if not text:
        return None
    _, costs, keys = text.split("$")
    iterations, _, salt = costs.partition(":")
    octets = [base64.b64decode(part) for part in (salt, *keys.split(":"))]
    return Verifier("sha256", octets[0], int(iterations), octets[1], octets[2])


def fitting_verifier(password: Secret, salt: bytes, verifiers: Sequence[Verifier]) -> int:
    """The index of the verifier that a password fits, -1 if none; all have that salt, and SCRAM_ITERATIONS. Blocks, for
    as long in either case. One derivation is enough for all, and enough against guessing: the passwords are random."""
    try:
        derived = derive_verifier(password, salt, SCRAM_ITERATIONS, "sha256").stored_key
    except ValueError:
        return -1
    found = -1
    for index, verifier in enumerate(verifiers):
        if hmac.compare_digest(verifier.stored_key, derived):
            found = index
    return found


def random_password() -> Secret:
    """For a program: 20 letters and digits in groups, about 100 bits."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))
    return Secret("-".join(groups))


def verify_password(password_hash: str, password: Secret) -> bool:
    """Whether it is the password of the hash ('': never). Blocks, for as long in either case."""
    try:
        return _hasher.verify(password_hash or UNKNOWN_USER_HASH, _prepared(password))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _prepared(password: Secret) -> str:
    """Prepared alike when set and when used (RFC 4013), so that every way of typing it works."""
    try:
        return saslprep(password.reveal(), stored=True)
    except ValueError:
        return password.reveal()
