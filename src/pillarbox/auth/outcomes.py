"""What comes of an attempt to log in: it is counted, delayed, logged, traced and stands in the account's history."""

import logging

from pillarbox.auth.peer import Denied, Login, Peer
from pillarbox.auth.throttle import Claim, Throttle
from pillarbox.core.networks import network_of
from pillarbox.core.said import Said
from pillarbox.core.tally import Tally
from pillarbox.store.credentials import AppPassword
from pillarbox.store.directory import Account, Directory
from pillarbox.store.logins import OK, Attempt, Logins
from pillarbox.trace.events import Login as LoginEvent
from pillarbox.trace.recorder import Recorder

LONGEST_NAME = 300
"""Characters of a user's name that the trace gets."""

WRONG = "authentication failed"
TOO_MANY = "too many failed logins; try again later"

log = logging.getLogger("pillarbox.auth")


class Outcomes:
    """Those of one process."""

    def __init__(
        self,
        directory: Directory,
        throttle: Throttle,
        logins: Logins | None,
        tally: Tally,
        recorder: Recorder,
        failure_delay_s: float,
    ) -> None:
        """`failure_delay_s`: how long the answer to a first failure waits."""
        self._directory = directory
        self._throttle = throttle
        self._logins = logins
        self._tally = tally
        self._recorder = recorder
        self._failure_delay_s = failure_delay_s

    def admit(
        self,
        account: Account,
        app_password: AppPassword | None,
        wanted: str,
        peer: Peer,
        mechanism: str,
    ) -> Login | Denied:
        """The password was right, or another proof; is what is `wanted` allowed? With an app password, or None."""
        login = self._authorize(account, app_password, wanted)
        if login is None:
            self._tally.login_failures[peer.protocol, "authorization"] += 1
            self._note(account.id, peer, mechanism, "may not act for others", "")
            claim = Claim(account.address, account.id, peer.address)
            self._tell(claim, peer, mechanism, f"may not act as {wanted[:100]}")
            _log("refused", claim, peer, f"may not act as {Said(wanted[:100])}")
            return Denied(
                "you cannot act for another user",
                is_authorization=True,
                delay_s=self._failure_delay_s,
            )
        self._tally.logins[peer.protocol] += 1
        with_what = app_password.name if app_password is not None else ""
        self._note(account.id, peer, mechanism, OK, with_what)
        log.info(
            "login ok: user=%s client=%s protocol=%s mechanism=%s tls=%s connection=%s",
            Said(login.account.address),
            peer.address,
            peer.protocol,
            mechanism,
            peer.tls or "-",
            peer.connection,
        )
        if login.supporter is not None:
            self._note(login.account.id, peer, mechanism, OK, login.supporter.address)
            log.warning(
                "support: %s is logged in as user=%s protocol=%s client=%s",
                Said(login.supporter.address),
                Said(login.account.address),
                peer.protocol,
                peer.address,
            )
        if self._recorder.is_on:
            with_whom = login.supporter.address if login.supporter is not None else with_what
            target = login.account
            self._record(target.address, target.id, peer, mechanism, OK, with_whom)
        return login

    def _tell(
        self, claim: Claim, peer: Peer, mechanism: str, result: str, with_what: str = ""
    ) -> None:
        """A login that did not work, to the trace."""
        peer.failed(claim.account)
        if self._recorder.is_on:
            name = claim.shown[:LONGEST_NAME]
            self._record(name, claim.account, peer, mechanism, result, with_what)

    def _record(
        self, name: str, account: int, peer: Peer, mechanism: str, result: str, with_what: str
    ) -> None:
        where = (peer.connection, peer.protocol, peer.address)
        self._recorder.add(LoginEvent(*where, name, account, mechanism, result, with_what))

    def _authorize(
        self, account: Account, app_password: AppPassword | None, wanted: str
    ) -> Login | None:
        """RFC 4422 §3.4.1: as whom somebody may act."""
        if not wanted:
            return Login(account)
        target = self._directory.account_for_login(wanted)
        if target is not None and target.id == account.id:
            return Login(account)
        if target is None or not target.enabled or app_password is not None:
            return None
        return (
            Login(target, account) if self._directory.credentials.is_supporter(account.id) else None
        )

    def fail(
        self,
        claim: Claim,
        password: bytes,
        peer: Peer,
        mechanism: str,
        why: str,
        void: AppPassword | None = None,
    ) -> Denied:
        """It counts, `password` as one of its kind: the same one again does not. `void`: whose app password it was."""
        with_what = void.name if void is not None else ""
        self._tally.login_failures[peer.protocol, "credentials"] += 1
        delay = self._throttle.failed(claim, password)
        _log("failed", claim, peer, f"{why}: {with_what}" if with_what else why)
        self._tell(claim, peer, mechanism, why, with_what)
        if claim.account:
            self._note(claim.account, peer, mechanism, why, with_what)
        return Denied(WRONG, delay_s=self._failure_delay_s * delay)

    def refuse(self, claim: Claim, peer: Peer, mechanism: str) -> Denied:
        """The attempt is not looked at."""
        self._tally.login_failures[peer.protocol, "throttled"] += 1
        _log("refused", claim, peer, "too many failures")
        self._tell(claim, peer, mechanism, "too many failed logins")
        if claim.account:
            self._note(claim.account, peer, mechanism, "refused", "")
        return Denied(TOO_MANY, delay_s=self._failure_delay_s)

    def _note(self, account: int, peer: Peer, mechanism: str, result: str, with_what: str) -> None:
        if self._logins is not None:
            network = network_of(peer.address)
            self._logins.note(
                Attempt(account, peer.address, peer.protocol, mechanism, result, with_what, network)
            )


def _log(what: str, claim: Claim, peer: Peer, why: str) -> None:
    log.info(
        "login %s: user=%s client=%s protocol=%s reason=%s",
        what,
        Said(claim.shown[:100]),
        peer.address,
        peer.protocol,
        why,
    )
