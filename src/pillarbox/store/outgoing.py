"""The queue of mail to other hosts (`queue.db`): one row for each recipient, the message once.

Whoever works on rows leases them: the lease is an owner and a time, renewed during an attempt; rows of a worker that
died become due when it ends. All writes of a turn are one transaction (`store.group_commit`), and an enqueued message
is durable when `enqueue` returns. The schedule is the caller's: here are only times.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw

from pillarbox.config.load import MOST_WORKERS
from pillarbox.core.errors import Unavailable
from pillarbox.core.tally import Histogram
from pillarbox.store import database
from pillarbox.store.group_commit import GroupCommit, Work
from pillarbox.store.outgoing_row import (
    AT_ONCE,
    COLUMNS,
    FREE,
    FROM,
    UNACCEPTED,
    OutgoingMessage,
    OutgoingRecipient,
    Row,
    drop_empty,
)
from pillarbox.store.place import ALONE, Place
from pillarbox.store.selected_rows import SelectedRows
from pillarbox.store.unknown_replies import UnknownReplies

T = TypeVar("T")

ROUTED_AT_ONCE = 250
"""Rows of one slice when all are looked at."""

OCTETS_A_ROW = 256
"""What is written for a row, about."""

FINISH_AGAIN_S = 5.0
"""Between attempts to note that a row is done with, while the disk is full."""

log = logging.getLogger("pillarbox.queue")


_INSERT_MESSAGE = (
    "INSERT INTO outgoing_message (id, queue_id, reverse_path, account, envid, ret, eight_bit, created, octets)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_RECIPIENT = "INSERT INTO outgoing VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, 0, '', '')"

CANDIDATES_A_ROW = 3
"""Candidates that `choose` gets at either end of the queue for each row that it may take."""

MOST_RECIPIENTS_LEASED = 100
"""Recipients of one message that one lease takes: every server accepts so many (RFC 5321 §4.5.3.1.8)."""


def _oldest(candidates: list[Row], limit: int) -> list[Row]:
    return candidates[:limit]


class OutgoingQueue:
    """The table. The asynchronous functions belong to one event loop; the others block for a short query."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float],
        vfs: str | None = None,
        sync: Callable[[int], None] = os.fdatasync,
        on_fatal: Callable[[BaseException], None] = lambda _error: None,
        place: Place = ALONE,
        times: Histogram | None = None,
    ) -> None:
        """`sync` makes a file durable by its descriptor; `on_fatal` hears that it cannot: stop then. `times` gets how
        long syncs take."""
        self.owner = f"worker-{place.number}"
        """Whose leases, and whose mail that is not yet accepted, an earlier process of this place has left."""
        self._place = place
        self._commit = GroupCommit(
            path,
            database.open_single(path, "queue", vfs=vfs),
            sync=sync,
            on_fatal=on_fatal,
            times=times,
        )
        self._reader = database.open_single(path, "queue", vfs=vfs)
        self._open = partial(database.open_single, path, "queue", vfs=vfs)
        self._seeker: apsw.Connection | None = None
        """Used in the thread that seeks."""
        self._seeking = ThreadPoolExecutor(1, thread_name_prefix="queue-seek")
        self._clock = clock
        self.selected = SelectedRows(self._reader, self._commit, clock)
        self.unknown_replies = UnknownReplies(self._reader, self._commit, clock)
        self._last_id = 0
        self._look_for_last_id(self._reader)
        self._finishing: set[tuple[int, str]] = set()
        """Rows that are done with, but still in the table."""

    async def drain(self) -> None:
        """Until all writes that were asked for are durable; before `close`, on the loop of the queue."""
        await self._commit.drain()

    def close(self) -> None:
        self._seeking.shutdown()
        if self._seeker is not None:
            self._seeker.close()
        self._reader.close()
        self._commit.close()

    async def _write(self, work: Work[T], rows: int, *, synced: bool) -> T:
        """Run `work`, which changes so many rows. Raises Unavailable."""
        return await self._commit.ask(work, octets=OCTETS_A_ROW * rows, synced=synced)

    def write_now(self, work: Work[T]) -> T:
        """Run `work` in a transaction without an event loop, for commands. Blocks. Raises Unavailable."""
        return self._commit.write_now(work)

    # In

    async def enqueue(
        self,
        message: OutgoingMessage,
        recipients: Sequence[OutgoingRecipient],
        *,
        lifetime_s: int,
        warn_after_s: int,
        state: int = FREE,
        owner: str = "",
        lease_s: int = 0,
        once: bool = False,
    ) -> list[Row]:
        """Take a message for these recipients, durably. `warn_after_s` 0: no notice of delay. Raises Unavailable.

        UNACCEPTED, it waits for `accept`, and is dropped at the next start if that never came; OVER_LIMIT, it is held.
        `once`: see `was_taken_up`. With an `owner`
        its rows are leased at once for `lease_s` seconds, and are returned with the octets of the message.
        """
        now_s = int(self._clock())
        warn_at = now_s + warn_after_s if warn_after_s else 0
        next_try = now_s + lease_s
        expires = now_s + lifetime_s
        unique = {one.recipient: one for one in recipients}.values()
        keeper = self.owner if state == UNACCEPTED else owner
        head = (
            message.queue_id,
            message.reverse_path,
            message.account,
            message.envid,
            message.ret,
            message.eight_bit,
            now_s,
        )

        def work(connection: apsw.Connection) -> int:
            number = self._next_id()
            try:
                connection.execute(_INSERT_MESSAGE, (number, *head, message.octets))
            except apsw.ConstraintError:  # the clock was set back
                self._look_for_last_id(connection)
                number = self._next_id()
                connection.execute(_INSERT_MESSAGE, (number, *head, message.octets))
            if once:
                connection.execute("INSERT INTO taken_up VALUES (?)", (message.queue_id,))
            for one in unique:
                connection.execute(
                    _INSERT_RECIPIENT,
                    (
                        number,
                        one.recipient,
                        one.next_hop,
                        one.notify,
                        one.orcpt,
                        state,
                        next_try,
                        expires,
                        warn_at,
                        keeper,
                    ),
                )
            return number

        number = await self._commit.ask(
            work, octets=len(message.octets) + OCTETS_A_ROW * len(recipients), synced=True
        )
        if not owner:
            return []
        return [
            Row(
                number,
                *head,
                len(message.octets),
                one.recipient,
                one.next_hop,
                one.notify,
                one.orcpt,
                state,
                0,
                next_try,
                expires,
                warn_at,
                owner,
                False,
                "",
                "",
                message.octets,
            )
            for one in unique
        ]

    def _next_id(self) -> int:
        """Never that of another message of any worker, be it gone: rows in memory are known by it. By time, so that
        they sort by age whoever took them."""
        slots = int(self._clock() * 1_000_000) // MOST_WORKERS
        slots = max(slots, self._last_id // MOST_WORKERS + 1)
        self._last_id = slots * MOST_WORKERS + self._place.number - 1
        return self._last_id

    def _look_for_last_id(self, connection: apsw.Connection) -> None:
        last: Any = connection.execute("SELECT max(id) FROM outgoing_message").fetchone()
        self._last_id = max(self._last_id, last[0] or 0)

    async def accept(self, queue_id: str, state: int = FREE) -> None:
        """Let an enqueued message go, or hold it (OVER_LIMIT). Raises Unavailable."""

        def work(connection: apsw.Connection) -> None:
            connection.execute(
                "UPDATE outgoing SET held = ?, owner = '' WHERE held = ? AND message ="
                " (SELECT id FROM outgoing_message WHERE queue_id = ?)",
                (state, UNACCEPTED, queue_id),
            )

        await self._write(work, MOST_RECIPIENTS_LEASED, synced=True)

    async def forget(self, queue_id: str) -> None:
        """Drop an enqueued message that was not accepted after all. Raises Unavailable."""

        def work(connection: apsw.Connection) -> None:
            _drop_unaccepted(connection, "AND m.queue_id = ?", (queue_id,))

        await self._write(work, MOST_RECIPIENTS_LEASED, synced=True)

    # Work

    async def lease(
        self,
        owner: str,
        lease_s: int,
        *,
        limit: int,
        busy_hops: Sequence[str] = (),
        only_hop: str = "",
        choose: Callable[[list[Row], int], list[Row]] = _oldest,
    ) -> list[list[Row]]:
        """Take at most `limit` rows that are due, in groups of one message and one hop; of the hops named, only those
        that are to be tried AT_ONCE; or only those of one hop, but for these. The lease ends `lease_s` seconds from
        now. `choose` picks so many from candidates, which are those that are due for longest and those due since
        lately, in a thread. Raises Unavailable."""
        now_s = int(self._clock())
        if only_hop:
            condition, names = f"next_try > {AT_ONCE} AND next_hop = ?", [only_hop]
        else:
            marks = ",".join("?" * len(busy_hops))
            condition, names = f"(next_try = {AT_ONCE} OR next_hop NOT IN ({marks}))", [*busy_hops]
        while True:
            groups = await asyncio.get_running_loop().run_in_executor(
                self._seeking, self._seek, condition, names, now_s, limit, choose
            )
            mine = await self._take(groups, owner, now_s, lease_s)
            if mine or not groups:
                return mine
            # All that was found was taken by another worker meanwhile.

    async def _take(
        self, groups: list[list[Row]], owner: str, now_s: int, lease_s: int
    ) -> list[list[Row]]:
        """Lease what nobody took or held meanwhile; returns that. Raises Unavailable."""

        def work(connection: apsw.Connection) -> set[tuple[int, str]]:
            taken = set()
            for group in groups:
                for row in group:
                    connection.execute(
                        "UPDATE outgoing SET owner = ?, next_try = ?, sending = 0"
                        " WHERE message = ? AND recipient = ? AND held = 0 AND next_try <= ?",
                        (owner, now_s + lease_s, row.message, row.recipient, now_s),
                    )
                    if connection.changes():
                        taken.add((row.message, row.recipient))
            return taken

        rows = sum(map(len, groups))
        if not rows:
            return []
        taken = await self._write(work, rows, synced=False)
        mine = [[row for row in group if (row.message, row.recipient) in taken] for group in groups]
        return [group for group in mine if group]

    def _seek(
        self,
        condition: str,
        names: list[str],
        now_s: int,
        limit: int,
        choose: Callable[[list[Row], int], list[Row]],
    ) -> list[list[Row]]:
        """Groups of rows that may be leased. In a thread of its own, since there may be many that are due; with a
        connection of its own, for nobody shall wait for that."""
        found: dict[tuple[int, str], Row] = {}
        for order in ("ASC", "DESC"):
            # The inner query looks into an index alone.
            sql = (
                f"SELECT {COLUMNS} FROM (SELECT message, recipient FROM outgoing WHERE held = 0 AND next_try <= ?"
                f" AND {condition} ORDER BY next_try {order} LIMIT ?) AS c"
                " JOIN outgoing AS o ON o.message = c.message AND o.recipient = c.recipient"
                f" JOIN outgoing_message AS m ON m.id = o.message ORDER BY o.next_try {order}"
            )
            rows = self._read_aside(sql, now_s, *names, CANDIDATES_A_ROW * limit)
            for values in rows:
                row = Row(*values)
                if (row.message, row.recipient) not in self._finishing:
                    found[row.message, row.recipient] = row
            if len(rows) < CANDIDATES_A_ROW * limit:
                break
        groups: dict[tuple[int, str], list[Row]] = {}
        for row in choose(list(found.values()), limit):
            group = groups.setdefault((row.message, row.next_hop), [])
            if len(group) < MOST_RECIPIENTS_LEASED:
                group.append(row)
        return list(groups.values())

    async def renew(self, owner: str, rows: Sequence[Row], lease_s: int) -> bool:
        """Renew a lease, to end `lease_s` seconds from now or later. False: it was lost, so do not send."""
        now_s = int(self._clock())

        def work(connection: apsw.Connection) -> bool:
            renewed = 0
            for row in rows:
                connection.execute(
                    "UPDATE outgoing SET next_try = max(next_try, ?)"
                    " WHERE message = ? AND recipient = ? AND owner = ? AND next_try > ?",
                    (now_s + lease_s, row.message, row.recipient, owner, now_s),
                )
                renewed += connection.changes()
            return renewed == len(rows)

        # No sync: it is for other processes to see, and after a power cut there is none that holds a lease.
        return await self._write(work, len(rows), synced=False)

    async def note_sending(self, owner: str, rows: Sequence[Row], lease_s: int) -> bool:
        """Note that the final dot of these (of one message) comes now, so that it is known after a crash what may have
        been sent. The lease is renewed where it ends sooner than `lease_s` seconds from now. False: it was lost, so do
        not send."""
        until = int(self._clock()) + lease_s

        def work(connection: apsw.Connection) -> bool:
            for row in rows:
                connection.execute(
                    "UPDATE outgoing SET sending = 1"
                    " WHERE message = ? AND recipient = ? AND owner = ? AND next_try >= ?",
                    (row.message, row.recipient, owner, until),
                )
                if not connection.changes():
                    return False
            return True

        # No sync: after a power cut whatever was leased may have been sent.
        noted = await self._write(work, len(rows), synced=False)
        if noted:
            return True
        return await self.renew(owner, rows, lease_s) and await self._write(
            work, len(rows), synced=False
        )

    def still_leased(self, owner: str, rows: Sequence[Row]) -> list[Row]:
        """Those of `rows` (of one message) that `owner` has yet. Raises Unavailable."""
        found = self._read(
            "SELECT recipient FROM outgoing WHERE message = ? AND owner = ? AND next_try > ?",
            rows[0].message,
            owner,
            int(self._clock()),
        )
        left = {recipient for (recipient,) in found}
        return [row for row in rows if row.recipient in left]

    def finish(self, owner: str, rows: Sequence[Row]) -> "asyncio.Future[None]":
        """These recipients (of one message) are done with, delivered or bounced; the message goes with the last of
        them. Whoever does not wait for the future must know that it may fail: Unavailable."""
        message = rows[0].message
        recipients = [row.recipient for row in rows]

        def work(connection: apsw.Connection) -> None:
            for recipient in recipients:
                connection.execute(
                    "DELETE FROM outgoing WHERE message = ? AND recipient = ? AND owner = ?",
                    (message, recipient, owner),
                )
            drop_empty(connection, [message])

        return self._commit.ask(work, octets=OCTETS_A_ROW * len(rows), synced=False)

    def finish_soon(self, owner: str, rows: Sequence[Row]) -> None:
        """The same in the background, again and again until it works; meanwhile nobody here leases these rows."""
        self._finishing.update((row.message, row.recipient) for row in rows)
        self._finish_again(owner, rows)

    def _finish_again(self, owner: str, rows: Sequence[Row]) -> None:
        self.finish(owner, rows).add_done_callback(partial(self._finished, owner, rows))

    def _finished(self, owner: str, rows: Sequence[Row], future: "asyncio.Future[None]") -> None:
        error = future.exception()
        if error is None:
            self._finishing.difference_update((row.message, row.recipient) for row in rows)
            return
        log.error("id=%s: its end cannot be noted yet: %s", rows[0].queue_id, error)
        future.get_loop().call_later(FINISH_AGAIN_S, self._finish_again, owner, rows)

    async def defer(
        self, owner: str, rows: Sequence[Row], next_try: int, host: str, reply: str
    ) -> None:
        """Give rows back, to be tried at `next_try` (epoch seconds), with what was said."""

        def work(connection: apsw.Connection) -> None:
            for row in rows:
                connection.execute(
                    "UPDATE outgoing SET owner = '', sending = 0, attempts = attempts + 1, next_try = ?,"
                    " host = ?, reply = ? WHERE message = ? AND recipient = ? AND owner = ?",
                    (next_try, host, reply, row.message, row.recipient, owner),
                )

        await self._write(work, len(rows), synced=False)

    async def warned(self, rows: Sequence[Row]) -> None:
        """The notice of delay for these was sent."""

        def work(connection: apsw.Connection) -> None:
            connection.executemany(
                "UPDATE outgoing SET warn_at = 0 WHERE message = ? AND recipient = ?",
                [(row.message, row.recipient) for row in rows],
            )

        await self._write(work, len(rows), synced=True)

    async def take_up(self) -> int:
        """At start: rows that an earlier process of this place, or of any if this is the first, had leased are due now;
        what it did not accept goes. Returns how many had their final dot sent, and no answer that anybody knows of."""
        now_s = int(self._clock())
        which, values = (
            ("owner != ''", ()) if self._place.is_first else ("owner = ?", (self.owner,))
        )

        def work(connection: apsw.Connection) -> int:
            _drop_unaccepted(connection, "" if self._place.is_first else f"AND o.{which}", values)
            in_doubt: Any = connection.execute(
                f"SELECT count(*) FROM outgoing WHERE {which} AND sending", values
            ).fetchone()
            connection.execute(
                f"UPDATE outgoing SET owner = '', next_try = ? WHERE {which}", (now_s, *values)
            )
            return int(in_doubt[0])

        return await self._commit.write(work)

    async def reroute(self, next_hop_of: Callable[[str], str]) -> None:
        """Give every recipient (an address) the next hop that the present configuration says, slice by slice. Raises
        Unavailable."""
        after: tuple[int, str] = (0, "")
        loop = asyncio.get_running_loop()
        while True:
            rows = await loop.run_in_executor(
                self._seeking,
                self._read_aside,
                "SELECT message, recipient, next_hop FROM outgoing WHERE (message, recipient) > (?, ?)"
                " ORDER BY message, recipient LIMIT ?",
                *after,
                ROUTED_AT_ONCE,
            )
            if not rows:
                return
            after = rows[-1][0], rows[-1][1]
            others = [
                (hop, message, recipient)
                for message, recipient, old in rows
                if (hop := next_hop_of(recipient)) != old
            ]
            if others:
                await self._write(partial(_set_hops, others), len(others), synced=False)

    def data_version(self) -> int:
        """Changes whenever the table was changed, by whomever."""
        return int(self._reader.pragma("data_version"))

    def octets(self, message: int) -> bytes:
        """The message itself. Raises Unavailable, also when it was removed meanwhile."""
        row = self._read("SELECT octets FROM outgoing_message WHERE id = ?", message)
        if not row:
            raise Unavailable("the message was removed from the queue")
        return bytes(row[0][0])

    def was_taken_up(self, queue_id: str) -> bool:
        """Whether a message that is taken up `once` was, also if it has left the queue already. Raises Unavailable."""
        return bool(self._read("SELECT 1 FROM taken_up WHERE queue_id = ?", queue_id))

    def forget_taken_up(self, queue_id: str) -> None:
        """Nobody will bring this message again."""

        def work(connection: apsw.Connection) -> None:
            connection.execute("DELETE FROM taken_up WHERE queue_id = ?", (queue_id,))

        def done(future: "asyncio.Future[None]") -> None:
            if (error := future.exception()) is not None:
                log.warning("id=%s stays among those taken up: %s", queue_id, error)

        self._commit.ask(work, octets=OCTETS_A_ROW, synced=False).add_done_callback(done)

    def next_due(self) -> int | None:
        """When the next row that is not held is due (epoch seconds); None: nothing waits."""
        row = self._read("SELECT min(next_try) FROM outgoing WHERE held = 0")
        return row[0][0] if row else None

    def count(self) -> tuple[int, int]:
        """(messages, recipients) that wait."""
        (row,) = self._read(
            "SELECT (SELECT count(*) FROM outgoing_message), (SELECT count(*) FROM outgoing)"
        )
        return row[0], row[1]

    def _read_aside(self, sql: str, *values: str | int) -> list[Any]:
        """In the thread that seeks."""
        try:
            if self._seeker is None:
                self._seeker = self._open()
            return self._seeker.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def _read(self, sql: str, *values: str | int) -> list[Any]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise database.unavailable(error) from error


def _set_hops(hops: list[tuple[str, int, str]], connection: apsw.Connection) -> None:
    connection.executemany(
        "UPDATE outgoing SET next_hop = ? WHERE message = ? AND recipient = ?", hops
    )


def _drop_unaccepted(connection: apsw.Connection, which: str, values: tuple[str, ...]) -> None:
    found: list[Any] = connection.execute(
        f"SELECT o.message, o.recipient{FROM} WHERE o.held = {UNACCEPTED} {which}", values
    ).fetchall()
    # Whoever brings such a message again must find that it was not taken up.
    connection.execute(
        f"DELETE FROM taken_up WHERE queue_id IN (SELECT m.queue_id{FROM} WHERE o.held = {UNACCEPTED} {which})",
        values,
    )
    connection.executemany("DELETE FROM outgoing WHERE message = ? AND recipient = ?", found)
    drop_empty(connection, {row[0] for row in found})
