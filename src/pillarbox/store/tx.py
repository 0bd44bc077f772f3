"""What a unit of work gets: one account's tables inside one transaction."""

from collections.abc import Sequence
from typing import Any

import apsw

SQLiteValue = None | int | float | bytes | str


class Tx:
    """A transaction over one account.

    A unit of work may run twice (a lost group is rerun one by one), so it keeps nothing outside the tx.
    """

    __slots__ = (
        "account",
        "changed",
        "connection",
        "execute",
        "keyword_names",
        "now_s",
        "spellings",
    )

    def __init__(
        self,
        account: int,
        connection: apsw.Connection,
        keyword_names: dict[int, tuple[bytes, ...]],
        now_s: int,
    ) -> None:
        self.account = account
        self.connection = connection
        self.execute = connection.execute
        self.keyword_names = keyword_names
        """Known keyword sets by id; sets never change, so it is shared by all transactions of the file."""
        self.now_s = now_s
        """Epoch seconds at the start."""
        self.spellings: dict[bytes, bytes] | None = None
        """The account's keywords by their small letters, once they were asked for (`store.keywords`)."""
        self.changed: set[int] = set()
        """Mailboxes that this unit of work changed; their sessions get a hint after the commit."""

    def row(self, sql: str, bindings: Sequence[SQLiteValue]) -> tuple[Any, ...] | None:
        """The first row, or None."""
        return self.execute(sql, bindings).fetchone()

    def rows(self, sql: str, bindings: Sequence[SQLiteValue]) -> list[tuple[Any, ...]]:
        """All rows."""
        return self.execute(sql, bindings).fetchall()
