"""What a password of a user can be verified with: the verifiers of the account's own and of its app passwords; and for
names that lead to no account, false ones, so that they look like others."""

import hashlib
import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pillarbox.auth.passwords import SCRAM_ITERATIONS, SCRAM_SALT_OCTETS, parse_verifier
from pillarbox.core.errors import Refused
from pillarbox.sasl.scram import Verifier
from pillarbox.store.credentials import AppPassword, Credentials
from pillarbox.store.directory import Account, Directory, canonical_address

MOST_REMEMBERED = 1000
"""Names."""


@dataclass(slots=True, frozen=True)
class Candidates:
    """The passwords of a user: the account's own, and those of programs that count here and now."""

    user: "User"
    verifiers: Sequence[Verifier]
    """At least one; false where there is none that counts."""
    app_passwords: Sequence[AppPassword | None]
    """Of each verifier; None: it is the account's own, or false."""
    void_verifiers: Sequence[Verifier]
    """Of app passwords that have expired, or are for other protocols: so that the log can say so."""
    void: Sequence[AppPassword]
    """Of each void verifier."""
    until: float
    """When the first of the app passwords expires, in epoch seconds."""


@dataclass(slots=True, frozen=True)
class User:
    """Who a name stands for."""

    name: str
    """The address, canonical; of somebody unknown, one that it could be."""
    account: Account | None
    """None: there is no such, or the name is of several."""
    passwords: Sequence[tuple[Verifier, AppPassword | None]]
    """All with one salt; none of a disabled account."""
    false: Verifier
    """Fits no password, and has the salt that clients shall see."""
    shared_name: str = ""
    """What the client said, where several accounts are called that; "": they are not."""

    def candidates(self, protocol: str, now_s: float) -> Candidates:
        """Those of a protocol, at a time in epoch seconds."""
        verifiers: list[Verifier] = []
        app_passwords: list[AppPassword | None] = []
        void_verifiers: list[Verifier] = []
        void: list[AppPassword] = []
        for verifier, app_password in self.passwords:
            if app_password is None or app_password.counts(protocol, now_s):
                verifiers.append(verifier)
                app_passwords.append(app_password)
            else:
                void_verifiers.append(verifier)
                void.append(app_password)
        if not verifiers:
            verifiers, app_passwords = [self.false], [None]
        ends = [each.expires for each in app_passwords if each is not None and each.expires]
        until = min(ends, default=math.inf)
        return Candidates(self, verifiers, app_passwords, void_verifiers, void, until)


class Users:
    """By the names that clients say."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._false_key = directory.credentials.secret("scram")
        self._remembered: dict[tuple[str, str], Candidates] = {}
        self._version = (-1, -1)

    def remembered(self, username: str, protocol: str, now_s: float) -> Candidates:
        """From memory, if they are there; other processes' changes are seen after LOOK_EVERY_S. It takes as long for
        names that there are as for others, however many passwords they have."""
        version = self._directory.file.version()
        if version != self._version or len(self._remembered) > MOST_REMEMBERED:
            self._remembered.clear()
            self._version = version
        key = username, protocol
        found = self._remembered.get(key)
        if found is None or found.until <= now_s:
            found = self._remembered[key] = self.find(username).candidates(protocol, now_s)
        return found

    def find(self, username: str) -> User:
        """As it is now."""
        directory = self._directory
        called_so = directory.accounts_for_login(username)
        account = called_so[0] if len(called_so) == 1 else None
        name = account.address if account is not None else self._name_of(username)
        # A name that several accounts have shows the salt of the address that it stands for, as any other does.
        shown = account or directory.account(name)
        passwords = (
            _passwords(directory.credentials, shown.id)
            if shown is not None and shown.enabled
            else []
        )
        false = self._false_verifier(name)
        if passwords:
            false = replace(false, salt=passwords[0][0].salt)
        shared_name = username if len(called_so) > 1 else ""
        return User(name, account, passwords if account is not None else [], false, shared_name)

    def _name_of(self, username: str) -> str:
        """An address that an unknown name could stand for."""
        if "@" in username:
            try:
                return canonical_address(username)
            except Refused:
                return username.lower()
        domains = self._directory.domains()
        if not domains:
            return username.lower()
        local = username.lower()
        # Any of them, but always the same: as if there were one account of that name.
        domain = min(domains, key=lambda each: self._false_octets(f"domain {local} {each}"))
        return f"{local}@{domain}"

    def _false_octets(self, purpose: str) -> bytes:
        octets = purpose.encode("utf-8", "replace")
        return hmac.digest(self._false_key, octets, hashlib.sha256)

    def _false_verifier(self, name: str) -> Verifier:
        """The same at each attempt, in all workers, after every restart, and fitting no password."""
        salt = self._false_octets(f"salt {name}")[:SCRAM_SALT_OCTETS]
        stored_key, server_key = (
            self._false_octets(f"{purpose} {name}") for purpose in ("stored", "server")
        )
        return Verifier("sha256", salt, SCRAM_ITERATIONS, stored_key, server_key)


def _passwords(credentials: Credentials, account: int) -> list[tuple[Verifier, AppPassword | None]]:
    """Those of an account, as far as they have the salt of the first."""
    own: list[tuple[str, AppPassword | None]] = [(credentials.password(account)[1], None)]
    texts = own + [(each.scram, each) for each in credentials.app_passwords(account)]
    parsed = [(parse_verifier(text), app_password) for text, app_password in texts]
    found = [(verifier, each) for verifier, each in parsed if verifier is not None]
    return [pair for pair in found if pair[0].salt == found[0][0].salt]
