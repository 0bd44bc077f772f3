"""Logins for all protocols alike: passwords, SCRAM proofs, tokens and certificates become an account, or nothing.

Argon2id runs in a small pool of threads, where each network waits in a line of its own (`lines`). A proof of a recent
login (`proofs`) makes the next one cheap, where the throttle lets it be looked at; it names the account's version,
which every change of password or state raises, so it is void at once everywhere. Unknown users and wrong passwords take
the same time and get the same answer.
Whoever fails waits longer each time (`throttle`). The attempts at an account stand in its history (`store/logins.py`).
"""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pillarbox.auth.candidates import Candidates, User, Users
from pillarbox.auth.lines import Lines
from pillarbox.auth.passwords import (
    LONGEST_PASSWORD,
    fitting_verifier,
    verify_password,
)
from pillarbox.auth.peer import Denied, Login, Peer
from pillarbox.auth.proofs import TABLE_OCTETS, Proof, Proofs
from pillarbox.auth.source import Claimant, PasswordSource
from pillarbox.auth.throttle import Claim, Throttle
from pillarbox.auth.web import with_cause
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.networks import NO_NETWORKS, Networks, network_of
from pillarbox.core.secret import Secret
from pillarbox.core.tally import Tally
from pillarbox.sasl.exchange import Credentials, Mechanism, Surroundings
from pillarbox.sasl.mechanisms import MECHANISMS, Needs, offered
from pillarbox.store.credentials import AppPassword
from pillarbox.store.directory import Account, Directory
from pillarbox.store.logins import OK, Attempt, Logins
from pillarbox.store.run import LoginFailures
from pillarbox.trace.events import Login as LoginEvent
from pillarbox.trace.recorder import Recorder

HASHING_THREADS = 2
PROOF_LIFE_S = 3600.0
LENT_PROOF_LIFE_S = 60.0
"""Where somebody else verifies passwords, who does not tell of changes."""

ASKING_THREADS = 8
"""For questions to others: what waits for a slow one must not keep those who are known here."""

HASHED_AT_ONCE, ASKED_AT_ONCE = 2, 4
"""Of one network, by us and by others: so many guesses but one may be looked at beyond what the throttle lets
through."""

ASKED_PART = 2
"""Of the places of those who wait there is one part of so many for those who wait for others. It is apart from the
places of the rest: when others are slow, or silent, who is known here gets in."""

TOLD_AGAIN_S = 60.0
"""From one line of the log that nobody verifies passwords, or tokens, to the next."""

NONCE_OCTETS = 18

LONGEST_NAME = 300
"""Characters of a user's name that the trace gets."""

WRONG = "authentication failed"
TOO_MANY = "too many failed logins; try again later"

log = logging.getLogger("pillarbox.auth")


@dataclass(slots=True, frozen=True)
class Doors:
    """Ways in besides the built-in passwords."""

    source: PasswordSource | None = None
    """Verifies passwords instead of the built-in directory."""
    creates_accounts: bool = False
    tokens: Callable[[Secret], str] | None = None
    """The user that a token is for, '' if it is no good. Blocks."""
    configuration_url: str = ""
    """For those whose token was refused."""


NO_DOORS = Doors()


class Authenticator:
    """Verifies logins against a directory. One for each process."""

    def __init__(
        self,
        directory: Directory,
        failures: LoginFailures,
        logins: Logins | None = None,
        *,
        exempt: Networks = NO_NETWORKS,
        doors: Doors = NO_DOORS,
        proofs: Proofs | None = None,
        clock: Callable[[], float] = time.time,
        failure_delay_s: float = 1.0,
        tally: Tally | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """`exempt` networks may fail as often as they like; `doors` are the other ways in. Workers share
        `proofs`."""
        self._tally = tally or Tally()
        self.doors = doors
        self._asking = ThreadPoolExecutor(ASKING_THREADS, thread_name_prefix="login")
        self.directory = directory
        self._recorder = recorder or Recorder()
        self._logins = logins
        self._clock = clock
        self._failure_delay_s = failure_delay_s
        knows = logins.knows if logins is not None else _never
        self._throttle = Throttle(failures, knows, exempt, clock)
        self._users = Users(directory)
        self._proofs = proofs or Proofs(
            os.urandom(32), memoryview(bytearray(TABLE_OCTETS)), time.monotonic
        )
        self._threads = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="argon2")
        self._lines = Lines(HASHED_AT_ONCE)
        self._asking_lines = Lines(ASKED_AT_ONCE, ASKED_PART)
        self._told_until: dict[str, float] = {}

    # What is offered

    def mechanisms(self, peer: Peer) -> tuple[str, ...]:
        """The SASL mechanisms for a connection."""
        doors = self.doors
        # Others than the built-in directory know no SCRAM verifiers.
        available = Needs.VERIFIERS if doors.source is None else Needs.NOTHING
        if peer.binding is not None:
            available |= Needs.BINDING
        if doors.tokens is not None:
            available |= Needs.TOKENS
        if peer.certificate is not None:
            available |= Needs.CERTIFICATE
        return offered(available)

    def begin(self, mechanism: str, peer: Peer) -> Mechanism:
        """A new exchange."""
        nonce = secrets.token_urlsafe(NONCE_OCTETS)
        return MECHANISMS[mechanism].begin(Surroundings(nonce, peer.binding))

    # Passwords

    async def login(
        self, credentials: Credentials, peer: Peer, mechanism: str = "LOGIN"
    ) -> Login | Denied:
        """Whose account it is, or a denial after a delay that grows with the failures.

        Raises Unavailable when too many logins wait.
        """
        username, wanted = self.split(credentials.username, credentials.authzid)
        said = Credentials(wanted, username, credentials.password)
        outcome = self._at_once(said, peer, mechanism)
        if outcome is None:
            outcome = await self._look(said, peer, mechanism)
        return await self._in_time(outcome)

    def _at_once(self, said: Credentials, peer: Peer, mechanism: str) -> Login | Denied | None:
        """What comes of an attempt without a turn in the line: it is refused, or the password was right a short time
        ago; None: neither. While others of its network are looked at it has to wait, whatever is remembered: they may
        be guesses that count in a moment."""
        network = network_of(peer.address)
        under_way = self._lines.length(network) + self._asking_lines.length(network)
        if under_way >= HASHED_AT_ONCE:
            return None
        account = self.directory.account_for_login(said.username)
        claim = (
            self._claim_of(said.username, peer)
            if account is None
            else Claim(account.address, account.id, peer.address)
        )
        if self._throttle.refuses(claim):
            return self._refuse(claim, peer, mechanism)
        return self._known(account, said, peer, mechanism)

    def _known(
        self, account: Account | None, said: Credentials, peer: Peer, mechanism: str
    ) -> Login | Denied | None:
        """What comes of a password that was right a short time ago; None: it was not."""
        proof = self._proofs.find(self._key(account, said.password, peer))
        if account is None or not account.enabled or proof is None:
            return None
        app_password = self._app_password(account, proof)
        if (app_password is None and proof.app_password) or not self._counts(app_password, peer):
            return None
        return self._admit(account, app_password, said.authzid, peer, mechanism)

    def _key(self, account: Account | None, password: Secret, peer: Peer) -> bytes:
        # Who else verifies passwords may decide by the protocol and the client, too.
        where = "" if self.doors.source is None else f"{peer.protocol} {peer.address}"
        return self._proofs.key(account, password, where)

    async def _look(self, said: Credentials, peer: Peer, mechanism: str) -> Login | Denied:
        """What comes of a password that has to wait for its turn; a failure is counted before that ends. Raises
        Unavailable."""
        network = network_of(peer.address)
        is_elsewhere = self.doors.source is not None
        async with self._lines.turn(network):
            user = self._users.find(said.username)
            claim = self._claim(user, peer)
            if self._throttle.refuses(claim):
                return self._refuse(claim, peer, mechanism)
            if (
                not is_elsewhere
            ):  # else it would be looked at here, and count behind another line only
                # Another in the line may have said the same just now.
                outcome = self._known(user.account, said, peer, mechanism)
                if outcome is not None:
                    return outcome
            candidates = user.candidates(peer.protocol, self._clock())
            right, app_password, void = await self._check(candidates, said.password)
            if right or not is_elsewhere:
                account = user.account if right else None
                found = account, app_password, void
                return self._conclude(claim, found, said, peer, mechanism)
        async with self._asking_lines.turn(network):
            if self._throttle.refuses(claim):
                return self._refuse(claim, peer, mechanism)
            account = self.directory.account_for_login(said.username)
            outcome = self._known(account, said, peer, mechanism)
            if outcome is not None:
                return outcome
            account = await self._ask_source(said.username, said.password, peer)
            return self._conclude(claim, (account, None, void), said, peer, mechanism)

    def _conclude(
        self,
        claim: Claim,
        found: tuple[Account | None, AppPassword | None, AppPassword | None],
        said: Credentials,
        peer: Peer,
        mechanism: str,
    ) -> Login | Denied:
        """What comes of a password that was looked at: it is that of an account, or of one of its app passwords, or
        that of a void one, or none."""
        account, app_password, void = found
        why = (
            self._why_void(account, app_password, peer)
            if account is not None
            else self._why_wrong(claim, peer, void)
        )
        password = said.password
        if account is None or why:
            octets = password.reveal().encode("utf-8", "replace")
            return self._fail(claim, octets, peer, mechanism, why, void)
        key = self._key(account, password, peer)  # it may be another one's than was said
        life_s = PROOF_LIFE_S if self.doors.source is None else LENT_PROOF_LIFE_S
        self._proofs.add(key, app_password.id if app_password is not None else 0, life_s)
        self._throttle.succeeded(claim)
        return self._admit(account, app_password, said.authzid, peer, mechanism)

    async def _check(
        self, candidates: Candidates, password: Secret
    ) -> tuple[bool, AppPassword | None, AppPassword | None]:
        """Whether a password is one of the candidates, and which, or which void one it is; it takes the same time in
        all cases."""
        if len(password.reveal()) > LONGEST_PASSWORD:
            return False, None, None
        is_elsewhere = self.doors.source is not None
        account = candidates.user.account
        password_hash = self.directory.credentials.password(account.id)[0] if account else ""
        salt = candidates.verifiers[0].salt
        of_programs = [
            (verifier, app_password)
            for verifier, app_password in zip(
                candidates.verifiers, candidates.app_passwords, strict=True
            )
            if app_password is not None
        ]
        verifiers = [verifier for verifier, _ in of_programs]
        verifiers += candidates.void_verifiers

        def work() -> tuple[bool, int]:
            return (
                not is_elsewhere and verify_password(password_hash, password),
                fitting_verifier(password, salt, verifiers),
            )

        is_own, index = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        if is_own or index < 0:
            return is_own, None, None
        if index < len(of_programs):
            return True, of_programs[index][1], None
        return False, None, candidates.void[index - len(of_programs)]

    async def _ask_source(self, username: str, password: Secret, peer: Peer) -> Account | None:
        """The account, if whoever verifies passwords says so. Raises Unavailable."""
        source = self.doors.source
        assert source is not None
        secret = password.reveal()
        if not secret or "\0" in secret or not secret.isprintable():
            return None
        claimant = Claimant(username, password, peer.address, peer.protocol)
        loop = asyncio.get_running_loop()
        try:
            address = await loop.run_in_executor(self._asking, source.check, claimant)
        except Unavailable as error:
            self._tell_failure("password", error)
            raise
        self._told_until.pop("password", None)
        if address is None:
            return None
        account = self._account_of(address)
        if account is None and not self.doors.creates_accounts:
            log.info("the password of %s is right, but there is no such account", address[:100])
        return account

    def _tell_failure(self, of_what: str, error: Unavailable) -> None:
        """Users hear that they shall try again; the log says why, once a minute."""
        now = self._clock()
        if now < self._told_until.get(of_what, 0.0):
            return
        self._told_until[of_what] = now + TOLD_AGAIN_S
        log.error("no %s can be verified: %s", of_what, with_cause(error))

    def _account_of(self, address: str) -> Account | None:
        """The account that somebody else says it is, made if it shall be."""
        account = self.directory.account_for_login(address) if "@" in address else None
        if account is not None or not self.doors.creates_accounts:
            return account
        try:
            made = self.directory.add_account(address, "", "")
        except Refused as error:
            log.info("no account is made for %r: %s", address[:100], error.text)
            return None
        log.info("%s logged in for the first time: an account was made", made.address)
        return made

    # Tokens and certificates

    async def user_of_token(self, token: Secret, username: str, peer: Peer) -> str | None:
        """The address that a good token is for, "" if it is no good; None: the attempt is not looked at. A bad one must
        count before anything is waited for. Raises Unavailable."""
        tokens = self.doors.tokens
        if tokens is None:
            return ""
        async with self._asking_lines.turn(network_of(peer.address)):
            if self._throttle.refuses(self._claim_of(username, peer)):
                return None
            loop = asyncio.get_running_loop()
            try:
                user = await loop.run_in_executor(self._asking, tokens, token)
            except Unavailable as error:
                self._tell_failure("token", error)
                raise
        self._told_until.pop("token", None)
        return user

    async def refuse_token(
        self, token: Secret, username: str, peer: Peer, mechanism: str
    ) -> Denied:
        """The answer where a token is no good. The same one again counts once, as a password does: programs try one
        that has expired until they get a new one."""
        octets = b"\0token " + token.reveal().encode("utf-8", "replace")
        denied = self._fail(self._claim_of(username, peer), octets, peer, mechanism, "bad token")
        await asyncio.sleep(denied.delay_s)
        return denied

    async def vouched(
        self, users: Sequence[str], authzid: str, peer: Peer, mechanism: str
    ) -> Login | Denied:
        """Log in whom a token or a certificate names: one of `users` that has an account, and only one."""
        found = {account.id: account for user in users if (account := self._account_of(user))}
        if authzid and len(found) > 1:
            wanted = self.directory.account_for_login(authzid)
            found = {number: each for number, each in found.items() if each == wanted}
        account = next(iter(found.values())) if len(found) == 1 else None
        name = users[0] if users else authzid
        claim = (
            self._claim_of(name, peer)
            if account is None
            else Claim(account.address, account.id, peer.address)
        )
        if self._throttle.refuses(claim):
            outcome: Login | Denied = self._refuse(claim, peer, mechanism)
        elif account is None or not account.enabled:
            outcome = self._fail(claim, name.encode(), peer, mechanism, "no account, or disabled")
        else:
            outcome = self._admit(account, None, authzid, peer, mechanism)
        return await self._in_time(outcome)

    # SCRAM

    def begin_proof(self, username: str, peer: Peer) -> tuple[Candidates, int] | None:
        """What a user may prove to know, and a number for `take_proof`: without that the attempt becomes a failure of
        the network. None: it is not looked at."""
        candidates = self._users.remembered(username, peer.protocol, self._clock())
        claim = self._claim(candidates.user, peer)
        if self._throttle.refuses(claim):
            return None
        return candidates, self._throttle.began(claim)

    def take_proof(self, number: int, candidates: Candidates, peer: Peer) -> bool:
        """Whether a proof is looked at: of many attempts that were begun together each may be one too many. A wrong one
        must count before anything is waited for."""
        self._throttle.ended(number)
        return not self._throttle.refuses(self._claim(candidates.user, peer))

    async def proven(
        self, candidates: Candidates, index: int, wanted: str, peer: Peer, mechanism: str
    ) -> Login | Denied:
        """The client has proven the candidate with an index, and wants to act as `wanted`."""
        account, app_password = candidates.user.account, candidates.app_passwords[index]
        claim = self._claim(candidates.user, peer)
        why = self._why_void(account, app_password, peer) if account is not None else "false"
        if account is None or why:
            return await self._in_time(self._fail(claim, b"", peer, mechanism, why))
        self._throttle.succeeded(claim)
        return await self._in_time(self._admit(account, app_password, wanted, peer, mechanism))

    async def disproven(
        self, username: str, peer: Peer, mechanism: str, void: AppPassword | None = None
    ) -> Denied:
        """The client could not prove it, or knows only a `void` app password."""
        user = self._users.remembered(username, peer.protocol, self._clock()).user
        claim = self._claim(user, peer)
        why = self._why_wrong(claim, peer, void)
        # One proof says nothing about the next: only a void app password is known to be the same one again.
        password = b"\0app password %d" % void.id if void is not None else os.urandom(16)
        denied = self._fail(claim, password, peer, mechanism, why, void)
        await asyncio.sleep(denied.delay_s)
        return denied

    def _why_void(self, account: Account, app_password: AppPassword | None, peer: Peer) -> str:
        """Why a password that was right does not count any more; "": it does. An attempt may have waited since the
        account was read. No await may stand between this and the session's having the account: from then on
        `app/maintenance.py` sees what becomes of that."""
        now = self.directory.account_by_id(account.id)
        if now is None or not now.enabled:
            return "disabled"
        if now.version != account.version:
            return "changed meanwhile"
        return "" if self._counts(app_password, peer) else "app password has expired"

    def _why_wrong(self, claim: Claim, peer: Peer, void: AppPassword | None) -> str:
        """For the log, the trace and the history; clients get the same answer, after the same time."""
        if void is not None:
            if void.has_expired(self._clock()):
                return "app password has expired"
            return f"app password is not for {peer.protocol}"
        if claim.account:
            return "wrong password"
        return "wrong password, or no such account" if self.doors.source else "no such account"

    async def refuse(self, username: str, peer: Peer, mechanism: str) -> Denied:
        """The answer where an attempt is not looked at."""
        denied = self._refuse(self._claim_of(username, peer), peer, mechanism)
        await asyncio.sleep(denied.delay_s)
        return denied

    # What comes of it

    async def _in_time(self, outcome: Login | Denied) -> Login | Denied:
        """A denial waits; a login does not."""
        if isinstance(outcome, Denied):
            await asyncio.sleep(outcome.delay_s)
        return outcome

    def _admit(
        self,
        account: Account,
        app_password: AppPassword | None,
        wanted: str,
        peer: Peer,
        mechanism: str,
    ) -> Login | Denied:
        """The password was right; is what is wanted allowed?"""
        login = self._authorize(account, app_password, wanted)
        if login is None:
            self._tally.login_failures[peer.protocol, "authorization"] += 1
            self._note(account, peer, mechanism, "may not act for others", "")
            claim = Claim(account.address, account.id, peer.address)
            self._tell(claim, peer, mechanism, f"may not act as {wanted[:100]}")
            log.info(
                "login refused: user=%s client=%s protocol=%s reason=%s",
                account.address,
                peer.address,
                peer.protocol,
                f"may not act as {wanted[:100]!r}",
            )
            return Denied(
                "you cannot act for another user",
                is_authorization=True,
                delay_s=self._failure_delay_s,
            )
        self._tally.logins[peer.protocol] += 1
        with_what = app_password.name if app_password is not None else ""
        self._note(account, peer, mechanism, OK, with_what)
        if login.supporter is not None:
            self._note(login.account, peer, mechanism, OK, login.supporter.address)
            log.warning(
                "support: %s is logged in as user=%s protocol=%s client=%s",
                login.supporter.address,
                login.account.address,
                peer.protocol,
                peer.address,
            )
        if self._recorder.is_on:
            with_whom = login.supporter.address if login.supporter is not None else with_what
            target = login.account
            self._recorder.add(
                LoginEvent(
                    peer.connection,
                    peer.protocol,
                    peer.address,
                    target.address,
                    target.id,
                    mechanism,
                    OK,
                    with_whom,
                )
            )
        return login

    def _tell(
        self, claim: Claim, peer: Peer, mechanism: str, result: str, with_what: str = ""
    ) -> None:
        """A login that did not work, to the trace."""
        peer.failed(claim.account)
        if self._recorder.is_on:
            name = claim.shown[:LONGEST_NAME]
            where = (peer.connection, peer.protocol, peer.address)
            self._recorder.add(
                LoginEvent(*where, name, claim.account, mechanism, result, with_what)
            )

    def _authorize(
        self, account: Account, app_password: AppPassword | None, wanted: str
    ) -> Login | None:
        """RFC 4422 §3.4.1: as whom somebody may act."""
        if not wanted:
            return Login(account)
        target = self.directory.account_for_login(wanted)
        if target is not None and target.id == account.id:
            return Login(account)
        if target is None or not target.enabled or app_password is not None:
            return None
        return (
            Login(target, account) if self.directory.credentials.is_supporter(account.id) else None
        )

    def _fail(
        self,
        claim: Claim,
        password: bytes,
        peer: Peer,
        mechanism: str,
        why: str,
        void: AppPassword | None = None,
    ) -> Denied:
        with_what = void.name if void is not None else ""
        self._tally.login_failures[peer.protocol, "credentials"] += 1
        delay = self._throttle.failed(claim, password)
        log.info(
            "login failed: user=%s client=%s protocol=%s reason=%s",
            claim.shown[:100],
            peer.address,
            peer.protocol,
            f"{why}: {with_what}" if with_what else why,
        )
        self._tell(claim, peer, mechanism, why, with_what)
        if claim.account:
            self._note_attempt(claim.account, peer, mechanism, why, with_what)
        return Denied(WRONG, delay_s=self._failure_delay_s * delay)

    def _refuse(self, claim: Claim, peer: Peer, mechanism: str) -> Denied:
        self._tally.login_failures[peer.protocol, "throttled"] += 1
        log.info(
            "login refused: user=%s client=%s protocol=%s reason=%s",
            claim.shown[:100],
            peer.address,
            peer.protocol,
            "too many failures",
        )
        self._tell(claim, peer, mechanism, "too many failed logins")
        if claim.account:
            self._note_attempt(claim.account, peer, mechanism, "refused", "")
        return Denied(TOO_MANY, delay_s=self._failure_delay_s)

    def _note(
        self, account: Account, peer: Peer, mechanism: str, result: str, with_what: str
    ) -> None:
        self._note_attempt(account.id, peer, mechanism, result, with_what)

    def _note_attempt(
        self, account: int, peer: Peer, mechanism: str, result: str, with_what: str
    ) -> None:
        if self._logins is not None:
            network = network_of(peer.address)
            self._logins.note(
                Attempt(account, peer.address, peer.protocol, mechanism, result, with_what, network)
            )

    # Names

    def split(self, username: str, authzid: str) -> tuple[str, str]:
        """(whose password it is, as whom they want to act; "": as themselves). `alice*helper` is the helper, who wants
        to act as alice, unless somebody is called that."""
        if "*" in username and self.directory.account_for_login(username) is None:
            wanted, _, helper = username.rpartition("*")
            if wanted and helper and authzid in ("", wanted):
                return helper, wanted
        return username, authzid

    def _claim(self, user: User, peer: Peer) -> Claim:
        return Claim(user.name, user.account.id if user.account else 0, peer.address)

    def _claim_of(self, username: str, peer: Peer) -> Claim:
        """`username` may be "": nobody said one."""
        if not username:
            return Claim("", 0, peer.address)
        found = self._users.remembered(username, peer.protocol, self._clock())
        return self._claim(found.user, peer)

    # App passwords

    def _counts(self, app_password: AppPassword | None, peer: Peer) -> bool:
        """Whether a password counts for this protocol now."""
        return app_password is None or app_password.counts(peer.protocol, self._clock())

    def _app_password(self, account: Account, proof: Proof) -> AppPassword | None:
        """That of a proof; None: the account's own, or there is none any more."""
        if not proof.app_password:
            return None
        found = self.directory.credentials.app_passwords(account.id)
        return next((each for each in found if each.id == proof.app_password), None)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._asking.shutdown(wait=False, cancel_futures=True)


def _never(_account: int, _network: str) -> bool:
    return False
