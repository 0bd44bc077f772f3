"""DKIM keys of the domains that live here, in the directory. Which of them sign, and how long their records stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.store.directory_file import DirectoryFile


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


_COLUMNS = "domain, selector, algorithm, record, state, created, changed"


class DkimKeys:
    """Those of all domains; domains are canonical."""

    __slots__ = ("_file",)

    def __init__(self, file: DirectoryFile) -> None:
        self._file = file

    def any_active(self) -> bool:
        """Whether any domain has an active key."""
        return self._file.row("SELECT 1 FROM dkim_key WHERE state = 'active'") is not None

    def of(self, domain: str) -> list[DkimKey]:
        """Those of a canonical domain, in any state, oldest first, RSA before Ed25519."""
        rows = self._file.rows(
            f"SELECT {_COLUMNS} FROM dkim_key WHERE domain = ? ORDER BY created, algorithm DESC",
            domain,
        )
        return [_key(row) for row in rows]

    def private(self, domain: str) -> list[tuple[DkimKey, Secret]]:
        """The active keys of a canonical domain, RSA first, each with its private key as PEM."""
        rows = self._file.rows(
            f"SELECT private_key, {_COLUMNS} FROM dkim_key WHERE domain = ? AND state = 'active'"
            " ORDER BY created, algorithm DESC",
            domain,
        )
        return [(_key(row[1:]), Secret(row[0])) for row in rows]

    def add(self, keys: Sequence[tuple[DkimKey, Secret]]) -> None:
        """All or none, each with its private key as PEM."""
        with self._file.transaction():
            for key, private_key in keys:
                self._file.write(
                    f"INSERT INTO dkim_key ({_COLUMNS}, private_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    key.domain,
                    key.selector,
                    key.algorithm,
                    key.record,
                    key.state,
                    key.created,
                    key.changed,
                    private_key.reveal(),
                )

    def activate(self, domain: str) -> None:
        """The new keys of a canonical domain take over: the active ones lose their private keys, and those that
        retired over RETIRED_RECORD_S ago go. Raises Refused if there are no new ones."""
        if all(key.state is not KeyState.NEW for key in self.of(domain)):
            raise Refused(
                f"there are no new keys of {domain}; make them with: pillarbox domain rotate-keys {domain}"
            )
        now = self._file.now_s()
        with self._file.transaction():
            self._file.write(
                "DELETE FROM dkim_key WHERE domain = ? AND state = 'retired' AND changed < ?",
                domain,
                now - RETIRED_RECORD_S,
            )
            self._file.write(
                "UPDATE dkim_key SET state = 'retired', private_key = '', changed = ?"
                " WHERE domain = ? AND state = 'active'",
                now,
                domain,
            )
            self._file.write(
                "UPDATE dkim_key SET state = 'active', changed = ? WHERE domain = ? AND state = 'new'",
                now,
                domain,
            )


def _key(row: Any) -> DkimKey:
    domain, selector, algorithm, record, state, created, changed = row
    return DkimKey(domain, selector, algorithm, record, KeyState(state), created, changed)
