"""How much an account may keep (RFC 9208), and how much it keeps: two counters that every change keeps right, so
nothing is ever counted anew."""

from dataclasses import dataclass
from pathlib import Path

import apsw

from pillarbox.core.errors import Refused
from pillarbox.store import database, made
from pillarbox.store.directory_file import DirectoryFile
from pillarbox.store.tx import Tx

WARNINGS = (80, 95)
"""Per cent of a limit at which an account is warned."""


@dataclass(slots=True, frozen=True)
class Quota:
    """Limits of one account; None: there is none."""

    octets: int | None = None
    messages: int | None = None

    @property
    def is_limited(self) -> bool:
        return self.octets is not None or self.messages is not None

    def is_exceeded(self, usage: "Usage") -> bool:
        return (self.octets is not None and usage.octets > self.octets) or (
            self.messages is not None and usage.messages > self.messages
        )

    def warning(self, usage: "Usage") -> int:
        """The highest of WARNINGS that is reached, 0 for none."""
        reached = 0
        for limit, used in ((self.octets, usage.octets), (self.messages, usage.messages)):
            if limit is not None:
                shares = [share for share in WARNINGS if used * 100 >= limit * share]
                reached = max(reached, *shares, 0)
        return reached


NO_QUOTA = Quota()


class Quotas:
    """The limits of all accounts and domains, in the directory."""

    __slots__ = ("_file", "_known", "_version")

    def __init__(self, file: DirectoryFile) -> None:
        self._file = file
        self._known: dict[int, Quota] | None = {}
        """Of the accounts that were asked for; None: there are no quotas at all."""
        self._version = (-1, -1)

    def exist(self) -> bool:
        """Whether anybody has one. Remembered, like all about quotas, until the directory changes."""
        version = self._file.version()
        if version != self._version:
            self._version = version
            row = self._file.row(
                "SELECT 1 FROM account WHERE quota_octets > 0 OR quota_messages > 0"
                " UNION SELECT 1 FROM domain_quota LIMIT 1"
            )
            self._known = {} if row else None
        return self._known is not None

    def of(self, account: int) -> Quota:
        """What an account may keep: limits of its own, else those of its domain."""
        if not self.exist() or self._known is None:
            return NO_QUOTA
        known = self._known.get(account)
        if known is None:
            row = self._file.row(
                "SELECT address, quota_octets, quota_messages FROM account WHERE account = ?",
                account,
            )
            if row is None:
                return NO_QUOTA
            address, own_octets, own_messages = row
            octets, messages = self.of_domain(address.rpartition("@")[2])
            known = self._known[account] = Quota(
                (octets if own_octets is None else own_octets) or None,
                (messages if own_messages is None else own_messages) or None,
            )
        return known

    def set(self, account: int, octets: int | None, messages: int | None) -> None:
        """0: no limit; None: as the domain has it."""
        self._file.write(
            "UPDATE account SET quota_octets = ?, quota_messages = ? WHERE account = ?",
            octets,
            messages,
            account,
        )

    def of_domain(self, domain: str) -> tuple[int, int]:
        """(octets, messages) for the accounts of a canonical domain; 0: no limit."""
        row = self._file.row("SELECT octets, messages FROM domain_quota WHERE domain = ?", domain)
        return (row[0], row[1]) if row else (0, 0)

    def set_domain(self, domain: str, octets: int, messages: int) -> None:
        if octets or messages:
            self._file.write(
                "INSERT OR REPLACE INTO domain_quota VALUES (?, ?, ?)", domain, octets, messages
            )
        else:
            self._file.write("DELETE FROM domain_quota WHERE domain = ?", domain)


@dataclass(slots=True, frozen=True)
class Usage:
    """What an account keeps in all its mailboxes; copies count each time."""

    octets: int
    messages: int


def usage(tx: Tx) -> Usage:
    row = tx.row("SELECT octets, messages FROM account_state WHERE account = ?", (tx.account,))
    return Usage(*row) if row else Usage(0, 0)


def ensure_within(tx: Tx, quota: Quota, *, more: Usage | None = None) -> None:
    """Raises Refused OVERQUOTA where the account keeps too much, after what the transaction did so far and with `more`
    to come (RFC 9208 §4.3.1)."""
    if not quota.is_limited:
        return
    used = usage(tx)
    if more is not None:
        used = Usage(used.octets + more.octets, used.messages + more.messages)
    if quota.is_exceeded(used):
        raise Refused("there is no room left in this account", "OVERQUOTA")


def take_warning(tx: Tx, quota: Quota) -> int:
    """The share of its quota of which the account is to be told now, 0 for none; it is told of each once, until it kept
    less in between."""
    reached = quota.warning(usage(tx))
    row = tx.row("SELECT percent FROM quota_told WHERE account = ?", (tx.account,))
    told = row[0] if row else 0
    if reached != told:
        tx.execute("INSERT OR REPLACE INTO quota_told VALUES (?, ?)", (tx.account, reached))
    return reached if reached > told else 0


def told_warning(tx: Tx) -> int:
    """What the account was told last; it may keep less by now."""
    row = tx.row("SELECT percent FROM quota_told WHERE account = ?", (tx.account,))
    return int(row[0]) if row else 0


def read_usage(path: Path) -> Usage:
    """Of an account's file, from another process; nothing where there is none yet. Raises Unavailable. Blocks."""
    made.ensure_not_missing(path)
    if not path.exists():
        return Usage(0, 0)
    connection = database.connect(path)
    try:
        row = connection.execute("SELECT octets, messages FROM account_state").fetchone()
    except apsw.Error as error:
        raise database.unavailable(error, path) from error
    finally:
        connection.close()
    return Usage(*row) if row else Usage(0, 0)
