"""Object ids of mailboxes, messages and threads (RFC 8474 §4, §5): a letter, the account, the number in it."""

import re

_FORM = re.compile(r"([MT])([0-9a-f]{1,16})-([0-9a-f]{1,16})")


def mailboxid(account: int, mailbox: int) -> bytes:
    """`(1, 2)` -> `b"F1-2"`."""
    return b"F%x-%x" % (account, mailbox)


def mailboxid_code(account: int, mailbox: int) -> bytes:
    """Response code (RFC 8474 §4.1, §4.2)."""
    return b"MAILBOXID (%b)" % mailboxid(account, mailbox)


def emailid(account: int, content: int) -> bytes:
    """Copies share their content, and nothing else does."""
    return b"M%x-%x" % (account, content)


def threadid(account: int, thread: int) -> bytes:
    return b"T%x-%x" % (account, thread)


def number_of(text: str, kind: str, account: int) -> int:
    """The content ("M") or thread ("T") that an id of this account names; 0: none. Case counts (RFC 8474 §7)."""
    match = _FORM.fullmatch(text)
    if match is None or match[1] != kind or int(match[2], 16) != account:
        return 0
    number = int(match[3], 16)
    return number if number < 1 << 63 and text == f"{kind}{account:x}-{number:x}" else 0
