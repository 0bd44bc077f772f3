"""Who lives here (`directory.db`): domains with their DKIM keys, accounts with their credentials and what they may send
as, aliases.

Read inline (an indexed read takes microseconds) and afresh, so a change made by another process counts at once; only
the names of domains and the accounts of recipients are remembered, for LOOK_EVERY_S. Addresses are kept canonical:
lower case (local parts are case-insensitive here, as nearly everywhere), domains in A-labels. Writes are durable when
they return, and block for a sync.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import apsw

from pillarbox.core.address import canonical_domain, canonical_host, canonical_local, is_dot_string
from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.store import database
from pillarbox.store.quota import NO_QUOTA, Quota

MOST_REMEMBERED = 10_000
"""Recipients."""

LOOK_EVERY_S = 0.02
"""How old the lists of domains and recipients may be where another process changes them."""


@dataclass(slots=True)
class Account:
    """One account. `password_hash` and `scram_sha256` are secrets, kept out of the repr by their wrapper's absence:
    they are read by `credentials` alone."""

    id: int
    address: str
    enabled: bool
    referral: str
    quota_octets: int | None
    quota_messages: int | None
    version: int
    created: int


@dataclass(slots=True)
class AppPassword:
    """A second password of an account, made by us for one program."""

    id: int
    name: str
    scram: str = field(repr=False)
    """Its verifier."""
    scopes: frozenset[str]
    """Of "smtp", "imap", "pop3": where it counts."""
    expires: int | None
    """Epoch seconds; None: never."""
    created: int


@dataclass(slots=True)
class Ban:
    """A network that is turned away, in its canonical form, until epoch seconds (None: for good)."""

    network: str
    until: int | None
    reason: str
    created: int


MOST_APP_PASSWORDS = 50


class KeyState(StrEnum):
    """A DKIM key becomes active when its record is published, and its record outlives its use by RETIRED_RECORD_S."""

    NEW = "new"
    ACTIVE = "active"
    RETIRED = "retired"


RETIRED_RECORD_S = 7 * 86400
"""How long after its last signature a key's record stays: mail is still under way, or verified when it is read."""


@dataclass(slots=True)
class DkimKey:
    """What may be shown of a DKIM key. `domain` is canonical, times are epoch seconds."""

    domain: str
    selector: str
    algorithm: str
    """As in k= of the record: "rsa" or "ed25519"."""
    record: str
    """The text of its TXT record."""
    state: KeyState
    created: int
    changed: int
    """Since when it is in its state."""


_DKIM_KEY = "domain, selector, algorithm, record, state, created, changed"
_ACCOUNT = "account, address, enabled, referral, quota_octets, quota_messages, version, created"


def canonical_address(address: str) -> str:
    """Lower case with the domain in A-labels: "Bob@Exämple.org" -> "bob@xn--exmple-cua.org".

    Raises Refused with what is wrong.
    """
    local, at, domain = address.strip().rpartition("@")
    if not at or not local or any(char <= " " or char == "\x7f" for char in local):
        raise Refused(f'"{address}" is not a mail address; it must look like name@example.org')
    if len(local.encode()) > 64:
        raise Refused(f'the part of "{address}" before the @ is longer than 64 octets')
    try:
        return f"{canonical_local(local)}@{canonical_domain(domain)}"
    except ValueError as error:
        raise Refused(f'"{domain}" is not a domain name') from error


def _ensure_not_lost(path: Path) -> None:
    is_there = path.exists() and path.stat().st_size > 0
    if not is_there and any(path.parent.glob("accounts/*/*.db")):
        raise Refused(
            f"{path} is missing or empty, though there are accounts in {path.parent / 'accounts'}:"
            " restore it from a backup, or move that folder away to begin anew"
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
        """Raises Refused where the directory was lost: a new one would give the mail of its accounts to others.
        Raises Unavailable."""
        _ensure_not_lost(path)
        self._connection = database.open_single(path, "directory", vfs=vfs)
        self._clock = clock
        self._local_domains: frozenset[str] = frozenset()
        self._version = (-1, -1)
        """Of the directory when the domains were read."""
        self._recipients: dict[str, int] = {}
        self._recipients_version = (-1, -1)
        self._looked_at = -math.inf
        """When it was looked for changes by others, in `time.monotonic`."""
        self._others = 0
        self._quotas: dict[int, Quota] | None = {}
        """Of the accounts that were asked for; None: there are no quotas at all."""
        self._quotas_version = (-1, -1)

    def close(self) -> None:
        self._connection.close()

    def data_version(self) -> int:
        """Changes whenever another connection has changed the directory; for caches over it."""
        return int(self._connection.pragma("data_version"))

    def version(self) -> tuple[int, int]:
        """Other than before whenever anything was changed; for caches over what is asked for all the time. Changes by
        other processes are noticed after LOOK_EVERY_S."""
        now = time.monotonic()
        if now >= self._looked_at + LOOK_EVERY_S:
            self._looked_at = now
            self._others = self.data_version()
        return self._others, self._connection.total_changes()

    # Domains

    def domains(self) -> list[str]:
        """All, sorted."""
        return [row[0] for row in self._rows("SELECT domain FROM domain ORDER BY domain")]

    def is_local(self, domain: str) -> bool:
        """Whether we are the final destination for a canonical domain. Asked for each recipient, so domains are
        remembered; other processes' changes are seen after LOOK_EVERY_S."""
        version = self.version()
        if version != self._version:
            self._local_domains = frozenset(self.domains())
            self._version = version
        return domain in self._local_domains

    def add_domain(self, domain: str) -> str:
        """Returns the canonical form. Raises Refused."""
        domain = _own_domain(domain)
        if self.is_local(domain):
            raise Refused(f"the domain {domain} exists already")
        self._write("INSERT INTO domain VALUES (?, ?)", domain, int(self._clock()))
        return domain

    def remove_domain(self, domain: str) -> None:
        """Only without accounts; its aliases and DKIM keys go with it. Raises Refused."""
        domain = self.known_domain(domain)
        if self._row("SELECT 1 FROM account WHERE address LIKE ? ESCAPE '!'", _at(domain)):
            raise Refused(f"the domain {domain} still has accounts; remove them first")
        with self._connection:
            self._write("DELETE FROM alias WHERE alias LIKE ? ESCAPE '!'", _at(domain))
            self._write("DELETE FROM dkim_key WHERE domain = ?", domain)
            self._write("DELETE FROM domain_quota WHERE domain = ?", domain)
            self._write("DELETE FROM domain WHERE domain = ?", domain)

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
            rows = self._rows(f"SELECT {_ACCOUNT} FROM account ORDER BY address")
        else:
            rows = self._rows(
                f"SELECT {_ACCOUNT} FROM account WHERE address LIKE ? ESCAPE '!' ORDER BY address",
                _at(domain),
            )
        return [_account(row) for row in rows]

    def account(self, address: str) -> Account | None:
        """By canonical address."""
        row = self._row(f"SELECT {_ACCOUNT} FROM account WHERE address = ?", address)
        return _account(row) if row else None

    def recipient(self, address: str) -> int | None:
        """The account with a canonical address. Asked for each recipient, so those that there are are remembered like
        domains; a new one counts at once."""
        version = self.version()
        if version != self._recipients_version or len(self._recipients) > MOST_REMEMBERED:
            self._recipients.clear()
            self._recipients_version = version
        number = self._recipients.get(address)
        if number is None:
            row = self._row("SELECT account FROM account WHERE address = ?", address)
            if row is None:
                return None
            number = self._recipients[address] = int(row[0])
        return number

    def account_by_id(self, number: int) -> Account | None:
        row = self._row(f"SELECT {_ACCOUNT} FROM account WHERE account = ?", number)
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
        if "@" in name:
            try:
                return self.account(canonical_address(name))
            except Refused:
                return None
        pattern = name.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_") + "@%"
        rows = self._rows(
            f"SELECT {_ACCOUNT} FROM account WHERE address LIKE ? ESCAPE '!' LIMIT 2", pattern
        )
        return _account(rows[0]) if len(rows) == 1 else None

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
        self._write(
            "INSERT INTO account (address, password_hash, scram_sha256, enabled, referral, version, created)"
            " VALUES (?, ?, ?, 1, '', 1, ?)",
            canonical,
            password_hash,
            scram_sha256,
            int(self._clock()),
        )
        account = self.account(canonical)
        assert account is not None
        return account

    def credentials(self, account: int) -> tuple[str, str]:
        """(Argon2id hash, SCRAM verifier); empty texts where there is no password."""
        row = self._row(
            "SELECT password_hash, scram_sha256 FROM account WHERE account = ?", account
        )
        return (row[0], row[1]) if row else ("", "")

    def set_password(self, account: int, password_hash: str, scram_sha256: str) -> None:
        """Replaces the password and voids all proofs of login."""
        self._write(
            "UPDATE account SET password_hash = ?, scram_sha256 = ?, version = version + 1 WHERE account = ?",
            password_hash,
            scram_sha256,
            account,
        )

    def set_enabled(self, account: int, *, enabled: bool) -> None:
        """A disabled account gets mail but cannot log in; all proofs of login become void."""
        self._write(
            "UPDATE account SET enabled = ?, version = version + 1 WHERE account = ?",
            enabled,
            account,
        )

    def remove_account(self, account: int) -> None:
        """Its mail is the caller's to remove; aliases that point to it stay and are told by `config check`."""
        with self._connection:
            for table in ("app_password", "identity", "sending_limit", "supporter"):
                self._write(f"DELETE FROM {table} WHERE account = ?", account)
            self._write("DELETE FROM share WHERE ? IN (owner, grantee)", account)
            self._write("DELETE FROM account WHERE account = ?", account)

    # App passwords, supporters

    def app_passwords(self, account: int) -> list[AppPassword]:
        """All of an account, sorted by name."""
        rows = self._rows(
            "SELECT id, name, password_hash, scopes, expires, created"
            " FROM app_password WHERE account = ? ORDER BY name",
            account,
        )
        return [_app_password(row) for row in rows]

    def add_app_password(
        self, account: int, name: str, scram: str, scopes: Iterable[str], expires: int | None
    ) -> None:
        """`scram` is its verifier, with the salt that all verifiers of the account have. Raises Refused."""
        known = self.app_passwords(account)
        if not name or len(name) > 64 or not name.isprintable():
            raise Refused("the name of an app password has 1 to 64 printable characters")
        if any(each.name == name for each in known):
            raise Refused(f'there is an app password "{name}" already; revoke it first')
        if len(known) >= MOST_APP_PASSWORDS:
            raise Refused(f"an account has at most {MOST_APP_PASSWORDS} app passwords")
        self._write(
            "INSERT INTO app_password (account, name, password_hash, scopes, expires, created)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            account,
            name,
            scram,
            " ".join(sorted(scopes)),
            expires,
            int(self._clock()),
        )

    def revoke_app_password(self, account: int, name: str) -> None:
        """Void at once, and so are all proofs of login to the account. Raises Refused."""
        if all(each.name != name for each in self.app_passwords(account)):
            raise Refused(f'there is no app password "{name}"')
        with self._connection:
            self._write("DELETE FROM app_password WHERE account = ? AND name = ?", account, name)
            self._write("UPDATE account SET version = version + 1 WHERE account = ?", account)

    def is_supporter(self, account: int) -> bool:
        """Whether an account may log in as others."""
        return self._row("SELECT 1 FROM supporter WHERE account = ?", account) is not None

    def supporters(self) -> list[str]:
        """Addresses, sorted."""
        rows = self._rows("SELECT address FROM supporter JOIN account USING (account) ORDER BY 1")
        return [row[0] for row in rows]

    def set_supporter(self, account: int, *, allowed: bool) -> None:
        if allowed:
            now = int(self._clock())
            self._write("INSERT OR IGNORE INTO supporter VALUES (?, ?)", account, now)
        else:
            self._write("DELETE FROM supporter WHERE account = ?", account)

    def secret(self, name: str) -> bytes:
        """32 random octets that stay; made when they are asked for first."""
        sql = "SELECT value FROM secret WHERE name = ?"
        if self._row(sql, name) is None:
            try:
                self._connection.execute(
                    "INSERT OR IGNORE INTO secret VALUES (?, randomblob(32))", (name,)
                )
            except apsw.Error as error:
                raise database.unavailable(error) from error
        return bytes(self._row(sql, name)[0])

    # Bans

    def bans(self) -> list[Ban]:
        """All that have not ended, sorted by network."""
        rows = self._rows(
            "SELECT network, until, reason, created FROM ban"
            " WHERE until IS NULL OR until > ? ORDER BY network",
            int(self._clock()),
        )
        return [Ban(*row) for row in rows]

    def add_ban(self, network: str, until: int | None, reason: str) -> None:
        """A canonical network; a ban of the same one is replaced."""
        now = int(self._clock())
        with self._connection:
            self._write("DELETE FROM ban WHERE until <= ?", now)
            self._write(
                "INSERT OR REPLACE INTO ban VALUES (?, ?, ?, ?)", network, until, reason, now
            )

    def remove_ban(self, network: str) -> None:
        """Raises Refused."""
        if all(ban.network != network for ban in self.bans()):
            raise Refused(f"{network} is not banned")
        self._write("DELETE FROM ban WHERE network = ?", network)

    # Aliases

    def aliases(self) -> list[tuple[str, str]]:
        """(alias, target) pairs, sorted."""
        return [
            (row[0], row[1])
            for row in self._rows("SELECT alias, target FROM alias ORDER BY alias, target")
        ]

    def alias_targets(self, alias: str) -> list[str]:
        """Targets of a canonical address or "@domain", sorted."""
        return [
            row[0]
            for row in self._rows("SELECT target FROM alias WHERE alias = ? ORDER BY target", alias)
        ]

    def add_alias(self, alias: str, target: str) -> tuple[str, str]:
        """`alias` is an address or "@domain" (catch-all). Returns both canonical. Raises Refused."""
        alias, target = self.canonical_alias(alias), canonical_address(target)
        self._ensure_can_get_mail("any" + alias if alias.startswith("@") else alias)
        if self.account(alias):
            raise Refused(f"{alias} is an account; an alias needs an address of its own")
        if alias == target:
            raise Refused("an alias cannot point to itself")
        if target in self.alias_targets(alias):
            raise Refused(f"{alias} points to {target} already")
        self._write("INSERT INTO alias VALUES (?, ?, ?)", alias, target, int(self._clock()))
        return alias, target

    def remove_alias(self, alias: str, target: str | None = None) -> None:
        """One target of an alias, or all. Raises Refused."""
        alias = self.canonical_alias(alias)
        targets = self.alias_targets(alias)
        if not targets:
            raise Refused(f"there is no alias {alias}")
        if target is None:
            self._write("DELETE FROM alias WHERE alias = ?", alias)
            return
        target = canonical_address(target)
        if target not in targets:
            raise Refused(f"the alias {alias} does not point to {target}")
        self._write("DELETE FROM alias WHERE alias = ? AND target = ?", alias, target)

    @staticmethod
    def canonical_alias(alias: str) -> str:
        """An address, or "@domain". Raises Refused."""
        if alias.startswith("@"):
            return canonical_address("x" + alias)[1:]
        return canonical_address(alias)

    # Sending

    def identities(self, account: int | None = None) -> list[tuple[str, str]]:
        """(address of the account, sender) pairs of all accounts or of one, sorted."""
        rows = self._rows(
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
        return self._row(sql, account, address, domain) is not None

    def add_identity(self, account: str, sender: str) -> tuple[str, str]:
        """`sender` is an address or "@domain". Returns both canonical. Raises Refused."""
        known, sender = self.known_account(account), self.canonical_alias(sender)
        if (known.address, sender) in self.identities(known.id):
            raise Refused(f"{known.address} may send as {sender} already")
        self._write("INSERT INTO identity VALUES (?, ?, ?)", known.id, sender, int(self._clock()))
        return known.address, sender

    def remove_identity(self, account: str, sender: str) -> tuple[str, str]:
        """Returns both canonical. Raises Refused."""
        known, sender = self.known_account(account), self.canonical_alias(sender)
        if (known.address, sender) not in self.identities(known.id):
            raise Refused(f"{known.address} has no identity {sender}")
        self._write("DELETE FROM identity WHERE account = ? AND sender = ?", known.id, sender)
        return known.address, sender

    def sending_limits(self, account: int) -> tuple[int | None, int | None]:
        """Recipients at other hosts (in an hour, in a day); None: as configured, 0: no limit."""
        row = self._row("SELECT hourly, daily FROM sending_limit WHERE account = ?", account)
        return (row[0], row[1]) if row else (None, None)

    def set_sending_limits(self, account: int, hourly: int | None, daily: int | None) -> None:
        self._write("INSERT OR REPLACE INTO sending_limit VALUES (?, ?, ?)", account, hourly, daily)

    # Shared mailboxes

    def shares(self, owner: int, grantee: int) -> bool:
        """Whether an account (0: anyone) may find something shared with it in the file of another."""
        row = self._row("SELECT 1 FROM share WHERE grantee = ? AND owner = ?", grantee, owner)
        return row is not None

    def sharers(self, grantee: int) -> list[Account]:
        """Accounts that share something with another, or with anyone; sorted by address."""
        rows = self._rows(
            f"SELECT {_ACCOUNT} FROM account WHERE account != ? AND account IN"
            " (SELECT owner FROM share WHERE grantee IN (?, 0)) ORDER BY address",
            grantee,
            grantee,
        )
        return [_account(row) for row in rows]

    # Quotas

    def has_quotas(self) -> bool:
        """Whether anybody has one. Remembered, like all about quotas, until the directory changes."""
        version = self.version()
        if version != self._quotas_version:
            self._quotas_version = version
            row = self._row(
                "SELECT 1 FROM account WHERE quota_octets > 0 OR quota_messages > 0"
                " UNION SELECT 1 FROM domain_quota LIMIT 1"
            )
            self._quotas = {} if row else None
        return self._quotas is not None

    def quota(self, account: int) -> Quota:
        """What an account may keep: limits of its own, else those of its domain."""
        if not self.has_quotas() or self._quotas is None:
            return NO_QUOTA
        known = self._quotas.get(account)
        if known is None:
            found = self.account_by_id(account)
            if found is None:
                return NO_QUOTA
            octets, messages = self.domain_quota(found.address.rpartition("@")[2])
            known = self._quotas[account] = Quota(
                (octets if found.quota_octets is None else found.quota_octets) or None,
                (messages if found.quota_messages is None else found.quota_messages) or None,
            )
        return known

    def set_quota(self, account: int, octets: int | None, messages: int | None) -> None:
        """0: no limit; None: as the domain has it."""
        self._write(
            "UPDATE account SET quota_octets = ?, quota_messages = ? WHERE account = ?",
            octets,
            messages,
            account,
        )

    def domain_quota(self, domain: str) -> tuple[int, int]:
        """(octets, messages) for the accounts of a canonical domain; 0: no limit."""
        row = self._row("SELECT octets, messages FROM domain_quota WHERE domain = ?", domain)
        return (row[0], row[1]) if row else (0, 0)

    def set_domain_quota(self, domain: str, octets: int, messages: int) -> None:
        if octets or messages:
            self._write(
                "INSERT OR REPLACE INTO domain_quota VALUES (?, ?, ?)", domain, octets, messages
            )
        else:
            self._write("DELETE FROM domain_quota WHERE domain = ?", domain)

    # DKIM keys

    def signs(self) -> bool:
        """Whether any domain has an active key."""
        return self._row("SELECT 1 FROM dkim_key WHERE state = 'active'") is not None

    def dkim_keys(self, domain: str) -> list[DkimKey]:
        """Those of a canonical domain, in any state, oldest first, RSA before Ed25519."""
        rows = self._rows(
            f"SELECT {_DKIM_KEY} FROM dkim_key WHERE domain = ? ORDER BY created, algorithm DESC",
            domain,
        )
        return [_dkim_key(row) for row in rows]

    def dkim_private_keys(self, domain: str) -> list[tuple[DkimKey, Secret]]:
        """The active keys of a canonical domain, RSA first, each with its private key as PEM."""
        rows = self._rows(
            f"SELECT private_key, {_DKIM_KEY} FROM dkim_key WHERE domain = ? AND state = 'active'"
            " ORDER BY created, algorithm DESC",
            domain,
        )
        return [(_dkim_key(row[1:]), Secret(row[0])) for row in rows]

    def add_dkim_keys(self, keys: Sequence[tuple[DkimKey, Secret]]) -> None:
        """All or none, each with its private key as PEM."""
        with self._connection:
            for key, private_key in keys:
                self._write(
                    f"INSERT INTO dkim_key ({_DKIM_KEY}, private_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    key.domain,
                    key.selector,
                    key.algorithm,
                    key.record,
                    key.state,
                    key.created,
                    key.changed,
                    private_key.reveal(),
                )

    def activate_dkim_keys(self, domain: str) -> None:
        """The new keys of a canonical domain take over: the active ones lose their private keys, and those that
        retired over RETIRED_RECORD_S ago go. Raises Refused if there are no new ones."""
        if all(key.state is not KeyState.NEW for key in self.dkim_keys(domain)):
            raise Refused(
                f"there are no new keys of {domain}; make them with: pillarbox domain rotate-keys {domain}"
            )
        now = int(self._clock())
        with self._connection:
            self._write(
                "DELETE FROM dkim_key WHERE domain = ? AND state = 'retired' AND changed < ?",
                domain,
                now - RETIRED_RECORD_S,
            )
            self._write(
                "UPDATE dkim_key SET state = 'retired', private_key = '', changed = ?"
                " WHERE domain = ? AND state = 'active'",
                now,
                domain,
            )
            self._write(
                "UPDATE dkim_key SET state = 'active', changed = ? WHERE domain = ? AND state = 'new'",
                now,
                domain,
            )

    # The store's own

    def generation(self) -> int:
        """How many unclean stops there have been."""
        row = self._row("SELECT value FROM meta WHERE name = 'generation'")
        return int(row[0]) if row else 0

    def save_generation(self, generation: int) -> None:
        self._write("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", generation)

    def _row(self, sql: str, *values: str | int | None) -> Any:
        try:
            return self._connection.execute(sql, values).fetchone()
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def _rows(self, sql: str, *values: str | int | None) -> list[Any]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def _write(self, sql: str, *values: str | int | bool | None) -> None:
        try:
            self._connection.execute(sql, values)
        except apsw.Error as error:
            raise database.unavailable(error) from error


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


def _app_password(row: Any) -> AppPassword:
    number, name, scram, scopes, *rest = row
    return AppPassword(number, name, scram, frozenset(scopes.split()), *rest)


def _dkim_key(row: Any) -> DkimKey:
    domain, selector, algorithm, record, state, created, changed = row
    return DkimKey(domain, selector, algorithm, record, KeyState(state), created, changed)


def _at(domain: str) -> str:
    """A LIKE pattern for addresses of a domain, with ! as escape."""
    return "%@" + domain.replace("_", "!_")
