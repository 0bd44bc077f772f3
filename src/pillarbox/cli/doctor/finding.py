"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """From good to bad."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(slots=True, frozen=True)
class Finding:
    """One thing that was looked at. A run has one finding at most for a check and its subject."""

    check: str
    """Like "mx"."""
    subject: str
    """What was looked at, like a domain or a listener."""
    level: Level
    found: str
    advice: str = ""
    """What to do, in one line; '' where all is well."""


def ok(check: str, subject: str, found: str) -> Finding:
    return Finding(check, subject, Level.OK, found)


def warning(check: str, subject: str, found: str, advice: str) -> Finding:
    return Finding(check, subject, Level.WARNING, found, advice)


def error(check: str, subject: str, found: str, advice: str) -> Finding:
    return Finding(check, subject, Level.ERROR, found, advice)
