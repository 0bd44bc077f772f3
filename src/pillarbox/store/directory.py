"""Who lives here (`directory.db`): domains, accounts, aliases, what accounts may send as and what they share.

Credentials, bans, quotas and DKIM keys, which are in the same file, have modules of their own. Read afresh, so a change
made by another process counts at once; only the names of domains and the accounts of recipients are remembered, for
LOOK_EVERY_S. Addresses are kept canonical: lower case (local parts are case-insensitive here, as nearly everywhere),
domains in A-labels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from pillarbox.core.address import canonical_domain, canonical_host, canonical_local, is_dot_string
from pillarbox.core.errors import Refused
from pillarbox.store import database
from pillarbox.store.bans import Bans
from pillarbox.store.credentials import Credentials
from pillarbox.store.directory_file import DirectoryFile
from pillarbox.store.dkim_keys import DkimKeys
from pillarbox.store.place import RESTORING
from pillarbox.store.quota import Quotas

MOST_REMEMBERED = 10_000
"""Recipients."""


@dataclass(slots=True)
class Account:
    """One account, without its credentials."""

    id: int
    address: str
    enabled: bool
    referral: str
    quota_octets: int | None
    quota_messages: int | None
    version: int
    created: int


_ACCOUNT = "account, address, enabled, referral, quota_octets, quota_messages, version, created"
_LOCAL = "substr(address, 1, instr(address, '@') - 1)"
"""The part before the @, of which there is an index (directory-0007)."""


def canonical_address(address: str) -> str:
    """Lower case with the domain in A-labels: "Bob@Exämple.org" -> "bob@xn--exmple-cua.org".

    Raises Refused with what is wrong.
    """
    local, at, domain = address.strip().rpartition("@")
    if (
        not at
        or not local
        or not _is_text(local)
        or any(char <= " " or char == "\x7f" for char in local)
    ):
        raise Refused(f'"{address}" is not a mail address; it must look like name@example.org')
    if len(local.encode()) > 64:
        raise Refused(f'the part of "{address}" before the @ is longer than 64 octets')
    try:
        return f"{canonical_local(local)}@{canonical_domain(domain)}"
    except ValueError as error:
        raise Refused(f'"{domain}" is not a domain name') from error


def _is_text(name: str) -> bool:
    """Whether a name can be written: octets of a command line that are no UTF-8, and JSON, bring lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def ensure_not_lost(path: Path) -> None:
    """Raises Refused where the file is gone and was there, or is not yet restored."""
    is_lost = not path.exists() or database.is_empty(path)
    if is_lost and (path.parent / RESTORING).exists():
        raise Refused(
            f"a backup was being restored into {path.parent}, and that was interrupted: repeat it,"
            " with pillarbox restore"
        )
    if is_lost and any(path.parent.glob("accounts/*/*.db")):
        raise Refused(
            f"{path} is missing or empty, though there are accounts in {path.parent / 'accounts'}:"
            f" put that of a backup there (cp -p BACKUP/data/{path.name} {path}), or move {path.parent} away to begin"
            " anew"
        )


def _own_domain(domain: str) -> str:
    """The canonical form of a domain that can be ours. Raises Refused."""
    try:
        return canonical_host(domain)
    except ValueError as error:
        raise Refused(f'"{domain}" is not a domain name') from error


class Directory:
    """The built-in directory."""

    def __init__(self, path: Path, *, clock: Callable[[], float], vfs: str | None = None) -> None:
        """Raises Refused where the directory was lost, or not yet restored: a new one would give the mail of its
        accounts to others. Raises Unavailable."""
        ensure_not_lost(path)
        if database.is_empty(path):
            path.unlink()  # nothing was in it
        self.file = DirectoryFile(path, clock=clock, vfs=vfs)
        self.credentials = Credentials(self.file)
        self.bans = Bans(self.file)
        self.quotas = Quotas(self.file)
        self.dkim_keys = DkimKeys(self.file)
        self._local_domains: frozenset[str] = frozenset()
        self._domains_version = (-1, -1)
        """Of the directory when the domains were read."""
        self._recipients: dict[str, int] = {}
        self._recipients_version = (-1, -1)

    def close(self) -> None:
        self.file.close()

    # Domains

    def domains(self) -> list[str]:
        """All, sorted."""
        return [row[0] for row in self.file.rows("SELECT domain FROM domain ORDER BY domain")]

    def is_local(self, domain: str) -> bool:
        """Whether we are the final destination for a canonical domain. Asked for each recipient, so domains are
        remembered; other processes' changes are seen after LOOK_EVERY_S."""
        version = self.file.version()
        if version != self._domains_version:
            self._local_domains = frozenset(self.domains())
            self._domains_version = version
        return domain in self._local_domains

    def has_domains(self) -> bool:
        """Whether we are the final destination for anything; remembered likewise."""
        self.is_local("")
        return bool(self._local_domains)

    def add_domain(self, domain: str) -> str:
        """Returns the canonical form. Raises Refused."""
        domain = _own_domain(domain)
        if self.is_local(domain):
            raise Refused(f"the domain {domain} exists already")
        self.file.write("INSERT INTO domain VALUES (?, ?)", domain, self.file.now_s())
        return domain

    def remove_domain(self, domain: str) -> None:
        """Only without accounts; its aliases and DKIM keys go with it. Raises Refused."""
        domain = self.known_domain(domain)
        if self.file.row("SELECT 1 FROM account WHERE address LIKE ? ESCAPE '!'", _at(domain)):
            raise Refused(f"the domain {domain} still has accounts; remove them first")
        with self.file.transaction():
            self.file.write("DELETE FROM alias WHERE alias LIKE ? ESCAPE '!'", _at(domain))
            self.file.write("DELETE FROM dkim_key WHERE domain = ?", domain)
            self.file.write("DELETE FROM domain_quota WHERE domain = ?", domain)
            self.file.write("DELETE FROM domain WHERE domain = ?", domain)

    def known_domain(self, domain: str) -> str:
        """The canonical form of one of our domains, as a person typed it. Raises Refused."""
        domain = _own_domain(domain)
        if not self.is_local(domain):
            raise Refused(f"there is no domain {domain}")
        return domain

    def _ensure_can_get_mail(self, address: str) -> None:
        """Whether mail can be addressed to a canonical address without quotes, at a domain of ours.

        Raises Refused.
        """
        local, _, domain = address.rpartition("@")
        if not is_dot_string(local):
            raise Refused(
                f'"{local}" cannot stand before the @: use letters, digits and . _ - + \' & ='
            )
        if not self.is_local(domain):
            raise Refused(
                f"there is no domain {domain}; add it with: pillarbox domain add {domain}"
            )

    # Accounts

    def accounts(self, domain: str | None = None) -> list[Account]:
        """All, or those of a canonical domain, sorted by address."""
        if domain is None:
            rows = self.file.rows(f"SELECT {_ACCOUNT} FROM account ORDER BY address")
        else:
            rows = self.file.rows(
                f"SELECT {_ACCOUNT} FROM account WHERE address LIKE ? ESCAPE '!' ORDER BY address",
                _at(domain),
            )
        return [_account(row) for row in rows]

    def account(self, address: str) -> Account | None:
        """By canonical address."""
        row = self.file.row(f"SELECT {_ACCOUNT} FROM account WHERE address = ?", address)
        return _account(row) if row else None

    def recipient(self, address: str) -> int | None:
        """The account with a canonical address. Asked for each recipient, so those that there are are remembered like
        domains; a new one counts at once."""
        version = self.file.version()
        if version != self._recipients_version or len(self._recipients) > MOST_REMEMBERED:
            self._recipients.clear()
            self._recipients_version = version
        number = self._recipients.get(address)
        if number is None:
            row = self.file.row("SELECT account FROM account WHERE address = ?", address)
            if row is None:
                return None
            number = self._recipients[address] = int(row[0])
        return number

    def has_account(self, account: int) -> bool:
        return self.account_by_id(account) is not None

    def account_by_id(self, number: int) -> Account | None:
        row = self.file.row(f"SELECT {_ACCOUNT} FROM account WHERE account = ?", number)
        return _account(row) if row else None

    def known_account(self, address: str) -> Account:
        """By address as a person typed it. Raises Refused."""
        canonical = canonical_address(address)
        account = self.account(canonical)
        if account is None:
            raise Refused(f"there is no account {canonical}")
        return account

    def account_for_login(self, name: str) -> Account | None:
        """By address, or by the part before the @ where only one account has it."""
        found = self.accounts_for_login(name)
        return found[0] if len(found) == 1 else None

    def accounts_for_login(self, name: str) -> list[Account]:
        """Those that a name could stand for, two at most."""
        if "@" in name:
            try:
                account = self.account(canonical_address(name))
            except Refused:
                return []
            return [account] if account is not None else []
        if not _is_text(name):
            return []
        rows = self.file.rows(
            f"SELECT {_ACCOUNT} FROM account WHERE {_LOCAL} = ? LIMIT 2", canonical_local(name)
        )
        return [_account(row) for row in rows]

    def ensure_new_account(self, address: str) -> str:
        """The canonical form of an address that an account can be made for.

        Raises Refused: not an address, none that mail can reach, no such domain, exists (as an account or an alias).
        """
        canonical = canonical_address(address)
        self._ensure_can_get_mail(canonical)
        if self.account(canonical):
            raise Refused(f"the account {canonical} exists already")
        if self.alias_targets(canonical):
            raise Refused(f"{canonical} is an alias; remove that first")
        return canonical

    def add_account(self, address: str, password_hash: str, scram_sha256: str) -> Account:
        """Raises Refused as `ensure_new_account` does."""
        canonical = self.ensure_new_account(address)
        self.file.write(
            "INSERT INTO account (address, password_hash, scram_sha256, enabled, referral, version, created)"
            " VALUES (?, ?, ?, 1, '', 1, ?)",
            canonical,
            password_hash,
            scram_sha256,
            self.file.now_s(),
        )
        account = self.account(canonical)
        assert account is not None
        return account

    def set_enabled(self, account: int, *, enabled: bool) -> None:
        """A disabled account gets mail but cannot log in; all proofs of login become void."""
        self.file.write(
            "UPDATE account SET enabled = ?, version = version + 1 WHERE account = ?",
            enabled,
            account,
        )

    def remove_account(self, account: int) -> None:
        """Its mail is the caller's to remove; aliases that point to it stay and are told by `config check`."""
        with self.file.transaction():
            for table in ("app_password", "identity", "sending_limit", "supporter"):
                self.file.write(f"DELETE FROM {table} WHERE account = ?", account)
            self.file.write("DELETE FROM share WHERE ? IN (owner, grantee)", account)
            self.file.write("DELETE FROM account WHERE account = ?", account)

    # Aliases

    def aliases(self) -> list[tuple[str, str]]:
        """(alias, target) pairs, sorted."""
        return [
            (row[0], row[1])
            for row in self.file.rows("SELECT alias, target FROM alias ORDER BY alias, target")
        ]

    def alias_targets(self, alias: str) -> list[str]:
        """Targets of a canonical address or "@domain", sorted."""
        return [
            row[0]
            for row in self.file.rows(
                "SELECT target FROM alias WHERE alias = ? ORDER BY target", alias
            )
        ]

    def add_alias(self, alias: str, target: str) -> tuple[str, str]:
        """`alias` is an address or "@domain" (catch-all). Returns both canonical. Raises Refused."""
        alias, target = self.canonical_alias(alias), canonical_address(target)
        self._ensure_can_get_mail("any" + alias if alias.startswith("@") else alias)
        if self.account(alias):
            raise Refused(
                f"{alias} is an account, which keeps its mail; an alias needs another address"
            )
        if alias == target:
            raise Refused("an alias cannot point to itself")
        if target in self.alias_targets(alias):
            raise Refused(f"{alias} points to {target} already")
        self.file.write("INSERT INTO alias VALUES (?, ?, ?)", alias, target, self.file.now_s())
        return alias, target

    def remove_alias(self, alias: str, target: str | None = None) -> None:
        """One target of an alias, or all. Raises Refused."""
        alias = self.canonical_alias(alias)
        targets = self.alias_targets(alias)
        if not targets:
            raise Refused(f"there is no alias {alias}")
        if target is None:
            self.file.write("DELETE FROM alias WHERE alias = ?", alias)
            return
        target = canonical_address(target)
        if target not in targets:
            raise Refused(f"the alias {alias} does not point to {target}")
        self.file.write("DELETE FROM alias WHERE alias = ? AND target = ?", alias, target)

    @staticmethod
    def canonical_alias(alias: str) -> str:
        """An address, or "@domain". Raises Refused."""
        if alias.startswith("@"):
            return canonical_address("x" + alias)[1:]
        return canonical_address(alias)

    # Sending

    def identities(self, account: int | None = None) -> list[tuple[str, str]]:
        """(address of the account, sender) pairs of all accounts or of one, sorted."""
        rows = self.file.rows(
            "SELECT address, sender FROM identity JOIN account USING (account)"
            " WHERE ? IS NULL OR account = ? ORDER BY address, sender",
            account,
            account,
        )
        return [(row[0], row[1]) for row in rows]

    def has_identity(self, account: int, address: str) -> bool:
        """Whether an account was given a canonical address, or all of its domain, to send as."""
        domain = address[address.rindex("@") :]
        sql = "SELECT 1 FROM identity WHERE account = ? AND sender IN (?, ?)"
        return self.file.row(sql, account, address, domain) is not None

    def add_identity(self, account: str, sender: str) -> tuple[str, str]:
        """`sender` is an address or "@domain". Returns both canonical. Raises Refused."""
        known, sender = self.known_account(account), self.canonical_alias(sender)
        if (known.address, sender) in self.identities(known.id):
            raise Refused(f"{known.address} may send as {sender} already")
        self.file.write(
            "INSERT INTO identity VALUES (?, ?, ?)", known.id, sender, self.file.now_s()
        )
        return known.address, sender

    def remove_identity(self, account: str, sender: str) -> tuple[str, str]:
        """Returns both canonical. Raises Refused."""
        known, sender = self.known_account(account), self.canonical_alias(sender)
        if (known.address, sender) not in self.identities(known.id):
            raise Refused(f"{known.address} has no identity {sender}")
        self.file.write("DELETE FROM identity WHERE account = ? AND sender = ?", known.id, sender)
        return known.address, sender

    def sending_limits(self, account: int) -> tuple[int | None, int | None]:
        """Recipients at other hosts (in an hour, in a day); None: as configured, 0: no limit."""
        row = self.file.row("SELECT hourly, daily FROM sending_limit WHERE account = ?", account)
        return (row[0], row[1]) if row else (None, None)

    def set_sending_limits(self, account: int, hourly: int | None, daily: int | None) -> None:
        self.file.write(
            "INSERT OR REPLACE INTO sending_limit VALUES (?, ?, ?)", account, hourly, daily
        )

    # Shared mailboxes

    def shares(self, owner: int, grantee: int) -> bool:
        """Whether an account (0: anyone) may find something shared with it in the file of another."""
        row = self.file.row("SELECT 1 FROM share WHERE grantee = ? AND owner = ?", grantee, owner)
        return row is not None

    def replace_shares(self, owner: int, grantees: Iterable[int]) -> None:
        """Note that an account shares something with these (0: anyone) and with nobody else. Raises Unavailable."""
        with self.file.transaction():
            self.file.write("DELETE FROM share WHERE owner = ?", owner)
            for grantee in grantees:
                self.file.write("INSERT INTO share VALUES (?, ?)", grantee, owner)

    def sharers(self, grantee: int) -> list[Account]:
        """Accounts that share something with another, or with anyone; sorted by address."""
        rows = self.file.rows(
            f"SELECT {_ACCOUNT} FROM account WHERE account != ? AND account IN"
            " (SELECT owner FROM share WHERE grantee IN (?, 0)) ORDER BY address",
            grantee,
            grantee,
        )
        return [_account(row) for row in rows]

    # The store's own

    def generation(self) -> int:
        """How many unclean stops there have been."""
        row = self.file.row("SELECT value FROM meta WHERE name = 'generation'")
        return int(row[0]) if row else 0

    def save_generation(self, generation: int) -> None:
        self.file.write("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", generation)


def set_share(path: Path, owner: int, grantee: int, *, shares: bool) -> None:
    """Note that an account shares something with another (0: anyone), or nothing any more. Durable on return, and by a
    connection of its own: blocks, for a thread. Raises Unavailable."""
    sql = "DELETE FROM share WHERE grantee = ? AND owner = ?"
    if shares:
        sql = "INSERT OR IGNORE INTO share VALUES (?, ?)"
    try:
        connection = database.connect(path)
        try:
            database.set_synchronous(connection, database.FULL)
            connection.execute(sql, (grantee, owner))
        finally:
            connection.close()
    except apsw.Error as error:
        raise database.unavailable(error, path) from error


def _account(row: Any) -> Account:
    number, address, enabled, *rest = row
    return Account(number, address, bool(enabled), *rest)


def _at(domain: str) -> str:
    """A LIKE pattern for addresses of a domain, with ! as escape."""
    return "%@" + domain.replace("_", "!_")
