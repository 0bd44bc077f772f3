"""Passwords in an LDAP directory: find the one entry of a user, then bind as it (RFC 4513 §5.1.3).

What the client said goes into the filter escaped (RFC 4515 §3). An empty password never gets here: servers take a bind
with one as anonymous, and say yes (RFC 4513 §5.1.2). Users that are not found cost a bind, too.
"""

import ssl
from pathlib import Path
from typing import Any

from pillarbox.auth.source import Claimant
from pillarbox.config.schema import DirectorySettings
from pillarbox.core.errors import Refused, Unavailable

TIMEOUT_S = 5

_SEARCHED = (0, 4)
"""Results of a search that was made: success, sizeLimitExceeded."""

try:
    import ldap3
    from ldap3.core.exceptions import LDAPException
    from ldap3.operation.search import parse_filter
    from ldap3.utils.conv import escape_filter_chars
except ImportError:
    ldap3 = None


class LdapSource:
    """One connection for each question."""

    def __init__(self, settings: DirectorySettings) -> None:
        """Asks nobody. Raises Refused without the library, and for what is no filter."""
        if ldap3 is None:
            raise Refused(
                'directory.kind = "ldap" needs a library: pip install ldap3, or ".[ldap]" in the checkout'
            )
        _ensure_filter(settings.filter)
        self._settings = settings
        tls = None
        if settings.url.startswith("ldaps:") or settings.start_tls:
            tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=settings.ca_file or None)
        self._server = ldap3.Server(
            settings.url, tls=tls, connect_timeout=TIMEOUT_S, get_info=ldap3.NONE
        )

    def check(self, user: Claimant) -> str | None:
        try:
            return self._check(user)
        except (LDAPException, OSError) as error:
            raise Unavailable("the directory of users does not answer") from error

    def _check(self, user: Claimant) -> str | None:
        settings = self._settings
        found = self._find(user.username)
        dn, address = found or (f"cn=nobody,{settings.base}", "")
        is_right = self._bind(dn, user.password.reveal())
        return address if is_right and address else None

    def _find(self, username: str) -> tuple[str, str] | None:
        """(DN, address) of the one entry that fits; None: none, or more."""
        settings = self._settings
        password = ""
        if settings.bind_password_file:
            try:
                password = Path(settings.bind_password_file).read_text("utf-8").strip()
            except (OSError, ValueError) as error:
                raise Unavailable("the password for the directory cannot be read") from error
        connection = self._connection(settings.bind_dn or None, password or None)
        try:
            if not connection.bind():
                who = settings.bind_dn or "(nobody: bind_dn is not set)"
                why = (connection.result or {}).get("description", "no reason")
                failure = LDAPException(f"{who}: {why}")
                raise Unavailable("the directory of users does not let us ask") from failure
            wanted = settings.filter.replace("{user}", escape_filter_chars(username))
            connection.search(
                settings.base,
                wanted,
                attributes=[settings.address_attribute],
                size_limit=2,
                time_limit=TIMEOUT_S,
            )
            result = connection.result or {}
            if (
                result.get("result") not in _SEARCHED
            ):  # there is no such base, say: nobody's password is wrong
                failure = LDAPException(
                    f"{settings.base}: {result.get('description', 'no reason')}"
                )
                raise Unavailable("the directory of users cannot be searched") from failure
            entries = [each for each in connection.response or () if "attributes" in each]
        finally:
            connection.unbind()
        if len(entries) != 1:
            return None
        values = entries[0]["attributes"].get(settings.address_attribute)
        address = values[0] if isinstance(values, list) and values else values
        return (entries[0]["dn"], address) if isinstance(address, str) else None

    def _bind(self, dn: str, password: str) -> bool:
        connection = self._connection(dn, password)
        try:
            return bool(connection.bind())
        finally:
            connection.unbind()

    def _connection(self, dn: str | None, password: str | None) -> Any:
        """Encrypted where that is wanted, not yet bound."""
        connection = ldap3.Connection(
            self._server,
            user=dn,
            password=password,
            auto_bind=ldap3.AUTO_BIND_NONE,
            receive_timeout=TIMEOUT_S,
            read_only=True,
        )
        if self._settings.start_tls:
            connection.open()
            if not connection.start_tls():
                raise Unavailable("the directory of users has no TLS")
        return connection


def _ensure_filter(text: str) -> None:
    """Raises Refused for what the library could not send (RFC 4515 §3)."""
    try:
        parse_filter(text.replace("{user}", "user"), None, True, True, None, False)
    except LDAPException as error:
        raise Refused(
            f'directory.filter: "{text}" is no LDAP filter ({error}): close each bracket, and put each condition in'
            ' brackets of its own, like "(&(objectClass=person)(mail={user}))"'
        ) from error
