"""Replies of other hosts that nobody could translate yet, counted in `queue.db`."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import apsw

from pillarbox.store import database
from pillarbox.store.group_commit import GroupCommit

MOST = 1000
"""Kept: those that came last."""

OCTETS = 256
"""What is written for one, about."""

log = logging.getLogger("pillarbox.queue")


@dataclass(slots=True, frozen=True)
class UnknownReplies:
    """Of one queue."""

    reader: apsw.Connection
    commit: GroupCommit
    clock: Callable[[], float]

    def add(self, reply: str) -> None:
        """One more. Not synced: losing it does no harm."""
        now_s = int(self.clock())

        def work(connection: apsw.Connection) -> None:
            connection.execute(
                "INSERT INTO unknown_reply VALUES (?, 1, ?) ON CONFLICT (reply)"
                " DO UPDATE SET count = count + 1, last = excluded.last",
                (reply, now_s),
            )
            connection.execute(
                "DELETE FROM unknown_reply WHERE reply IN (SELECT reply FROM unknown_reply"
                " ORDER BY last DESC LIMIT -1 OFFSET ?)",
                (MOST,),
            )

        def done(future: "asyncio.Future[None]") -> None:
            if (error := future.exception()) is not None:
                log.warning("an unknown reply was not counted: %s", error)

        self.commit.ask(work, octets=OCTETS, synced=False).add_done_callback(done)

    def all(self) -> list[tuple[str, int, int]]:
        """(reply, how often, last time in epoch seconds), the most frequent first. Raises Unavailable."""
        sql = "SELECT reply, count, last FROM unknown_reply ORDER BY count DESC, last DESC"
        try:
            return [(row[0], row[1], row[2]) for row in self.reader.execute(sql)]
        except apsw.Error as error:
            raise database.unavailable(error) from error
