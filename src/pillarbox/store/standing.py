"""How mailboxes stand, for those who compare it with how they stood before (RFC 5465).

Whoever compares does so by the number of a mailbox: a name may be given away. Number 0 is the account itself, which
has annotations only. Reads are slices of a few milliseconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from pillarbox.store import acl, metadata
from pillarbox.store.mailboxes import SEPARATOR, Name, split_name
from pillarbox.store.tx import Tx

MAILBOXES_A_SLICE = 500

NO_ENTRIES: Mapping[str, int] = MappingProxyType({})


class Standing(NamedTuple):
    """`rights` are those of whoever looks. `entries` has a fingerprint of the value of each annotation, good within
    this process."""

    name: Name
    uidvalidity: int
    uidnext: int
    messages: int
    unseen: int
    modseq: int
    special_use: str
    rights: str
    entries: Mapping[str, int]


@dataclass(slots=True, frozen=True)
class Eyes:
    """Who looks: another account, or None for the owner; and whether at annotations, too."""

    grantee: int | None = None
    sees_entries: bool = False


_COLUMNS = "mailbox, name, uidvalidity, uidnext, messages, unseen, modseq, special_use"

ACCOUNT = Standing((), 0, 0, 0, 0, 0, "", acl.RIGHTS, NO_ENTRIES)


def version(tx: Tx) -> int:
    """What is higher whenever anything here stands otherwise."""
    row = tx.row("SELECT modseq FROM account_state WHERE account = ?", (tx.account,))
    return int(row[0]) if row else 0


def of(tx: Tx, numbers: Iterable[int], eyes: Eyes) -> dict[int, Standing]:
    """These mailboxes, at most MAILBOXES_A_SLICE, without those that are not there."""
    wanted = list(numbers)
    marks = ",".join("?" * len(wanted))
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM mailbox WHERE account = ? AND mailbox IN ({marks})",
        (tx.account, *wanted),
    )
    found = _standings(tx, rows, eyes)
    if metadata.ACCOUNT in wanted and eyes.grantee is None and eyes.sees_entries:
        found[metadata.ACCOUNT] = ACCOUNT._replace(entries=_entries(tx, metadata.ACCOUNT, eyes))
    return found


def slice_of(tx: Tx, after: int, eyes: Eyes) -> dict[int, Standing]:
    """The mailboxes with numbers above `after`, ascending: MAILBOXES_A_SLICE, fewer only where there are no more."""
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM mailbox WHERE account = ? AND mailbox > ? ORDER BY mailbox LIMIT ?",
        (tx.account, after, MAILBOXES_A_SLICE),
    )
    return _standings(tx, rows, eyes)


def at_or_below(tx: Tx, name: Name) -> list[int]:
    """The numbers of a mailbox and of all below it."""
    joined = SEPARATOR.join(name)
    rows = tx.rows(
        "SELECT mailbox FROM mailbox WHERE account = ? AND (name = ? OR name > ? AND name < ?)",
        (tx.account, joined, joined + SEPARATOR, joined + chr(ord(SEPARATOR) + 1)),
    )
    return [row[0] for row in rows]


def _standings(
    tx: Tx, rows: list[tuple[int, str, int, int, int, int, int, str]], eyes: Eyes
) -> dict[int, Standing]:
    found = {}
    for number, name, uidvalidity, uidnext, messages, unseen, modseq, special_use in rows:
        rights = acl.RIGHTS
        if eyes.grantee is not None:
            rights = acl.rights_of(tx, number, eyes.grantee)
            special_use = ""  # the owner's
        found[number] = Standing(
            split_name(name),
            uidvalidity,
            uidnext,
            messages,
            unseen,
            modseq,
            special_use,
            rights,
            _entries(tx, number, eyes),
        )
    return found


def _entries(tx: Tx, number: int, eyes: Eyes) -> Mapping[str, int]:
    """Others do not see what is private to the owner."""
    if not eyes.sees_entries:
        return NO_ENTRIES
    scopes = ("/shared",) if eyes.grantee is not None else ("/private", "/shared")
    found = {
        entry: hash(value)
        for scope in scopes
        for entry, value in metadata.get(tx, number, scope, -1)
    }
    return found or NO_ENTRIES
