"""Logins for all protocols alike: passwords, SCRAM proofs, tokens and certificates become an account, or nothing.

Argon2id runs in a small pool of threads, where each network waits in a line of its own (`lines`); others are asked in
threads of theirs (`outside`). A proof of a recent login (`proofs`) makes the next one cheap, where the throttle lets it
be looked at; it names the account's version, which every change of password or state raises, so it is void at once
everywhere. Unknown users and wrong passwords take the same time and get the same answer. Whoever fails waits longer
each time (`throttle`).
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pillarbox.auth.candidates import Candidates, User, Users
from pillarbox.auth.lines import Lines
from pillarbox.auth.outcomes import Outcomes
from pillarbox.auth.outside import NO_DOORS, Doors, Outside
from pillarbox.auth.passwords import LONGEST_PASSWORD, fitting_verifier, verify_password
from pillarbox.auth.peer import BadToken, Denied, Login, Peer
from pillarbox.auth.proofs import TABLE_OCTETS, Proof, Proofs
from pillarbox.auth.throttle import Claim, Throttle
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.networks import NO_NETWORKS, Networks, network_of
from pillarbox.core.secret import Secret
from pillarbox.core.tally import Tally
from pillarbox.sasl.exchange import Credentials, Mechanism, Surroundings
from pillarbox.sasl.mechanisms import MECHANISMS, Needs, offered
from pillarbox.store.credentials import AppPassword
from pillarbox.store.directory import Account, Directory, canonical_address
from pillarbox.store.logins import Logins
from pillarbox.store.run import LoginFailures
from pillarbox.trace.recorder import Recorder

HASHING_THREADS = 2
HASHED_AT_ONCE = 2
"""Of one network: so many guesses but one may be looked at beyond what the throttle lets through."""

PROOF_LIFE_S = 3600.0
LENT_PROOF_LIFE_S = 60.0
"""Where somebody else verifies passwords, who does not tell of changes."""

NONCE_OCTETS = 18


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
        self.doors = doors
        self.directory = directory
        self._clock = clock
        knows = logins.knows if logins is not None else _never
        self._throttle = Throttle(failures, knows, exempt, clock)
        self._outcomes = Outcomes(
            directory,
            self._throttle,
            logins,
            tally or Tally(),
            recorder or Recorder(),
            failure_delay_s,
        )
        self._outside = Outside(doors, directory, clock)
        self._users = Users(directory)
        self._proofs = proofs or Proofs(
            os.urandom(32), memoryview(bytearray(TABLE_OCTETS)), time.monotonic
        )
        self._threads = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="argon2")
        self._lines = Lines(HASHED_AT_ONCE)

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

    def ensure_domains(self) -> None:
        """Raises Unavailable where there is no domain, and so can be no account: more likely the disk of the data
        folder is not mounted, and a refusal would make programs ask for new passwords."""
        # What is remembered may be older than the first domain.
        if not (self.directory.has_domains() or self.directory.domains()):
            raise Unavailable("no domain is set up here yet", "UNAVAILABLE")

    # Passwords

    async def login(
        self, credentials: Credentials, peer: Peer, mechanism: str = "LOGIN"
    ) -> Login | Denied:
        """Whose account it is, or a denial after a delay that grows with the failures.

        Raises Unavailable when too many logins wait, and as `ensure_domains` does.
        """
        self.ensure_domains()
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
        under_way = self._lines.length(network) + self._outside.length(network)
        if under_way >= HASHED_AT_ONCE:
            return None
        account = self.directory.account_for_login(said.username)
        claim = (
            self._claim_of(said.username, peer)
            if account is None
            else Claim(account.address, account.id, peer.address)
        )
        if self._throttle.refuses(claim):
            return self._outcomes.refuse(claim, peer, mechanism)
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
        return self._outcomes.admit(account, app_password, said.authzid, peer, mechanism)

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
                return self._outcomes.refuse(claim, peer, mechanism)
            if len(said.password.reveal()) > LONGEST_PASSWORD:  # nobody's, here or elsewhere
                return self._conclude(claim, (None, None, None), said, peer, mechanism)
            # Another in the line may have said the same just now. Where others verify it that is looked at in their
            # line, behind which it counts.
            if not is_elsewhere:
                outcome = self._known(user.account, said, peer, mechanism)
                if outcome is not None:
                    return outcome
            candidates = user.candidates(peer.protocol, self._clock())
            right, app_password, void = await self._check(candidates, said.password)
            if right or not is_elsewhere:
                account = user.account if right else None
                found = account, app_password, void
                return self._conclude(claim, found, said, peer, mechanism)
        async with self._outside.turn(peer) as came:
            if self._throttle.refuses(claim):
                return self._outcomes.refuse(claim, peer, mechanism)
            account = self.directory.account_for_login(said.username)
            outcome = self._known(account, said, peer, mechanism)
            if outcome is not None:
                return outcome
            account = await self._outside.account_of_password(
                said.username, said.password, peer, came
            )
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
            return self._outcomes.fail(claim, octets, peer, mechanism, why, void)
        key = self._key(account, password, peer)  # it may be another one's than was said
        life_s = PROOF_LIFE_S if self.doors.source is None else LENT_PROOF_LIFE_S
        self._proofs.add(key, app_password.id if app_password is not None else 0, life_s)
        self._throttle.succeeded(claim)
        return self._outcomes.admit(account, app_password, said.authzid, peer, mechanism)

    async def _check(
        self, candidates: Candidates, password: Secret
    ) -> tuple[bool, AppPassword | None, AppPassword | None]:
        """Whether a password is one of the candidates, and which, or which void one it is; it takes the same time in
        all cases."""
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

    # Tokens and certificates

    async def user_of_token(
        self, token: Secret, username: str, peer: Peer
    ) -> str | BadToken | None:
        """The address that a good token is for; None: the attempt is not looked at. A bad one must count before
        anything is waited for. Raises Unavailable."""
        async with self._outside.own_turn(peer):
            if self._throttle.refuses(self._claim_of(username, peer)):
                return None
            user = await self._outside.known_user_of_token(token)
            if user is not None:
                return user
        async with self._outside.turn(peer) as came:
            if self._throttle.refuses(self._claim_of(username, peer)):
                return None
            return await self._outside.user_of_token(token, came)

    async def refuse_token(
        self, bad: BadToken, token: Secret, username: str, peer: Peer, mechanism: str
    ) -> Denied:
        """The answer where a token is no good. The same one again counts once, as a password does: programs try one
        that has expired until they get a new one."""
        octets = b"\0token " + token.reveal().encode("utf-8", "replace")
        claim = self._claim_of(username, peer)
        denied = self._outcomes.fail(claim, octets, peer, mechanism, bad.why)
        await asyncio.sleep(denied.delay_s)
        return denied

    async def vouched(
        self, users: Sequence[str], authzid: str, peer: Peer, mechanism: str
    ) -> Login | Denied:
        """Log in whom a token or a certificate names: the one of `users` who has an account, or whom the client wants
        to act as."""
        account = self._vouched_account(users, authzid)
        name = users[0] if users else authzid
        claim = (
            self._claim_of(name, peer)
            if account is None
            else Claim(account.address, account.id, peer.address)
        )
        if self._throttle.refuses(claim):
            outcome: Login | Denied = self._outcomes.refuse(claim, peer, mechanism)
        elif account is None or not account.enabled:
            outcome = self._outcomes.fail(
                claim, name.encode("utf-8", "replace"), peer, mechanism, "no account, or disabled"
            )
        else:
            outcome = self._outcomes.admit(account, None, authzid, peer, mechanism)
        return await self._in_time(outcome)

    def _vouched_account(self, users: Sequence[str], authzid: str) -> Account | None:
        """None: there is none, or it could be one of several. One is made, if it shall be, where only one can be
        meant."""
        names = {_canonical(user) for user in users} - {""}
        if (named := _canonical(authzid)) in names:
            names = {named}
        if len(names) == 1:
            return self._outside.account_of(*names)
        found = [account for name in names if (account := self.directory.account(name))]
        if authzid and len(found) > 1:
            wanted = self.directory.account_for_login(authzid)
            found = [account for account in found if account == wanted]
        return found[0] if len(found) == 1 else None

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
            return await self._in_time(self._outcomes.fail(claim, b"", peer, mechanism, why))
        self._throttle.succeeded(claim)
        return await self._in_time(
            self._outcomes.admit(account, app_password, wanted, peer, mechanism)
        )

    async def disproven(
        self, username: str, peer: Peer, mechanism: str, void: AppPassword | None = None
    ) -> Denied:
        """The client could not prove it, or knows only a `void` app password."""
        user = self._users.remembered(username, peer.protocol, self._clock()).user
        claim = self._claim(user, peer)
        why = self._why_wrong(claim, peer, void)
        # One proof says nothing about the next: only a void app password is known to be the same one again.
        password = b"\0app password %d" % void.id if void is not None else os.urandom(16)
        denied = self._outcomes.fail(claim, password, peer, mechanism, why, void)
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
        if self.doors.source:
            return "wrong password, or no such account"
        if claim.shared_name:
            return "several accounts have this name before the @"
        return "no such account"

    async def refuse(self, username: str, peer: Peer, mechanism: str) -> Denied:
        """The answer where an attempt is not looked at."""
        denied = self._outcomes.refuse(self._claim_of(username, peer), peer, mechanism)
        await asyncio.sleep(denied.delay_s)
        return denied

    async def _in_time(self, outcome: Login | Denied) -> Login | Denied:
        """A denial waits; a login does not."""
        if isinstance(outcome, Denied):
            await asyncio.sleep(outcome.delay_s)
        return outcome

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
        account = user.account.id if user.account else 0
        return Claim(user.name, account, peer.address, user.shared_name)

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
        self._outside.close()


def _canonical(address: str) -> str:
    """ "": it is none that an account can have."""
    try:
        return canonical_address(address)
    except Refused:
        return ""


def _never(_account: int, _network: str) -> bool:
    return False
