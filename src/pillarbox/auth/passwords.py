"""Passwords: how they are made into what the directory keeps (RFC 9106 Argon2id; RFC 5803 SCRAM verifier).

All functions here take a tenth of a second or so of CPU: call them in a thread.
"""

import base64
import os

import argon2

from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.sasl.saslprep import saslprep
from pillarbox.sasl.scram import derive_verifier

SHORTEST_PASSWORD = 8
"""Characters."""
LONGEST_PASSWORD = 1024

SCRAM_ITERATIONS = 4096 * 4
SCRAM_SALT_OCTETS = 16

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


def hash_password(password: Secret, hasher: argon2.PasswordHasher = _hasher) -> tuple[str, str]:
    """(Argon2id hash, SCRAM-SHA-256 verifier as in RFC 5803 §2). Blocks. Only tests want another `hasher`."""
    verifier = derive_verifier(password, os.urandom(SCRAM_SALT_OCTETS), SCRAM_ITERATIONS, "sha256")
    salt, stored_key, server_key = (
        base64.b64encode(part).decode()
        for part in (verifier.salt, verifier.stored_key, verifier.server_key)
    )
    scram = f"SCRAM-SHA-256${verifier.iterations}:{salt}${stored_key}:{server_key}"
    return hasher.hash(_prepared(password)), scram


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
