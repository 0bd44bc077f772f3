"""What another client of an account sees, while a mail program is at work on it."""

import imaplib
import time
from collections.abc import Callable
from typing import Any

WAIT_S = 60.0


def flags_of(
    client: imaplib.IMAP4,
    mailbox: str,
    *,
    which: str = "UNDELETED",
    but: frozenset[str] = frozenset(),
) -> dict[str, list[str]]:
    """The flags, sorted, of each message that SEARCH finds, without \\Recent and those of `but`, by the last word of
    its subject."""
    status, _ = client.select(mailbox, readonly=True)
    assert status == "OK", mailbox
    numbers = client.search(None, which)[1][0].split()
    if not numbers:
        return {}
    _, rows = client.fetch(b",".join(numbers), "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    found = {}
    for row in rows:
        if isinstance(row, tuple):  # one that went away since the search has none
            told, subject = row
            flags = {flag.decode() for flag in imaplib.ParseFlags(told)} - {"\\Recent"} - but
            found[subject.split()[-1].decode()] = sorted(flags)
    return found


def wait_for(wanted: Any, look: Callable[[], Any]) -> None:
    """Until `look` gives what is wanted: programs work their changes off behind their own picture of a folder."""
    deadline = time.monotonic() + WAIT_S
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, (seen, wanted)
        time.sleep(0.2)
