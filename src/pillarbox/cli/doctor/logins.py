"""Whether those answer whom logins depend on: who verifies passwords, and who tells what a token is worth.

They are asked as a login asks them, about somebody who does not exist; no account is touched.
"""

import secrets

from pillarbox.auth.failure import place_of, with_cause
from pillarbox.auth.source import Claimant, make_source, verifier_shown
from pillarbox.auth.tokens import make_verifier
from pillarbox.auth.web import shown_url
from pillarbox.cli.doctor.case import WAIT_S, Case, in_thread
from pillarbox.cli.doctor.finding import Finding, error, ok
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.secret import Secret

LOGIN_S = 4 * WAIT_S
"""A question to LDAP takes two connections."""

_DIRECTORY = {
    "ldap": "see that the LDAP server runs, and that url, ca_file, bind_dn, bind_password_file and base of [directory]"
    " are right",
    "http": "see that the web service runs, and that url, ca_file and token_file of [directory] are right",
    "python": "mend the class, or what it asks",
}


async def check_directory(case: Case) -> list[Finding]:
    """Nothing where passwords are built in."""
    settings = case.config.directory
    subject = verifier_shown(settings)
    if not subject:
        return []
    name = f"doctor-{secrets.token_hex(8)}@{next(iter(case.domains), case.host)}"
    nobody = Claimant(name, Secret(secrets.token_urlsafe()), "127.0.0.1", "imap")
    advice = f"nobody can log in with a password: {_DIRECTORY[settings.kind]}"

    def ask() -> str | None:
        source = make_source(settings)
        assert source is not None
        return source.check(nobody)

    try:
        answer = await in_thread(ask, LOGIN_S)
    except TimeoutError:
        return [error("directory", subject, f"no answer within {LOGIN_S:g} s", advice)]
    except Refused as refused:
        return [error("directory", subject, refused.text, "install or name what is missing")]
    except Unavailable as failure:
        return [error("directory", subject, with_cause(failure), advice)]
    except Exception as failure:  # of a class that is not ours
        found = f"it fails: {place_of(failure)}"
        return [error("directory", subject, found, advice)]
    if answer is not None:
        found = "it says that a random password of a random user is right"
        return [error("directory", subject, found, "mend it: it lets anybody in")]
    return [ok("directory", subject, "it answers, and lets nobody in who does not exist")]


async def check_tokens(case: Case) -> list[Finding]:
    """Nothing where no tokens are taken."""
    settings = case.config.oauth
    verifier = make_verifier(settings)
    if verifier is None:
        return []
    setting, place = (
        ("oauth.introspection_url", settings.introspection_url)
        if settings.introspection_url
        else ("oauth.jwks", settings.jwks)
    )
    subject = shown_url(place) if "://" in place else place
    advice = f"nobody can log in with a token: see that {setting} is right, and answers"
    try:
        return [ok("tokens", subject, await in_thread(verifier.probe, LOGIN_S))]
    except TimeoutError:
        return [error("tokens", subject, f"no answer within {LOGIN_S:g} s", advice)]
    except Unavailable as failure:
        return [error("tokens", subject, with_cause(failure), advice)]
