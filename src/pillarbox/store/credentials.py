"""What logins are checked against, in the directory: passwords of accounts, app passwords, who may log in as others."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pillarbox.core.errors import Refused
from pillarbox.store.directory_file import DirectoryFile

MOST_APP_PASSWORDS = 50


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

    def has_expired(self, now_s: float) -> bool:
        """`now_s`: epoch seconds."""
        return self.expires is not None and self.expires <= now_s

    def counts(self, protocol: str, now_s: float) -> bool:
        """Whether it does for a protocol, at a time in epoch seconds."""
        return not self.has_expired(now_s) and protocol in self.scopes


class Credentials:
    """Those of all accounts."""

    __slots__ = ("_file",)

    def __init__(self, file: DirectoryFile) -> None:
        self._file = file

    def password(self, account: int) -> tuple[str, str]:
        """(Argon2id hash, SCRAM verifier); empty texts where there is no password."""
        row = self._file.row(
            "SELECT password_hash, scram_sha256 FROM account WHERE account = ?", account
        )
        return (row[0], row[1]) if row else ("", "")

    def set_password(self, account: int, password_hash: str, scram_sha256: str) -> None:
        """Replaces the password and voids all proofs of login."""
        self._file.write(
            "UPDATE account SET password_hash = ?, scram_sha256 = ?, version = version + 1 WHERE account = ?",
            password_hash,
            scram_sha256,
            account,
        )

    def app_passwords(self, account: int) -> list[AppPassword]:
        """All of an account, sorted by name."""
        rows = self._file.rows(
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
        self._file.write(
            "INSERT INTO app_password (account, name, password_hash, scopes, expires, created)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            account,
            name,
            scram,
            " ".join(sorted(scopes)),
            expires,
            self._file.now_s(),
        )

    def revoke_app_password(self, account: int, name: str) -> None:
        """Void at once, and so are all proofs of login to the account. Raises Refused."""
        if all(each.name != name for each in self.app_passwords(account)):
            raise Refused(f'there is no app password "{name}"')
        with self._file.transaction():
            self._file.write(
                "DELETE FROM app_password WHERE account = ? AND name = ?", account, name
            )
            self._file.write("UPDATE account SET version = version + 1 WHERE account = ?", account)

    def is_supporter(self, account: int) -> bool:
        """Whether an account may log in as others."""
        return self._file.row("SELECT 1 FROM supporter WHERE account = ?", account) is not None

    def supporters(self) -> list[str]:
        """Addresses, sorted."""
        rows = self._file.rows(
            "SELECT address FROM supporter JOIN account USING (account) ORDER BY 1"
        )
        return [row[0] for row in rows]

    def set_supporter(self, account: int, *, allowed: bool) -> None:
        if allowed:
            now = self._file.now_s()
            self._file.write("INSERT OR IGNORE INTO supporter VALUES (?, ?)", account, now)
        else:
            self._file.write("DELETE FROM supporter WHERE account = ?", account)

    def secret(self, name: str) -> bytes:
        """32 random octets that stay; made when they are asked for first."""
        sql = "SELECT value FROM secret WHERE name = ?"
        if self._file.row(sql, name) is None:
            self._file.write("INSERT OR IGNORE INTO secret VALUES (?, randomblob(32))", name)
        return bytes(self._file.row(sql, name)[0])


def _app_password(row: Any) -> AppPassword:
    number, name, scram, scopes, *rest = row
    return AppPassword(number, name, scram, frozenset(scopes.split()), *rest)
