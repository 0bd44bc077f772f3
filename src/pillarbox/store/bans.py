"""Networks that are turned away, in the directory."""

from dataclasses import dataclass

from pillarbox.core.errors import Refused
from pillarbox.store.directory_file import DirectoryFile


@dataclass(slots=True)
class Ban:
    """A network that is turned away, in its canonical form, until epoch seconds (None: for good)."""

    network: str
    until: int | None
    reason: str
    created: int


class Bans:
    """All of them; networks are canonical."""

    __slots__ = ("_file",)

    def __init__(self, file: DirectoryFile) -> None:
        self._file = file

    def all(self) -> list[Ban]:
        """All that have not ended, sorted by network."""
        rows = self._file.rows(
            "SELECT network, until, reason, created FROM ban"
            " WHERE until IS NULL OR until > ? ORDER BY network",
            self._file.now_s(),
        )
        return [Ban(*row) for row in rows]

    def add(self, network: str, until: int | None, reason: str) -> None:
        """A canonical network; a ban of the same one is replaced."""
        now = self._file.now_s()
        with self._file.transaction():
            self._file.write("DELETE FROM ban WHERE until <= ?", now)
            self._file.write(
                "INSERT OR REPLACE INTO ban VALUES (?, ?, ?, ?)", network, until, reason, now
            )

    def remove(self, network: str) -> None:
        """Raises Refused."""
        if not any(ban.network == network for ban in self.all()):
            raise Refused(f"{network} is not banned")
        self._file.write("DELETE FROM ban WHERE network = ?", network)
