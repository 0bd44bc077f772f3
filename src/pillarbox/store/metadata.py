"""Annotations of mailboxes and of the account itself (RFC 5464). Durable by `store.write`.

An entry is a name like "/private/comment", in lower case. They go with their mailbox: a rename keeps them, `delete`
removes them, and those of INBOX stay with it and are copied to where its mail goes (§4.1).
"""

from collections.abc import Sequence

from pillarbox.core.errors import Refused
from pillarbox.store.tx import Tx

ACCOUNT = 0
"""In place of a mailbox: the account itself."""

LARGEST_VALUE = 65_536
MOST_ENTRIES = 100
"""Of one mailbox, or of the account itself (RFC 5464 §4.1 asks for ten)."""
LARGEST_TOTAL = 10 << 20
"""Octets of all values of an account."""


def get(tx: Tx, mailbox: int, entry: str, depth: int = 0) -> list[tuple[str, bytes]]:
    """An entry and those up to `depth` levels below it (-1: all), by name."""
    base = (tx.account, mailbox)
    found = tx.rows(
        "SELECT entry, value FROM metadata WHERE account = ? AND mailbox = ? AND entry = ?",
        (*base, entry),
    )
    if depth:
        # "0" comes right after "/"
        below = tx.rows(
            "SELECT entry, value FROM metadata WHERE account = ? AND mailbox = ? AND entry > ? AND entry < ?"
            " ORDER BY entry",
            (*base, entry + "/", entry + "0"),
        )
        level = entry.count("/") + depth
        found += [row for row in below if depth < 0 or row[0].count("/") <= level]
    return [(name, value) for name, value in found]


def set_all(tx: Tx, mailbox: int, values: Sequence[tuple[str, bytes | None]]) -> None:
    """Set entries, or remove them with None. Raises Refused with a METADATA code (RFC 5464 §4.3): then nothing is."""
    for entry, value in values:
        if value is None:
            tx.execute(
                "DELETE FROM metadata WHERE account = ? AND mailbox = ? AND entry = ?",
                (tx.account, mailbox, entry),
            )
            continue
        if len(value) > LARGEST_VALUE:
            raise Refused("the value is too large", f"METADATA MAXSIZE {LARGEST_VALUE}")
        tx.execute(
            "INSERT OR REPLACE INTO metadata VALUES (?, ?, ?, ?)",
            (tx.account, mailbox, entry, value),
        )
    row = tx.row(
        "SELECT count(*) FROM metadata WHERE account = ? AND mailbox = ?", (tx.account, mailbox)
    )
    total = tx.row("SELECT total(length(value)) FROM metadata WHERE account = ?", (tx.account,))
    if (row and row[0] > MOST_ENTRIES) or (total and total[0] > LARGEST_TOTAL):
        raise Refused("there are too many annotations", "METADATA TOOMANY")


def copy_all(tx: Tx, mailbox: int, target: int) -> None:
    """Give a mailbox the annotations of another."""
    tx.execute(
        "INSERT OR REPLACE INTO metadata SELECT account, ?, entry, value FROM metadata"
        " WHERE account = ? AND mailbox = ?",
        (target, tx.account, mailbox),
    )


def delete_all(tx: Tx, mailbox: int) -> None:
    """The mailbox goes."""
    tx.execute("DELETE FROM metadata WHERE account = ? AND mailbox = ?", (tx.account, mailbox))
