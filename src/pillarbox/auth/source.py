"""Where passwords are verified, if not in the built-in directory: the interface, and the table of what there is.

A class of your own is named in `directory.class` ("package.module:Class") and is made with the settings of [directory]:

    class Office:
        def __init__(self, settings): ...
        def check(self, user: Claimant) -> str | None: ...
"""

import importlib
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from pillarbox.auth.failure import place_of
from pillarbox.auth.web import shown_url
from pillarbox.config.schema import DirectorySettings
from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.store.database import user_name


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
    came: float = field(default_factory=time.monotonic)
    """When the login came, by time.monotonic(): some of the seconds that its client waits may be over."""


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
    """Raises Refused with one line, whatever its `__init__` does."""
    make = _find_class(settings)
    place = f'directory.class: "{settings.python_class}"'
    try:
        source: PasswordSource = make(settings)
        has_check = callable(getattr(source, "check", None))
    except Refused:
        raise
    except (Exception, SystemExit) as error:
        raise Refused(
            f"{place} cannot be made, mend it or the settings of [directory]: {place_of(error)}"
        ) from error
    if not has_check:
        raise Refused(f"{place}: it gives a {type(source).__name__} without a method check(user)")
    return source


def _find_class(settings: DirectorySettings) -> Callable[[DirectorySettings], Any]:
    """Imports it. Raises Refused with one line, whatever its module does."""
    named = settings.python_class
    module_name, _, name = named.partition(":")
    place = f'directory.class: "{named}"'
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        advice = f"install it for {sys.executable}, or name another class"
        if hidden := ", ".join(_hidden_folders()):
            advice = f"or it is in {hidden}, which {user_name(os.geteuid())} may not look into"
        raise Refused(f"{place}: there is no module {missing}; {advice}") from error
    except (Exception, SystemExit) as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise Refused(f"{place} cannot be imported, mend its module: {words}") from error
    found: Any = getattr(module, name, None)
    if not callable(found) or (isinstance(found, type) and not hasattr(found, "check")):
        raise Refused(
            f"{place}: {module_name} has no class {name or '(without a name)'} with a method check(user);"
            ' name one as "package.module:Class"'
        )
    make: Callable[[DirectorySettings], Any] = found
    if not _takes_settings(make):
        raise Refused(f"{place}: it must take one argument, the settings of [directory]")
    return make


def _takes_settings(make: Callable[[DirectorySettings], Any]) -> bool:
    """True where nothing can be said: of what is written in C."""
    try:
        signature = inspect.signature(make)
    except (ValueError, TypeError):
        return True
    try:
        signature.bind(DirectorySettings())
    except TypeError:
        return False
    return True


def _hidden_folders() -> Iterator[str]:
    """Where Python looks for modules, and we may not."""
    for folder in sys.path:
        try:
            os.listdir(folder or ".")
        except PermissionError:
            yield folder or "the working folder"
        except OSError:  # many of them are not there, or are no folders
            continue


SOURCES: dict[str, Callable[[DirectorySettings], PasswordSource] | None] = {
    "built-in": None,
    "ldap": _ldap,
    "http": _http,
    "python": _own_class,
}


def verifier_shown(settings: DirectorySettings) -> str:
    """Who verifies passwords instead of us, for the administrator; "": nobody does."""
    match settings.kind:
        case "ldap":
            return f"the LDAP server {shown_url(settings.url)}"
        case "http":
            return f"the web service {shown_url(settings.url)}"
        case "python":
            return f"the class {settings.python_class}"
        case "built-in":
            return ""


def ensure_usable(settings: DirectorySettings) -> None:
    """Whether `make_source` could make it, as far as that can be said without asking anybody: a class of one's own is
    imported, but not made. Raises Refused with one line that says what to do."""
    if settings.kind == "python":
        _find_class(settings)
    else:
        make_source(settings)


def make_source(settings: DirectorySettings) -> PasswordSource | None:
    """None: the built-in directory. Raises Refused."""
    make = SOURCES[settings.kind]
    return None if make is None else make(settings)
