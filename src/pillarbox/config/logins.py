"""What may be wrong in [oauth] and [directory], in one line each."""

import re
from collections.abc import Iterator

from pillarbox.config.schema import DirectorySettings, Oauth
from pillarbox.config.urls import HERE, parse_url, why_unsafe
from pillarbox.core.duration import parse_duration

LONGEST_SKEW_S = 600


def oauth_problems(settings: Oauth) -> Iterator[str]:
    try:
        if parse_duration(settings.clock_skew) > LONGEST_SKEW_S:
            yield f"oauth.clock_skew: must be {LONGEST_SKEW_S}s or less"
    except ValueError as error:
        yield f"oauth.clock_skew: {error}"
    if not (settings.jwks or settings.introspection_url):
        return
    if settings.jwks and settings.introspection_url:
        yield "oauth: set jwks or introspection_url, not both"
    if settings.jwks and not (settings.issuer and settings.audience):
        yield "oauth: name issuer and audience, else tokens for other services would count"
    if not settings.user_claim:
        yield "oauth.user_claim: name the claim that has the address of the account"
    for name in ("jwks", "introspection_url"):
        url = getattr(settings, name)
        is_file = name == "jwks" and "://" not in url
        if url and not is_file and (why := why_unsafe(url)):
            yield f"oauth.{name}: {why}"
    if bool(settings.client_id) != bool(settings.client_secret_file):
        yield "oauth: client_id and client_secret_file go together"


def directory_problems(settings: DirectorySettings) -> Iterator[str]:
    if settings.kind == "http" and (why := why_unsafe(settings.url)):
        yield f"directory.url: {why}"
    if settings.kind == "python" and ":" not in settings.python_class:
        yield 'directory.class: must look like "package.module:Class"'
    if settings.kind != "ldap":
        return
    yield from _ldap_url_problems(settings)
    if "{user}" not in settings.filter:
        yield 'directory.filter: must have {user} in it, like "(mail={user})"'
    for word in dict.fromkeys(re.findall(r"\{\w+\}", settings.filter)):
        if word != "{user}":
            yield f"directory.filter: {word} is not filled in, only {{user}} is (for a brace itself write \\7b)"
    if not settings.base:
        yield "directory.base: name the entry below which users are"


def _ldap_url_problems(settings: DirectorySettings) -> Iterator[str]:
    try:
        parts = parse_url(settings.url)
    except ValueError as error:
        yield f"directory.url: {error}"
        return
    if parts.scheme not in ("ldap", "ldaps") or not parts.hostname:
        yield 'directory.url: must look like "ldaps://ldap.example.org"'
    elif parts.scheme == "ldap" and not settings.start_tls and parts.hostname not in HERE:
        yield "directory.url: passwords would go out unencrypted; use ldaps://, or start_tls = true"
