"""Login with a user name and password, for all protocols alike.

Argon2id runs in a small pool of threads with a bounded queue. A proof of a recent login (a keyed hash that lives in
this process only) makes the next one cheap; it names the account's version, which every change of password or state
raises, so it is void at once everywhere. Unknown users and wrong passwords take the same time and get the same answer.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pillarbox.auth.passwords import LONGEST_PASSWORD, verify_password
from pillarbox.core.errors import Unavailable
from pillarbox.core.networks import network_of
from pillarbox.core.secret import Secret
from pillarbox.store.directory import Account, Directory
from pillarbox.store.run import LoginFailures

HASHING_THREADS = 2
MOST_WAITING = 200
"""Logins that may wait for a thread; more are told to come back later."""

PROOF_LIFE_S = 3600.0
MOST_PROOFS = 50_000

log = logging.getLogger("pillarbox.auth")


class Authenticator:
    """Verifies logins against a directory. One for each process."""

    def __init__(
        self,
        directory: Directory,
        failures: LoginFailures,
        monotonic: Callable[[], float] = time.monotonic,
        failure_delay_s: float = 1.0,
    ) -> None:
        self._directory = directory
        self._failures = failures
        self._monotonic = monotonic
        self._failure_delay_s = failure_delay_s
        self._key = os.urandom(32)
        self._proofs: OrderedDict[bytes, float] = OrderedDict()
        self._threads = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="argon2")
        self._waiting = 0

    async def login(self, username: str, password: Secret, source: str) -> Account | None:
        """The account, or None after a delay that grows with the failures from `source` (an IP address).

        Raises Unavailable when too many logins wait.
        """
        account = self._directory.account_for_login(username)
        proof = self._proof(account, password)
        if account is not None and self._is_proven(proof):
            return account if account.enabled else None
        if self._waiting >= MOST_WAITING:
            raise Unavailable("too many logins at once; try again in a minute")
        password_hash = self._directory.credentials(account.id)[0] if account else ""
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            right = len(password.reveal()) <= LONGEST_PASSWORD and await loop.run_in_executor(
                self._threads, verify_password, password_hash, password
            )
        finally:
            self._waiting -= 1
        network = network_of(source)
        if right and account is not None and account.enabled:
            self._failures.forget(network)
            self._remember(proof)
            return account
        failures = self._failures.add(network)
        why = ": the account is disabled" if right and account is not None else ""
        log.info(
            "login failed for %r from %s (failure %d)%s", username[:100], source, failures, why
        )
        await asyncio.sleep(self._failure_delay_s * 2 ** min(failures // 5, 4))
        return None

    def _proof(self, account: Account | None, password: Secret) -> bytes:
        who = f"{account.id}:{account.version}:" if account else ":"
        return hmac.digest(self._key, who.encode() + password.reveal().encode(), hashlib.sha256)

    def _is_proven(self, proof: bytes) -> bool:
        until = self._proofs.get(proof)
        if until is None:
            return False
        if until < self._monotonic():
            del self._proofs[proof]
            return False
        return True

    def _remember(self, proof: bytes) -> None:
        self._proofs[proof] = self._monotonic() + PROOF_LIFE_S
        if len(self._proofs) > MOST_PROOFS:
            self._proofs.popitem(last=False)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
