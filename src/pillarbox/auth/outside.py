"""Ways in that others answer for: who verifies passwords instead of us, and who tells whose a token is."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pillarbox.auth.address import is_address
from pillarbox.auth.failure import NoAnswer, with_cause
from pillarbox.auth.lines import Lines, take_place
from pillarbox.auth.peer import BadToken, Peer
from pillarbox.auth.source import Claimant, PasswordSource
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.networks import network_of
from pillarbox.core.said import Said
from pillarbox.core.secret import Secret
from pillarbox.store.directory import Account, Directory

ASKING_THREADS = 8
"""For questions to others: what waits for a slow one must not keep those who are known here."""

ASKED_AT_ONCE = 4
"""Of one network: so many guesses but one may be looked at beyond what the throttle lets through."""

ASKED_PART = 2
"""Of the places of those who wait there is one part of so many for those who wait for others. It is apart from the
places of the rest: when others are slow, or silent, who is known here gets in."""

WAIT_S = 5.0
"""How long a login waits for its turn. What is asked then counts that time among its own."""

TOKEN_S = 5.0
"""How long a login with a token waits in all."""

TOLD_AGAIN_S = 60.0
"""From one line of the log that nobody verifies passwords, or tokens, to the next."""

Answer = TypeVar("Answer")

log = logging.getLogger("pillarbox.auth")


class Tokens(Protocol):
    """Tells whose a token is. Both are for a thread."""

    def known(self, token: Secret) -> str | BadToken | None:
        """The user that it is for, if nobody has to be asked for that; else None. Waits for nobody."""

    def ask(self, token: Secret, timeout_s: float) -> str | BadToken:
        """The user that it is for. Blocks, `timeout_s` at most. Raises Unavailable."""


@dataclass(slots=True, frozen=True)
class Doors:
    """Ways in besides the built-in passwords."""

    source: PasswordSource | None = None
    """Verifies passwords instead of the built-in directory."""
    creates_accounts: bool = False
    tokens: Tokens | None = None
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
        self._places = asyncio.Semaphore(ASKING_THREADS)
        self._lines = Lines(ASKED_AT_ONCE, ASKED_PART)
        # Whoever is asked may be silent: what is known already has a thread and lines where nobody waits for that.
        self._own_thread = ThreadPoolExecutor(1, thread_name_prefix="token")
        self._own_lines = Lines(1)
        self._told_until: dict[str, float] = {}

    @asynccontextmanager
    async def turn(self, peer: Peer) -> AsyncIterator[float]:
        """Of the peer's network, to ask them something; gives the moment when it was wanted, by time.monotonic().
        Raises Unavailable when too many wait, or one has waited for too long, ConnectionError when the peer has
        left meanwhile: nobody is asked for who does not hear the answer."""
        came = time.monotonic()
        network = network_of(peer.address)
        until = asyncio.get_running_loop().time() + WAIT_S
        async with self._lines.turn(network, until):
            await take_place(self._places, until)
            try:
                if peer.has_left():
                    raise ConnectionResetError
                yield came
            finally:
                self._places.release()

    def own_turn(self, peer: Peer) -> AbstractAsyncContextManager[None]:
        """Of the peer's network, for `known_user_of_token`. Raises Unavailable when too many wait."""
        return self._own_lines.turn(network_of(peer.address))

    def length(self, network: str) -> int:
        """How many attempts of a network have a turn or wait for one."""
        return self._lines.length(network) + self._own_lines.length(network)

    async def account_of_password(
        self, username: str, password: Secret, peer: Peer, came: float
    ) -> Account | None:
        """The account, if whoever verifies passwords says so; in a turn, of a login that came at a moment. Raises
        Unavailable."""
        source = self.doors.source
        assert source is not None
        secret = password.reveal()
        if not secret or "\0" in secret or not secret.isprintable():
            return None
        claimant = Claimant(username, password, peer.address, peer.protocol, came)
        address = await self._ask("password", lambda: _checked(source, claimant))
        if address is None:
            return None
        account = self.account_of(address)
        if account is not None:
            return account
        if not self.doors.creates_accounts:
            is_ours = address.rpartition("@")[2] in self._directory.domains()
            shown = (
                Said(address[:100]) if is_ours else "of such an address, whose domain is not ours"
            )
            who = Said(username)
            log.info("the password of %s is right, but there is no account %s", who, shown)
        if self._directory.account_for_login(username) is not None:
            # The service is wrong, not the owner of this account. Of other names nobody hears that a password is right.
            raise Unavailable("who verifies passwords names an account that is not there")
        return None

    async def known_user_of_token(self, token: Secret) -> str | BadToken | None:
        """The address that it is for; None: somebody has to be asked. In an own turn."""
        tokens = self.doors.tokens
        assert tokens is not None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._own_thread, lambda: tokens.known(token))

    async def user_of_token(self, token: Secret, came: float) -> str | BadToken:
        """The address that it is for; in a turn, of a login that came at a moment. Raises Unavailable."""
        tokens = self.doors.tokens
        assert tokens is not None
        timeout_s = came + TOKEN_S - time.monotonic()
        return await self._ask("token", lambda: tokens.ask(token, timeout_s))

    def account_of(self, address: str) -> Account | None:
        """The account that somebody else says it is, made if it shall be."""
        account = self._directory.account_for_login(address) if "@" in address else None
        if account is not None or not self.doors.creates_accounts:
            return account
        try:
            made = self._directory.add_account(address, "", "")
        except Refused as error:
            log.info("no account is made for %s: %s", Said(address[:100]), error.text)
            return None
        log.info("%s logged in for the first time: an account was made", made.address)
        return made

    async def _ask(self, of_what: str, question: Callable[[], Answer]) -> Answer:
        """Raises Unavailable: users hear that they shall try again; the log says why, once a minute."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, question)
        except Unavailable as error:
            now = self._clock()
            if now >= self._told_until.get(of_what, 0.0):
                self._told_until[of_what] = now + TOLD_AGAIN_S
                log.error("no %s can be verified: %s", of_what, with_cause(error))
            raise

    def close(self) -> None:
        for threads in (self._threads, self._own_thread):
            threads.shutdown(wait=False, cancel_futures=True)


def _checked(source: PasswordSource, claimant: Claimant) -> str | None:
    """What a source says, if that can be an address. Raises Unavailable."""
    address = source.check(claimant)
    if address is not None and not is_address(address):
        failure = NoAnswer("what it says is no address, and not None either")
        raise Unavailable("who verifies passwords does not answer as it should") from failure
    return address
