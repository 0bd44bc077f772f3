"""Ways in that others answer for: who verifies passwords instead of us, and who tells whose a token is."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeVar

from pillarbox.auth.failure import with_cause
from pillarbox.auth.lines import Lines
from pillarbox.auth.peer import BadToken, Peer
from pillarbox.auth.source import Claimant, PasswordSource
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.networks import network_of
from pillarbox.core.secret import Secret
from pillarbox.store.directory import Account, Directory

ASKING_THREADS = 8
"""For questions to others: what waits for a slow one must not keep those who are known here."""

ASKED_AT_ONCE = 4
"""Of one network: so many guesses but one may be looked at beyond what the throttle lets through."""

ASKED_PART = 2
"""Of the places of those who wait there is one part of so many for those who wait for others. It is apart from the
places of the rest: when others are slow, or silent, who is known here gets in."""

TOLD_AGAIN_S = 60.0
"""From one line of the log that nobody verifies passwords, or tokens, to the next."""

Answer = TypeVar("Answer")

log = logging.getLogger("pillarbox.auth")


@dataclass(slots=True, frozen=True)
class Doors:
    """Ways in besides the built-in passwords."""

    source: PasswordSource | None = None
    """Verifies passwords instead of the built-in directory."""
    creates_accounts: bool = False
    tokens: Callable[[Secret], str | BadToken] | None = None
    """The user that a token is for. Blocks."""
    configuration_url: str = ""
    """For those whose token was refused."""


NO_DOORS = Doors()


class Outside:
    """Asks them, in threads and with lines of its own, and finds the accounts of those whom they name."""

    def __init__(self, doors: Doors, directory: Directory, clock: Callable[[], float]) -> None:
        self.doors = doors
        self._directory = directory
        self._clock = clock
        self._threads = ThreadPoolExecutor(ASKING_THREADS, thread_name_prefix="login")
        self._lines = Lines(ASKED_AT_ONCE, ASKED_PART)
        self._told_until: dict[str, float] = {}

    def turn(self, peer: Peer) -> AbstractAsyncContextManager[None]:
        """Of the peer's network, to ask them something. Raises Unavailable when too many wait."""
        return self._lines.turn(network_of(peer.address))

    def length(self, network: str) -> int:
        """How many attempts of a network have a turn or wait for one."""
        return self._lines.length(network)

    async def account_of_password(
        self, username: str, password: Secret, peer: Peer
    ) -> Account | None:
        """The account, if whoever verifies passwords says so; in a turn. Raises Unavailable."""
        source = self.doors.source
        assert source is not None
        secret = password.reveal()
        if not secret or "\0" in secret or not secret.isprintable():
            return None
        claimant = Claimant(username, password, peer.address, peer.protocol)
        address = await self._ask("password", lambda: source.check(claimant))
        if address is None:
            return None
        account = self.account_of(address)
        if account is None and not self.doors.creates_accounts:
            is_ours = address.rpartition("@")[2] in self._directory.domains()
            shown = address[:100] if is_ours else "of such an address, whose domain is not ours"
            log.info("the password of %r is right, but there is no account %s", username, shown)
        return account

    async def user_of_token(self, token: Secret) -> str | BadToken:
        """The address that it is for; in a turn. Raises Unavailable."""
        tokens = self.doors.tokens
        assert tokens is not None
        return await self._ask("token", lambda: tokens(token))

    def account_of(self, address: str) -> Account | None:
        """The account that somebody else says it is, made if it shall be."""
        account = self._directory.account_for_login(address) if "@" in address else None
        if account is not None or not self.doors.creates_accounts:
            return account
        try:
            made = self._directory.add_account(address, "", "")
        except Refused as error:
            log.info("no account is made for %r: %s", address[:100], error.text)
            return None
        log.info("%s logged in for the first time: an account was made", made.address)
        return made

    async def _ask(self, of_what: str, question: Callable[[], Answer]) -> Answer:
        """Raises Unavailable: users hear that they shall try again; the log says why, once a minute."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, question)
        except Unavailable as error:
            now = self._clock()
            if now >= self._told_until.get(of_what, 0.0):
                self._told_until[of_what] = now + TOLD_AGAIN_S
                log.error("no %s can be verified: %s", of_what, with_cause(error))
            raise
        self._told_until.pop(of_what, None)
        return answer

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
