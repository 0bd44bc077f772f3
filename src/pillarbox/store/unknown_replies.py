"""Replies of other hosts that nobody could translate yet, counted in `queue.db`."""

import asyncio
import logging
from collections.abc import Callable

import apsw

from pillarbox.store import database
from pillarbox.store.group_commit import GroupCommit

MOST = 1000
"""Kept: those that came last."""

OCTETS = 256
"""What is written for one, about."""

log = logging.getLogger("pillarbox.queue")


class UnknownReplies:
    """Of one queue."""

    def __init__(
        self, reader: apsw.Connection, commit: GroupCommit, clock: Callable[[], float]
    ) -> None:
        self._reader = reader
        self._commit = commit
        self._clock = clock

    def add(self, reply: str) -> None:
        """One more. Not synced: losing it does no harm."""
        now_s = int(self._clock())

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

        self._commit.ask(work, octets=OCTETS, synced=False).add_done_callback(done)

    def all(self) -> list[tuple[str, int, int]]:
        """(reply, how often, last time in epoch seconds), the most frequent first. Raises Unavailable."""
        sql = "SELECT reply, count, last FROM unknown_reply ORDER BY count DESC, last DESC"
        try:
            return [(row[0], row[1], row[2]) for row in self._reader.execute(sql)]
        except apsw.Error as error:
            raise database.unavailable(error) from error
