"""Proofs of recent logins: a keyed hash of an account's version and a password that was right makes the next login with
it cheap. They stand in memory that all workers share, so a password costs Argon2id once, not once for each of them.

Each proof carries a keyed hash over all of it. So one that two workers write at the same moment, or that something
else has damaged, is none.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass

from pillarbox.core.secret import Secret
from pillarbox.store.directory import Account

SLOTS = 1 << 15
PLACES = 4
"""Slots that a proof may be in; the one that ends first gives way."""

_SLOT = struct.Struct("<16sdq16s")
"""The first half of the key, until when (monotonic, seconds), the app password (0: the account's own), and the hash."""

TABLE_OCTETS = SLOTS * _SLOT.size


@dataclass(slots=True, frozen=True)
class Proof:
    """That a password was right."""

    app_password: int
    """Its id; 0: it is the account's own."""


class Proofs:
    """A table of them."""

    def __init__(self, secret: bytes, table: memoryview, monotonic: Callable[[], float]) -> None:
        """`table` is TABLE_OCTETS of memory, zero at first; all that share it have the same `secret` of 32 octets."""
        self._secret = secret
        self._table = table
        self._monotonic = monotonic

    def key(self, account: Account | None, password: Secret, where: str = "") -> bytes:
        """Of a password and what the account was when it was right: each change of that raises its version. `where` is
        what else it was right for, without a NUL."""
        who = f"{account.id}:{account.version}:{where}\0" if account else f":{where}\0"
        octets = password.reveal().encode("utf-8", "replace")
        return hmac.digest(self._secret, who.encode() + octets, hashlib.sha256)

    def find(self, key: bytes) -> Proof | None:
        """What is known of a password; None: nothing."""
        half = key[:16]
        now = self._monotonic()
        for start in self._places(key):
            known, until, app_password, seal = _SLOT.unpack_from(self._table, start)
            if known == half and until > now and seal == self._seal(key, until, app_password):
                return Proof(app_password)
        return None

    def add(self, key: bytes, app_password: int, life_s: float) -> None:
        """A password was right; that counts for `life_s`."""
        ends = {}
        for start in self._places(key):
            known, until, _, _ = _SLOT.unpack_from(self._table, start)
            ends[start] = 0.0 if known == key[:16] else until
        until = self._monotonic() + life_s
        seal = self._seal(key, until, app_password)
        start = min(ends, key=ends.__getitem__)
        _SLOT.pack_into(self._table, start, key[:16], until, app_password, seal)

    def _places(self, key: bytes) -> list[int]:
        first = int.from_bytes(key[:8], "little")
        return [(first + step) % SLOTS * _SLOT.size for step in range(PLACES)]

    def _seal(self, key: bytes, until: float, app_password: int) -> bytes:
        octets = key + struct.pack("<dq", until, app_password)
        return hmac.digest(self._secret, octets, hashlib.sha256)[:16]
