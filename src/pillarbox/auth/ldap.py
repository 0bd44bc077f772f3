"""Passwords in an LDAP directory: find the one entry of a user, then bind as it (RFC 4513 §5.1.3).

What the client said goes into the filter escaped (RFC 4515 §3). An empty password never gets here: servers take a bind
with one as anonymous, and say yes (RFC 4513 §5.1.2). Users that are not found cost a bind, too. No referral is
followed: a password goes to the server that is configured, and nowhere else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pillarbox.auth.address import is_address
from pillarbox.auth.failure import NoAnswer, words_of
from pillarbox.auth.ldap_result import ensure_result
from pillarbox.auth.limited import Limited, connect, trusting
from pillarbox.auth.source import Claimant
from pillarbox.auth.web import shown_url
from pillarbox.config.regular_file import read_secret
from pillarbox.config.schema import DirectorySettings
from pillarbox.core.errors import Refused, Unavailable

TIMEOUT_S = 10.0
"""For a whole question, which takes two connections, from the moment when the login came."""

SEARCH_S = 5
"""What the server is told that a search may take."""

MOST_RECEIVED = 256 * 1024
"""Octets of a connection."""

_SUCCESS, _SIZE_LIMIT_EXCEEDED = 0, 4
_WRONG = (19, 32, 48, 49, 50, 53)
"""Results of a bind that say no to this user (RFC 4511 A.2): constraintViolation (too many tries, say), noSuchObject,
inappropriateAuthentication (no password), invalidCredentials, insufficientAccessRights and unwillingToPerform (a
locked account). Others, like busy or referral, say nothing about the password."""

_START_TLS = "1.3.6.1.4.1.1466.20037"
"""RFC 4511 §4.14.1"""

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
        # It connects to nobody: `_opened` does that. (It knows no zone of an IPv6 address.)
        self._server = ldap3.Server("localhost", get_info=ldap3.NONE)

    def check(self, user: Claimant) -> str | None:
        until = user.came + TIMEOUT_S
        try:
            dn, address = self._find(user.username, until) or (
                f"cn=nobody,{self._settings.base}",
                "",
            )
            is_right = self._bind(dn, user.password.reveal(), until)
        except Unavailable:
            raise
        except (OSError, NoAnswer) as error:
            words = "the directory of users does not answer"
            raise Unavailable(words) from self._no_answer(error)
        except Exception as error:  # octets that make no sense fail in the library in any way
            words = "the directory of users does not answer as it should"
            raise Unavailable(words) from self._no_answer(error)
        if not is_right or not address:
            return None
        if not is_address(address):
            failure = NoAnswer(f"the {self._settings.address_attribute} of an entry is no address")
            words = "the directory of users does not answer as it should"
            raise Unavailable(words) from self._no_answer(failure)
        return address

    def _no_answer(self, error: Exception) -> NoAnswer:
        return NoAnswer(f"{shown_url(self._settings.url)}: {words_of(error)}")

    def _find(self, username: str, until: float) -> tuple[str, Any] | None:
        """(DN, address) of the one entry that fits; None: none, or more. The address is as it came, "" for none."""
        settings = self._settings
        password = ""
        if settings.bind_password_file:
            try:
                password = read_secret(Path(settings.bind_password_file)).strip()
            except OSError as error:
                raise Unavailable("the password for the directory cannot be read") from error
        with self._opened(settings.bind_dn or None, password or None, until) as connection:
            connection.bind(read_server_info=False)
            if _result(connection, "bindResponse") != _SUCCESS:
                who = settings.bind_dn or "(nobody: bind_dn is not set)"
                failure = NoAnswer(f"{who}: {_described(connection)}")
                raise Unavailable("the directory of users does not let us ask") from failure
            connection.search(
                settings.base,
                settings.filter.replace("{user}", escape_filter_chars(username)),
                attributes=[settings.address_attribute],
                size_limit=2,
                time_limit=SEARCH_S,
            )
            result = _result(connection, "searchResDone")
            if result not in (_SUCCESS, _SIZE_LIMIT_EXCEEDED):
                # There is no such base, say: nobody's password is wrong.
                failure = NoAnswer(f"{settings.base}: {_described(connection)}")
                raise Unavailable("the directory of users cannot be searched") from failure
            entries = [each for each in connection.response or () if "attributes" in each]
        if len(entries) != 1 or result == _SIZE_LIMIT_EXCEEDED:
            return None
        dn = entries[0]["dn"]
        values = entries[0]["attributes"].get(settings.address_attribute)
        address = values[0] if isinstance(values, list) and values else values
        # A bind without a name is anonymous, whatever the password (RFC 4513 §5.1.1).
        return (dn, address or "") if dn else None

    def _bind(self, dn: str, password: str, until: float) -> bool:
        with self._opened(dn, password, until) as connection:
            connection.bind(read_server_info=False)
            result = _result(connection, "bindResponse")
            if result not in (_SUCCESS, *_WRONG):
                failure = NoAnswer(f"the bind of a user: {_described(connection)}")
                raise Unavailable("the directory of users verifies no password") from failure
            return result == _SUCCESS

    @contextmanager
    def _opened(self, dn: str | None, password: str | None, until: float) -> Iterator[Any]:
        """A connection, encrypted where that is wanted, not yet bound."""
        settings = self._settings
        parts = urlsplit(settings.url)
        host, is_tls = parts.hostname or "", parts.scheme == "ldaps"
        port = parts.port or (636 if is_tls else 389)
        with Limited(connect(host, port, until), until, MOST_RECEIVED) as limited:
            if is_tls:
                limited.start_tls(trusting(settings.ca_file), host)
            connection = ldap3.Connection(
                self._server,
                user=dn,
                password=password,
                auto_referrals=False,
                auto_range=False,
                read_only=True,
            )
            # What its open() would do, but that the library only knows limits of single waits.
            connection.socket = limited
            connection.strategy._outstanding = {}
            connection.closed, connection.listening = False, True
            connection.strategy.receiving = _strict(connection.strategy.receiving)
            if settings.start_tls:
                if not connection.extended(_START_TLS):
                    failure = NoAnswer(f"StartTLS: {_described(connection)}")
                    raise Unavailable("the directory of users has no TLS") from failure
                limited.start_tls(trusting(settings.ca_file), host)
            yield connection
            connection.unbind()


def _result(connection: Any, kind: str) -> int:
    """The code of the last result. The library takes a result of any kind for the answer to any request."""
    if connection.result["type"] != kind:
        raise NoAnswer("an answer is of the wrong kind")
    return int(connection.result["result"])


def _strict(receiving: Callable[[], list[bytes]]) -> Callable[[], list[bytes]]:
    """What receives messages for the library, which reads 0, success, from a code that is empty or no number."""

    def receive() -> list[bytes]:
        messages = receiving()
        for each in messages:
            ensure_result(each)
        return messages

    return receive


def _described(connection: Any) -> str:
    """The last result, by the word that the RFC has for it; the server's own words may be anything."""
    return str(connection.result["description"])


def _ensure_filter(text: str) -> None:
    """Raises Refused for what the library could not send (RFC 4515 §3)."""
    try:
        parse_filter(text.replace("{user}", "user"), None, True, True, None, False)
    except LDAPException as error:
        raise Refused(
            f'directory.filter: "{text}" is no LDAP filter ({error}): close each bracket, and put each condition in'
            ' brackets of its own, like "(&(objectClass=person)(mail={user}))"'
        ) from error
