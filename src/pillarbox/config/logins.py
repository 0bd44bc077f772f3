"""What may be wrong in [oauth] and [directory], in one line each."""

import re
import urllib.parse
from collections.abc import Iterator

from pillarbox.config.schema import DirectorySettings, Oauth
from pillarbox.core.duration import parse_duration

LONGEST_SKEW_S = 600
_HERE = ("127.0.0.1", "::1", "localhost")


def is_safe_url(url: str) -> bool:
    """HTTPS, or HTTP to this machine: secrets go there."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and parts.hostname in _HERE


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
        if url and not is_file and not is_safe_url(url):
            yield f"oauth.{name}: must be an https URL"
    if bool(settings.client_id) != bool(settings.client_secret_file):
        yield "oauth: client_id and client_secret_file go together"


def directory_problems(settings: DirectorySettings) -> Iterator[str]:
    if settings.kind == "http" and not is_safe_url(settings.url):
        yield "directory.url: must be an https URL (or http to this machine)"
    if settings.kind == "python" and ":" not in settings.python_class:
        yield 'directory.class: must look like "package.module:Class"'
    if settings.kind != "ldap":
        return
    try:
        parts = urllib.parse.urlsplit(settings.url)
        scheme, host = parts.scheme, parts.hostname
    except ValueError:
        scheme, host = "", None
    if scheme not in ("ldap", "ldaps") or not host:
        yield 'directory.url: must look like "ldaps://ldap.example.org"'
    elif scheme == "ldap" and not settings.start_tls and host not in _HERE:
        yield "directory.url: passwords would go out unencrypted; use ldaps://, or start_tls = true"
    if "{user}" not in settings.filter:
        yield 'directory.filter: must have {user} in it, like "(mail={user})"'
    for word in dict.fromkeys(re.findall(r"\{\w+\}", settings.filter)):
        if word != "{user}":
            yield f"directory.filter: {word} is not filled in, only {{user}} is (for a brace itself write \\7b)"
    if not settings.base:
        yield "directory.base: name the entry below which users are"
