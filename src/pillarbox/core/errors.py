"""The three failures that cross package borders. Anything else that is raised is our bug.

Each protocol maps them to its wire in one place (CONVENTIONS, "Results and errors").
"""


class Failure(Exception):
    """Something expected went wrong. `text` is public: plain English, no secrets, no internals.

    `code` is an IMAP response code without brackets (RFC 5530: "NONEXISTENT", "OVERQUOTA", "INUSE", ...)
    or "" where none fits; SMTP and POP3 map it to their own codes. `told` is for the administrator, in the log and on
    the command line: it may name files and causes.
    """

    def __init__(self, text: str, code: str = "", told: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.told = told or text


def told(error: BaseException) -> str:
    """For the administrator, of any error."""
    return error.told if isinstance(error, Failure) else str(error)


class RemoteError(Failure):
    """The peer is wrong: bad syntax, broken protocol."""


class Refused(Failure):
    """We decline, and trying again will not help: no such mailbox, not allowed, too large."""


class Unavailable(Failure):
    """It may work later: full disk, locked or damaged file, too busy."""


class DiskFull(Unavailable):
    """There is no room now; for protocols that have words of their own for it."""

    def __init__(self, told: str = "") -> None:
        super().__init__("the disk is full", "UNAVAILABLE", told)
