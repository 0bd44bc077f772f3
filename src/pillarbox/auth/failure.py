"""What is told of others who do not answer, to the log and by `doctor`: never what they said, for that may be a user's
password that they repeat."""

import traceback

from pillarbox.core.errors import Unavailable

MOST_OF_AN_ERROR = 300
"""Characters that the log gets."""

_OF_THE_SYSTEM = ("builtins", "socket", "ssl")
"""Modules whose OSErrors have words of the system or of OpenSSL; those of a library may have words of its peer."""


class NoAnswer(Exception):
    """Whom we asked, and what is wrong, in words of ours."""


def words_of(error: BaseException) -> str:
    """An error for the log: only what kind it is where its words may be those of a peer, or be about a value that is
    secret, a token that cannot be a header field, say."""
    is_of_system = isinstance(error, OSError) and type(error).__module__ in _OF_THE_SYSTEM
    if isinstance(error, NoAnswer) or is_of_system:
        return ascii(str(error))[1:-1][:MOST_OF_AN_ERROR]
    return type(error).__name__


def place_of(error: BaseException) -> str:
    """Where an error was raised, for one whose own words may be those of a peer."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {last.filename}, line {last.lineno}"


def with_cause(error: Unavailable) -> str:
    """What failed and why, for the log."""
    cause = error.__cause__
    return error.text if cause is None else f"{error.text} ({words_of(cause)})"
