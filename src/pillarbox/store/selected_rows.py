"""What people do with the queue: rows by queue id, address, domain or age, looked at or changed."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from pillarbox.store import database
from pillarbox.store.group_commit import GroupCommit
from pillarbox.store.outgoing_row import (
    AT_ONCE,
    COLUMNS,
    FREE,
    FROM,
    HELD,
    OVER_LIMIT,
    Row,
    Selection,
    drop_empty,
)


@dataclass(slots=True, frozen=True)
class SelectedRows:
    """Of one queue. Blocks for what is asked, and needs no event loop."""

    reader: apsw.Connection
    commit: GroupCommit
    clock: Callable[[], float]

    def rows(self, selection: Selection, limit: int = -1) -> list[Row]:
        """Rows by age of their message, then recipient. Raises Unavailable."""
        return list(self.each_row(selection, limit))

    def each_row(self, selection: Selection, limit: int = -1) -> Iterator[Row]:
        """The same one by one, whatever is changed meanwhile."""
        where, values = self._where(selection)
        try:
            rows: Iterator[Any] = self.reader.execute(
                f"SELECT {COLUMNS}{FROM} WHERE {where} ORDER BY m.id, o.recipient LIMIT ?",
                (*values, limit),
            )
            for row in rows:
                yield Row(*row)
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def set_held(self, selection: Selection, *, held: bool) -> int:
        """Hold rows or let them go; returns how many changed. Raises Unavailable."""
        where, values = self._where(selection)

        def work(connection: apsw.Connection) -> int:
            connection.execute(
                f"UPDATE outgoing SET held = ? WHERE held IN (?, ?) AND (message, recipient) IN"
                f" (SELECT o.message, o.recipient{FROM} WHERE {where})",
                (*((HELD, FREE, FREE) if held else (FREE, HELD, OVER_LIMIT)), *values),
            )
            return connection.changes()

        return self.commit.write_now(work)

    def retry(self, selection: Selection) -> int:
        """Make rows due now that nobody works on, also where their destination is given a rest; returns how many. What
        is held is due as soon as it is released, and not counted. Raises Unavailable."""
        where, values = self._where(selection)

        def work(connection: apsw.Connection) -> int:
            due: list[Any] = connection.execute(
                "UPDATE outgoing SET next_try = ? WHERE owner = '' AND (message, recipient) IN"
                f" (SELECT o.message, o.recipient{FROM} WHERE {where}) RETURNING held",
                (AT_ONCE, *values),
            ).fetchall()
            return sum(held == FREE for (held,) in due)

        return self.commit.write_now(work)

    def remove(self, selection: Selection) -> list[tuple[str, str, str]]:
        """Delete rows, without a bounce; returns queue id, sender and recipient of each. An attempt under way is
        stopped before its final dot. Raises Unavailable."""
        where, values = self._where(selection)

        def work(connection: apsw.Connection) -> list[tuple[str, str, str]]:
            found: list[Any] = connection.execute(
                f"SELECT o.message, o.recipient, m.queue_id, m.reverse_path{FROM} WHERE {where}",
                values,
            ).fetchall()
            connection.executemany(
                "DELETE FROM outgoing WHERE message = ? AND recipient = ?",
                [row[:2] for row in found],
            )
            drop_empty(connection, {row[0] for row in found})
            return [(queue_id, sender, recipient) for _, recipient, queue_id, sender in found]

        return self.commit.write_now(work)

    def _where(self, selection: Selection) -> tuple[str, tuple[str | int, ...]]:
        conditions = ["1"]
        values: list[str | int] = []
        if selection.queue_id:
            conditions.append("m.queue_id = ?")
            values.append(selection.queue_id)
        if selection.address:
            conditions.append(
                "(m.reverse_path = ? COLLATE NOCASE OR o.recipient = ? COLLATE NOCASE)"
            )
            values += [selection.address, selection.address]
        if selection.domain:
            conditions.append("o.recipient LIKE ? ESCAPE '!'")
            values.append("%@" + re.sub("[!%_]", r"!\g<0>", selection.domain))
        if selection.older_than_s:
            conditions.append("m.created <= ?")
            values.append(int(self.clock()) - selection.older_than_s)
        return " AND ".join(conditions), tuple(values)
