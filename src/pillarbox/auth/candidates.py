"""What a password of a user can be verified with: the verifiers of the account's own and of its app passwords."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pillarbox.auth.passwords import parse_verifier
from pillarbox.sasl.scram import Verifier
from pillarbox.store.credentials import AppPassword, Credentials
from pillarbox.store.directory import Account


@dataclass(slots=True)
class Candidates:
    """The passwords of a user: the account's own, and those of programs that count here and now."""

    account: Account | None
    """None: there is no such user, or a disabled one; then `verifiers` are false."""
    verifiers: Sequence[Verifier]
    app_passwords: Sequence[AppPassword | None]
    """Of each verifier; None: it is the account's own."""
    void_verifiers: Sequence[Verifier] = ()
    """Of app passwords that have expired, or are for other protocols: so that the log can say so."""
    void: Sequence[AppPassword] = ()
    """Of each void verifier."""


def candidates_of(
    credentials: Credentials, number: int, counts: Callable[[AppPassword], bool]
) -> Candidates:
    """Those of an account, as far as they have one salt; `counts` says which app passwords do, here and now. Perhaps
    there are none."""
    own = parse_verifier(credentials.password(number)[1])
    verifiers = [] if own is None else [own]
    app_passwords: list[AppPassword | None] = [] if own is None else [None]
    void_verifiers: list[Verifier] = []
    void: list[AppPassword] = []
    for each in credentials.app_passwords(number):
        verifier = parse_verifier(each.scram)
        known = verifiers or void_verifiers
        if verifier is None or (known and verifier.salt != known[0].salt):
            continue
        if counts(each):
            verifiers.append(verifier)
            app_passwords.append(each)
        else:
            void_verifiers.append(verifier)
            void.append(each)
    return Candidates(None, verifiers, app_passwords, void_verifiers, void)
