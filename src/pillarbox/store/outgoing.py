"""The queue of mail to other hosts (`queue.db`): one row for each recipient, the message once.

Whoever works on rows leases them: the lease is an owner and a time, renewed during an attempt; rows of a worker that
died become due when it ends. All writes of a turn are one synced transaction in a thread, so an enqueued message
is durable when `enqueue` returns. The schedule is the caller's: here are only times.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import apsw

from pillarbox.core.errors import Unavailable
from pillarbox.store import database

T = TypeVar("T")


SEVEN_BIT, EIGHT_BIT, UTF8_HEADER = 0, 1, 2
"""Values of `eight_bit`: what a message needs of the next host: nothing, 8BITMIME, or SMTPUTF8, which brings that with
it (RFC 6531 §3.1)."""


@dataclass(slots=True)
class OutgoingRecipient:
    """Who shall get a message; `next_hop` groups recipients that one connection can serve."""

    recipient: str
    next_hop: str
    notify: str = ""
    orcpt: str = ""


@dataclass(slots=True)
class OutgoingMessage:
    """A message as it will be sent."""

    queue_id: str
    reverse_path: str
    octets: bytes
    account: int | None = None
    envid: str = ""
    ret: str = ""
    eight_bit: int = SEVEN_BIT


@dataclass(slots=True)
class Row:
    """One recipient of one message, as it was when it was read. Times in epoch seconds."""

    message: int
    queue_id: str
    reverse_path: str
    account: int | None
    envid: str
    ret: str
    eight_bit: int
    created: int
    size: int
    recipient: str
    next_hop: str
    notify: str
    orcpt: str
    held: int
    attempts: int
    next_try: int
    expires: int
    warn_at: int
    owner: str
    sending: bool
    host: str
    reply: str


@dataclass(slots=True)
class Selection:
    """Which rows a command means; an empty field means any."""

    queue_id: str = ""
    address: str = ""
    """Of the sender or a recipient."""
    domain: str = ""
    """Of a recipient."""
    older_than_s: int = 0


AT_ONCE = 0
"""The `next_try` of a row that a person wants to be tried now, whatever is known of its destination."""

FREE, HELD, UNACCEPTED = 0, 1, 2
"""Values of `outgoing.held`: may go; an administrator holds it; its submitter has no answer yet."""

_COLUMNS = (
    "m.id, m.queue_id, m.reverse_path, m.account, m.envid, m.ret, m.eight_bit, m.created,"
    " length(m.octets), o.recipient, o.next_hop, o.notify, o.orcpt, o.held, o.attempts, o.next_try,"
    " o.expires, o.warn_at, o.owner, o.sending, o.host, o.reply"
)

_FROM = " FROM outgoing AS o JOIN outgoing_message AS m ON m.id = o.message"

CANDIDATES_A_ROW = 3
"""Candidates that `choose` gets at either end of the queue for each row that it may take."""

MOST_RECIPIENTS_LEASED = 100
"""Recipients of one message that one lease takes: every server accepts so many (RFC 5321 §4.5.3.1.8)."""


def _oldest(candidates: list[Row], limit: int) -> list[Row]:
    return candidates[:limit]


class OutgoingQueue:
    """The table. The asynchronous functions belong to one event loop; the others block for a short query."""

    def __init__(self, path: Path, *, clock: Callable[[], float], vfs: str | None = None) -> None:
        self._writer = database.open_single(path, "queue", vfs=vfs)
        self._reader = database.open_single(path, "queue", vfs=vfs)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queue")
        self._waiting: list[tuple[Callable[[apsw.Connection], Any], asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def drain(self) -> None:
        """Until all writes that were asked for are done; before `close`, on the loop of the queue."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def close(self) -> None:
        self._thread.shutdown()
        self._writer.close()
        self._reader.close()

    # Group commit

    async def _write(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` in a transaction with others that wait; durable on return. It may run twice."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, future))
        if self._task is None:
            self._task = loop.create_task(self._drain())
        return await asyncio.shield(future)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                works = [work for work, _ in batch]
                results = await loop.run_in_executor(self._thread, _run_batch, self._writer, works)
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():
                        continue
                    if isinstance(result, BaseException):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._task = None

    def write_now(self, work: Callable[[apsw.Connection], T]) -> T:
        """The same without an event loop, for commands. Blocks. Raises Unavailable."""
        (result,) = _run_batch(self._writer, [work])
        if isinstance(result, BaseException):
            raise result
        return result  # type: ignore[no-any-return]

    # In

    async def enqueue(
        self,
        message: OutgoingMessage,
        recipients: Sequence[OutgoingRecipient],
        *,
        lifetime_s: int,
        warn_after_s: int,
        accepted: bool = True,
    ) -> None:
        """Take a message for these recipients, durably. `warn_after_s` 0: no notice of delay. Raises Unavailable.

        Not yet `accepted`, it waits for `accept`, and is dropped at the next start if that never came.
        """
        now_s = int(self._clock())
        warn_at = now_s + warn_after_s if warn_after_s else 0

        def work(connection: apsw.Connection) -> None:
            row: Any = connection.execute(
                "INSERT INTO outgoing_message (queue_id, reverse_path, account, envid, ret, eight_bit, created,"
                " octets) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (
                    message.queue_id,
                    message.reverse_path,
                    message.account,
                    message.envid,
                    message.ret,
                    message.eight_bit,
                    now_s,
                    message.octets,
                ),
            ).fetchone()
            connection.executemany(
                "INSERT OR IGNORE INTO outgoing VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, '', 0, '', '')",
                [
                    (
                        row[0],
                        one.recipient,
                        one.next_hop,
                        one.notify,
                        one.orcpt,
                        FREE if accepted else UNACCEPTED,
                        now_s,
                        now_s + lifetime_s,
                        warn_at,
                    )
                    for one in recipients
                ],
            )

        await self._write(work)

    async def accept(self, queue_id: str) -> None:
        """Let an enqueued message go. Raises Unavailable."""

        def work(connection: apsw.Connection) -> None:
            connection.execute(
                "UPDATE outgoing SET held = ? WHERE held = ? AND message ="
                " (SELECT id FROM outgoing_message WHERE queue_id = ?)",
                (FREE, UNACCEPTED, queue_id),
            )

        await self._write(work)

    async def forget(self, queue_id: str) -> None:
        """Drop an enqueued message that was not accepted after all. Raises Unavailable."""

        def work(connection: apsw.Connection) -> None:
            _drop_unaccepted(connection, "AND m.queue_id = ?", (queue_id,))

        await self._write(work)

    # Work

    async def lease(
        self,
        owner: str,
        lease_s: int,
        *,
        limit: int,
        busy_hops: Sequence[str] = (),
        choose: Callable[[list[Row], int], list[Row]] = _oldest,
    ) -> list[list[Row]]:
        """Take at most `limit` rows that are due, in groups of one message and one hop; of the hops named, only those
        that are to be tried AT_ONCE. The lease ends `lease_s` seconds from now. `choose` picks so many from
        candidates, which are those that are due for longest and those due since lately, without knowing what happened
        before it."""
        now_s = int(self._clock())

        def work(connection: apsw.Connection) -> list[list[Row]]:
            marks = ",".join("?" * len(busy_hops))
            found: dict[tuple[int, str], Row] = {}
            for order in ("ASC", "DESC"):
                for values in connection.execute(
                    f"SELECT {_COLUMNS}{_FROM} WHERE o.held = 0 AND o.next_try <= ?"
                    f" AND (o.next_try = {AT_ONCE} OR o.next_hop NOT IN ({marks})) ORDER BY o.next_try {order} LIMIT ?",
                    (now_s, *busy_hops, CANDIDATES_A_ROW * limit),
                ):
                    row = Row(*values)
                    found[row.message, row.recipient] = row
                if len(found) < CANDIDATES_A_ROW * limit:
                    break
            groups: dict[tuple[int, str], list[Row]] = {}
            for row in choose(list(found.values()), limit):
                group = groups.setdefault((row.message, row.next_hop), [])
                if len(group) < MOST_RECIPIENTS_LEASED:
                    group.append(row)
            connection.executemany(
                "UPDATE outgoing SET owner = ?, next_try = ?, sending = 0 WHERE message = ? AND recipient = ?",
                [
                    (owner, now_s + lease_s, row.message, row.recipient)
                    for group in groups.values()
                    for row in group
                ],
            )
            return list(groups.values())

        return await self._write(work)

    async def renew(
        self, owner: str, rows: Sequence[Row], lease_s: int, *, sending: bool = False
    ) -> bool:
        """Renew a lease, noting with `sending` that the final dot comes now. False: it was lost, so do not send."""
        now_s = int(self._clock())

        def work(connection: apsw.Connection) -> bool:
            renewed = 0
            for row in rows:
                connection.execute(
                    "UPDATE outgoing SET next_try = max(next_try, ?), sending = max(sending, ?)"
                    " WHERE message = ? AND recipient = ? AND owner = ? AND next_try > ?",
                    (now_s + lease_s, sending, row.message, row.recipient, owner, now_s),
                )
                renewed += connection.changes()
            return renewed == len(rows)

        return await self._write(work)

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

    async def finish(self, owner: str, rows: Sequence[Row]) -> None:
        """These recipients are done with (delivered or bounced); the message goes with the last of them."""

        def work(connection: apsw.Connection) -> None:
            for row in rows:
                connection.execute(
                    "DELETE FROM outgoing WHERE message = ? AND recipient = ? AND owner = ?",
                    (row.message, row.recipient, owner),
                )
            _drop_empty(connection, {row.message for row in rows})

        await self._write(work)

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

        await self._write(work)

    async def warned(self, rows: Sequence[Row]) -> None:
        """The notice of delay for these was sent."""

        def work(connection: apsw.Connection) -> None:
            connection.executemany(
                "UPDATE outgoing SET warn_at = 0 WHERE message = ? AND recipient = ?",
                [(row.message, row.recipient) for row in rows],
            )

        await self._write(work)

    async def take_up(self) -> None:
        """At start: rows that an earlier process had leased are due now; what it did not accept goes."""
        now_s = int(self._clock())

        def work(connection: apsw.Connection) -> None:
            _drop_unaccepted(connection, "", ())
            connection.execute(
                "UPDATE outgoing SET owner = '', next_try = ? WHERE owner != ''", (now_s,)
            )

        await self._write(work)

    async def reroute(self, next_hop_of: Callable[[str], str]) -> None:
        """Give every recipient (an address) the next hop that the present configuration says."""

        def work(connection: apsw.Connection) -> None:
            rows: list[Any] = connection.execute(
                "SELECT message, recipient, next_hop FROM outgoing"
            ).fetchall()
            connection.executemany(
                "UPDATE outgoing SET next_hop = ? WHERE message = ? AND recipient = ?",
                [
                    (next_hop_of(recipient), message, recipient)
                    for message, recipient, next_hop in rows
                    if next_hop_of(recipient) != next_hop
                ],
            )

        await self._write(work)

    def data_version(self) -> int:
        """Changes whenever the table was changed, by whomever."""
        return int(self._reader.pragma("data_version"))

    def octets(self, message: int) -> bytes:
        """The message itself. Raises Unavailable, also when it was removed meanwhile."""
        row = self._read("SELECT octets FROM outgoing_message WHERE id = ?", message)
        if not row:
            raise Unavailable("the message was removed from the queue")
        return bytes(row[0][0])

    def next_due(self) -> int | None:
        """When the next row that is not held is due (epoch seconds); None: nothing waits."""
        row = self._read("SELECT min(next_try) FROM outgoing WHERE held = 0")
        return row[0][0] if row else None

    # For people

    def rows(self, selection: Selection, limit: int = -1) -> list[Row]:
        """Rows by age of their message, then recipient. Raises Unavailable."""
        where, values = self._where(selection)
        return [
            Row(*row)
            for row in self._read(
                f"SELECT {_COLUMNS}{_FROM} WHERE {where} ORDER BY m.id, o.recipient LIMIT ?",
                *values,
                limit,
            )
        ]

    def count(self) -> tuple[int, int]:
        """(messages, recipients) that wait."""
        (row,) = self._read(
            "SELECT (SELECT count(*) FROM outgoing_message), (SELECT count(*) FROM outgoing)"
        )
        return row[0], row[1]

    def set_held(self, selection: Selection, *, held: bool) -> int:
        """Hold rows or let them go; returns how many changed. Blocks."""
        where, values = self._where(selection)

        def work(connection: apsw.Connection) -> int:
            connection.execute(
                f"UPDATE outgoing SET held = ? WHERE held = ? AND (message, recipient) IN"
                f" (SELECT o.message, o.recipient{_FROM} WHERE {where})",
                (HELD if held else FREE, FREE if held else HELD, *values),
            )
            return connection.changes()

        return self.write_now(work)

    def retry(self, selection: Selection) -> int:
        """Make rows due now that nobody works on, also where their destination is given a rest; returns how many.
        Blocks."""
        where, values = self._where(selection)

        def work(connection: apsw.Connection) -> int:
            connection.execute(
                "UPDATE outgoing SET next_try = ? WHERE owner = '' AND (message, recipient) IN"
                f" (SELECT o.message, o.recipient{_FROM} WHERE {where})",
                (AT_ONCE, *values),
            )
            return connection.changes()

        return self.write_now(work)

    def remove(self, selection: Selection) -> int:
        """Delete rows, without a bounce; returns how many. An attempt under way is stopped before its final dot.
        Blocks."""
        where, values = self._where(selection)

        def work(connection: apsw.Connection) -> int:
            found: list[Any] = connection.execute(
                f"SELECT o.message, o.recipient{_FROM} WHERE {where}", values
            ).fetchall()
            connection.executemany(
                "DELETE FROM outgoing WHERE message = ? AND recipient = ?", found
            )
            _drop_empty(connection, {row[0] for row in found})
            return len(found)

        return self.write_now(work)

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
            values.append(int(self._clock()) - selection.older_than_s)
        return " AND ".join(conditions), tuple(values)

    def _read(self, sql: str, *values: str | int) -> list[Any]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise database.unavailable(error) from error


def _drop_unaccepted(connection: apsw.Connection, which: str, values: tuple[str, ...]) -> None:
    found: list[Any] = connection.execute(
        f"SELECT o.message, o.recipient{_FROM} WHERE o.held = {UNACCEPTED} {which}", values
    ).fetchall()
    connection.executemany("DELETE FROM outgoing WHERE message = ? AND recipient = ?", found)
    _drop_empty(connection, {row[0] for row in found})


def _drop_empty(connection: apsw.Connection, messages: set[int]) -> None:
    """Delete messages that have no recipient left."""
    connection.executemany(
        "DELETE FROM outgoing_message WHERE id = ?"
        " AND NOT EXISTS (SELECT 1 FROM outgoing WHERE message = outgoing_message.id)",
        [(message,) for message in messages],
    )


def _run_batch(
    connection: apsw.Connection, works: Sequence[Callable[[apsw.Connection], Any]]
) -> list[Any]:
    """Results or exceptions of `works`, done in one transaction, or one by one where that is lost. Blocks."""
    results: list[Any] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [work(connection) for work in works]
        connection.execute("COMMIT")
    except Exception as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if len(works) > 1:
            return [result for work in works for result in _run_batch(connection, [work])]
        return [database.unavailable(error) if isinstance(error, apsw.Error) else error]
    return results
