"""Where passwords are verified, if not in the built-in directory: the interface, and the table of what there is.

A class of your own is named in `directory.class` ("package.module:Class") and is made with the settings of [directory]:

    class Office:
        def __init__(self, settings): ...
        def check(self, user: Claimant) -> str | None: ...
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pillarbox.config.schema import DirectorySettings
from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret


@dataclass(slots=True, frozen=True)
class Claimant:
    """Who wants to log in."""

    username: str
    """As the client said it."""
    password: Secret
    """Never empty, without NUL, at most 1024 characters."""
    client: str
    """IP address."""
    protocol: str
    """smtp, imap or pop3."""


class PasswordSource(Protocol):
    """Verifies passwords."""

    def check(self, user: Claimant) -> str | None:
        """The address of the account whose password it is, else None. It should take as long for users that do not
        exist. Called in a thread, of which there are several: may block, for seconds at most. Raises Unavailable."""


def _ldap(settings: DirectorySettings) -> PasswordSource:
    from pillarbox.auth.ldap import LdapSource

    return LdapSource(settings)


def _http(settings: DirectorySettings) -> PasswordSource:
    from pillarbox.auth.http import HttpSource

    return HttpSource(settings)


def _own_class(settings: DirectorySettings) -> PasswordSource:
    module, _, name = settings.python_class.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise Refused(f'directory.class: "{settings.python_class}": {error}') from error
    source: PasswordSource = found(settings)
    return source


SOURCES: dict[str, Callable[[DirectorySettings], PasswordSource] | None] = {
    "built-in": None,
    "ldap": _ldap,
    "http": _http,
    "python": _own_class,
}


def make_source(settings: DirectorySettings) -> PasswordSource | None:
    """None: the built-in directory. Raises Refused."""
    make = SOURCES[settings.kind]
    return None if make is None else make(settings)
