"""The queue worker: leases what is due, groups it by next hop, and sends it over few, reused sessions. New mail is
given to it directly (`queue.enqueue`) while it has room and nothing older waits.

A hop has a few sessions at a time and a short line of groups that wait for them, so a destination that is dead or
slow holds up nobody else. Every group of recipients ends in exactly one report. The lease is renewed while an attempt
goes on and once more before the final dot: an attempt that lost it does not send. What cannot be known is whether a
peer has a message whose final dot was answered by silence: then it is sent again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from pillarbox.core.errors import Failure
from pillarbox.outbound.session import HostSession, TlsContexts
from pillarbox.queue.attempt import FindRoute, NoSession, Opener, said_421, transfer, was_stale
from pillarbox.queue.hop import Hop, Line
from pillarbox.queue.schedule import (
    Destination,
    Pressure,
    Random,
    Waiting,
    after_delivery,
    after_no_session,
    choose,
)
from pillarbox.smtp.client_events import Kind, Outcome
from pillarbox.store.outgoing import MOST_RECIPIENTS_LEASED, OutgoingQueue
from pillarbox.store.outgoing_row import AT_ONCE, Row
from pillarbox.trace.recorder import Recorder

MOST_SESSIONS = 1000
MOST_FOR_REPORTS = 200
"""Of these, for hops that only mail with the null path waits for: strangers can make us write reports to hosts of
theirs that never answer, and that must not hold up mail of users."""
MOST_HOPS_REMEMBERED = 10_000
GROUPS_A_HOP = 40
"""Groups that wait in line for one hop; more stay in the table, for their leases would end."""
LEASED_AT_ONCE = 200
GIVEN_UP_AT_ONCE = 50
"""Rows that are deferred in one go where their destination is given a rest."""

LEASE_S = 1200
"""Renewed often enough that it rarely has to be before a final dot."""
MOST_TAKEN_OCTETS = 64 * 1024
MOST_HELD_OCTETS = 64 * 1024 * 1024
"""New mail is taken without the table while it is small, and while all that is taken fits into this."""

STOP_S = 10.0
"""A stop waits so long for the answers to final dots: what is not answered then is sent again."""
STOP_QUIT_S = 1.0

REPORT_AGAIN_S = (1.0, 5.0, 30.0)
"""Waits between attempts to note a result."""

LOOK_EVERY_S = 30.0
"""The table is looked at as often as this, whether a hint came or not."""

CHANGES_EVERY_S = 1.0
"""So often it is looked whether a command has changed the table."""

MOVING_S = 2.0
"""A destination that took nothing for so long does not move."""

LINGER_S = 1.0
"""A session without work waits so long for more."""

log = logging.getLogger("pillarbox.queue")


DEFAULT_PRESSURE = Pressure()


class Reporter(Protocol):
    """What is done with results: rows leave the table or are deferred, senders are told."""

    async def report(
        self,
        owner: str,
        rows: Sequence[Row],
        outcomes: Sequence[Outcome],
        host: str,
        tls: str = "",
    ) -> None:
        """`outcomes` has one entry for each row; `tls` is the version that the session had. Raises Unavailable: then
        the leases end by themselves."""


class QueueWorker:
    """One for each process; `owner` names it in leases."""

    def __init__(
        self,
        queue: OutgoingQueue,
        find_route: FindRoute,
        reporter: Reporter,
        contexts: TlsContexts,
        *,
        owner: str,
        clock: Callable[[], float],
        random: Random,
        pressure: Pressure = DEFAULT_PRESSURE,
        recorder: Recorder | None = None,
    ) -> None:
        self.owner = owner
        self.lease_s = LEASE_S
        self._queue = queue
        self._reporter = reporter
        self._opener = Opener(find_route, contexts, recorder or Recorder())
        self._clock = clock
        self._random = random
        self._pressure = pressure
        self._hops: dict[str, Hop] = {}
        self._sessions: set[asyncio.Task[None]] = set()
        self._for_reports: set[asyncio.Task[None]] = set()
        self._finishing: set[asyncio.Task[object]] = set()
        """Sessions behind a final dot, or at a report: a stop waits for them, else they would be sent or told twice."""
        self._held: dict[tuple[int, str], Row] = {}
        """Rows that are waiting or being sent here, by message and recipient: a lease of ours that ended and was taken
        anew must not make them two."""
        self._held_octets = 0
        self._behind = True
        """There may be rows in the table that are due and were not taken: they are older than what comes in."""
        self._passed_over: set[str] = set()
        """Hops for which there may be some, though not for others."""
        self._stopping = False
        self._sweeping = False
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """On the loop of the queue."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._keep_leases())]

    async def stop(self) -> None:
        """Drop all attempts, but wait a little for those whose final dot is sent, and for reports: what was not
        answered stays in the table, for the next start."""
        self._stopping = True
        for task in (*self._tasks, *(self._sessions - self._finishing)):
            task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=STOP_S)
        rest = [*self._sessions, *self._tasks]
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)

    def hint(self) -> None:
        """Something was put into the queue, or its rows were changed."""
        self._behind = True
        self._wake.set()

    @property
    def in_hand(self) -> int:
        """How many recipients it has leased and not yet let go: what became of them may be in the table already."""
        return len(self._held)

    # New mail

    def has_room(self, size: int, next_hops: Sequence[str]) -> bool:
        """Whether a new message of so many octets may be leased to this worker and given to `take`."""
        if self._stopping or self._behind or size > MOST_TAKEN_OCTETS:
            return False
        if self._held_octets + size > MOST_HELD_OCTETS:
            return False
        now = self._clock()
        for name in next_hops:
            hop = self._hops.get(name)
            if hop is not None and (name in self._passed_over or self._is_busy(hop, now)):
                return False
        return True

    def take(self, rows: list[Row]) -> None:
        """Send these, of one message, which are leased to this worker."""
        if len(rows) == 1:
            self._put(rows)
            return
        hops: dict[str, list[Row]] = {}
        for row in rows:
            hops.setdefault(row.next_hop, []).append(row)
        for group in hops.values():
            for start in range(0, len(group), MOST_RECIPIENTS_LEASED):
                self._put(group[start : start + MOST_RECIPIENTS_LEASED])

    # Handing out

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                version = self._queue.data_version()
                if not await self._lease():
                    await self._sleep(self._nap_s(), version)
            except Failure as failure:
                log.error("the queue cannot be read: %s", failure.told)
                await asyncio.sleep(LOOK_EVERY_S)
            except Exception:
                log.exception("a bug in the queue worker")
                await asyncio.sleep(LOOK_EVERY_S)

    async def _sleep(self, seconds: float, version: int) -> None:
        """Until a hint, or a change of the table by a command, but at most so long."""
        end = self._clock() + seconds
        while self._clock() < end:
            try:
                async with asyncio.timeout(min(CHANGES_EVERY_S, max(0.01, end - self._clock()))):
                    await self._wake.wait()
                    return
            except TimeoutError:
                if self._queue.data_version() != version:
                    return

    def _nap_s(self) -> float:
        """How long to sleep when nothing could be taken: until something is due, or a paused hop may be tried."""
        now = self._clock()
        due = self._queue.next_due()
        is_due = due is not None and due <= now
        waits = [
            hop.state.paused_until - now for hop in self._hops.values() if hop.groups or is_due
        ]
        if due is not None:
            waits.append(due - now)
        return min(
            LOOK_EVERY_S,
            max(
                1.0,
                min((wait for wait in waits if wait > 0), default=1.0 if is_due else LOOK_EVERY_S),
            ),
        )

    async def _lease(self) -> bool:
        """Take some groups and see that somebody serves them; False when there are none, or enough wait here."""
        self._staff()
        now = self._clock()
        self._behind = False
        due = self._queue.next_due()
        if due is None or due > now:
            self._passed_over.clear()
            return False
        self._behind = True
        # Those that wait for a destination that does not move do not count: they must not hold up others.
        moving = (hop for hop in self._hops.values() if now - hop.moved_at < MOVING_S)
        if sum(len(hop.groups) for hop in moving) > LEASED_AT_ONCE // 2:
            return False
        busy = [name for name, hop in self._hops.items() if self._is_busy(hop, now)]
        groups = await self._queue.lease(
            self.owner, LEASE_S, limit=LEASED_AT_ONCE, busy_hops=busy, choose=_in_turn
        )
        for group in groups:
            fresh = [row for row in group if (row.message, row.recipient) not in self._held]
            if fresh:
                self._put(fresh)
        if not groups:
            self._behind = False
            self._passed_over = set(busy)
        return bool(groups)

    def _is_busy(self, hop: Hop, now: float) -> bool:
        """Whether no more should wait for it here."""
        if len(hop.groups) >= GROUPS_A_HOP:
            return True
        return hop.state.paused_until > now and not hop.connected

    def _put(self, group: list[Row]) -> None:
        """Let a group wait in the line of its hop."""
        name = group[0].next_hop
        hop = self._hops.get(name)
        if hop is None:
            hop = self._hops[name] = Hop(name, Destination(self._pressure.first_sessions))
        for row in group:
            if row.next_try == AT_ONCE:
                hop.state = Destination(self._pressure.first_sessions)
            self._held[row.message, row.recipient] = row
            self._held_octets += len(row.octets or b"")
        if not hop.groups:
            hop.moved_at = self._clock()
        hop.groups.append(group)
        if hop.idle:
            _release(hop.idle.pop()[1])
            return
        self._staff_hop(hop, self._clock())

    def _staff(self) -> None:
        """Open as many sessions as the hops with work may have."""
        now = self._clock()
        for hop in self._hops.values():
            if hop.groups:
                self._staff_hop(hop, now)

    def _staff_hop(self, hop: Hop, now: float) -> None:
        while (
            hop.sessions < len(hop.groups)
            and len(self._sessions) < MOST_SESSIONS
            and hop.state.room(hop.sessions, now)
        ):
            only_reports = all(not rows[0].reverse_path for rows in hop.groups)
            if only_reports and len(self._for_reports) >= MOST_FOR_REPORTS:
                return
            hop.sessions += 1
            task = asyncio.get_running_loop().create_task(self._serve(hop))
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)
            if only_reports:
                self._for_reports.add(task)
                task.add_done_callback(self._for_reports.discard)

    # Sending

    async def _serve(self, hop: Hop) -> None:
        """Send the hop's groups one after the other over one session as long as there are any."""
        line = Line(hop, _this_task())
        try:
            while await self._has_work(line):
                rows = hop.groups.popleft()
                try:
                    await self._send(line, rows)
                except Failure as failure:
                    log.error("id=%s: %s", rows[0].queue_id, failure.told)
                except Exception:
                    log.exception("id=%s: a bug in the queue worker", rows[0].queue_id)
        finally:
            hop.sessions -= 1
            self._forget_idle_hops()
            if self._behind or hop.groups or hop.name in self._passed_over:
                self._wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_QUIT_S if self._stopping else None):
                    await line.hang_up()

    def _forget_idle_hops(self) -> None:
        """What is known of a destination is kept while there is room, for a pause outlives its sessions."""
        if len(self._hops) > MOST_HOPS_REMEMBERED:
            now = self._clock()
            for name, hop in list(self._hops.items()):
                if not hop.sessions and not hop.groups and hop.state.paused_until <= now:
                    del self._hops[name]

    async def _has_work(self, line: Line) -> bool:
        hop = line.hop
        if self._stopping:
            return False
        if not line.is_open:
            # Whoever still has a session with a paused destination goes on; nobody opens another.
            return bool(hop.groups) and hop.state.paused_until <= self._clock()
        if hop.groups:
            return True
        if self._behind or hop.name in self._passed_over:
            self._wake.set()
        await self._more(hop)
        return bool(hop.groups) and not self._stopping

    async def _more(self, hop: Hop) -> None:
        """Until there may be another group for an idle session, or LINGER_S or somewhat longer."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        idle = (loop.time(), waiter)
        hop.idle.append(idle)
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(LINGER_S / 4, self._sweep)
        try:
            await waiter
        except asyncio.CancelledError:
            with suppress(ValueError):
                hop.idle.remove(idle)
            raise

    def _sweep(self) -> None:
        """Send sessions home that were idle for long."""
        loop = asyncio.get_running_loop()
        self._sweeping = False
        longest_ago = loop.time() - LINGER_S
        for hop in self._hops.values():
            while hop.idle and hop.idle[0][0] <= longest_ago:
                _release(hop.idle.popleft()[1])
            self._sweeping = self._sweeping or bool(hop.idle)
        if self._sweeping:
            loop.call_later(LINGER_S / 4, self._sweep)

    async def _send(self, line: Line, rows: list[Row]) -> None:
        """Send one group and report it."""
        hop, group = line.hop, rows
        kept = False
        try:
            while rows:
                session = line.session
                if session is None or not session.is_usable():
                    hop.opening += 1
                    try:
                        opened = await self._opener.open(line, rows[0].queue_id)
                    finally:
                        hop.opening -= 1
                    if isinstance(opened, NoSession):
                        kept = await self._no_session(hop, rows, opened)
                        return
                    session = opened
                outcomes = await transfer(
                    self._queue,
                    self.owner,
                    session,
                    rows,
                    lambda: self._finishing.add(line.task),
                )
                if outcomes is None:
                    rows = self._queue.still_leased(self.owner, rows)
                    continue
                if session.messages > 1 and was_stale(outcomes):
                    await line.hang_up()
                    continue  # the peer had closed a session that we kept: that says nothing of this message
                rows = await self._settle(line, session, rows, outcomes)
        finally:
            self._let_go([row for row in group if row not in rows] if kept else group)
            self._finishing.discard(line.task)

    async def _settle(
        self, line: Line, session: HostSession, rows: list[Row], outcomes: list[Outcome]
    ) -> list[Row]:
        """Report what is decided; returns the rows that the peer wants in another transaction."""
        hop = line.hop
        hop.moved_at = now = self._clock()
        delivered = any(one.kind is Kind.DELIVERED for one in outcomes)
        if delivered and hop.state.paused_until <= now:
            hop.state = after_delivery(hop.state, self._pressure)
        again = [one.too_many_recipients for one in outcomes]
        if all(again):
            again = [False] * len(rows)
        self._finishing.add(line.task)
        await self._report(
            [row for row, more in zip(rows, again, strict=True) if not more],
            [one for one, more in zip(outcomes, again, strict=True) if not more],
            session,
        )
        if not delivered and session.messages == 1 and (closing := said_421(outcomes)):
            await self._no_session(hop, [], NoSession(closing, str(session.host)))
        return [row for row, more in zip(rows, again, strict=True) if more]

    async def _report(self, rows: list[Row], outcomes: list[Outcome], session: HostSession) -> None:
        """Nobody else knows what became of these rows, and without a report they are sent again: so a disk that is
        full for a moment is waited for. Raises Unavailable."""
        host, tls = str(session.host), session.tls_version
        for pause_s in REPORT_AGAIN_S:
            try:
                return await self._reporter.report(self.owner, rows, outcomes, host, tls)
            except Failure as failure:
                log.error("id=%s: the result waits: %s", rows[0].queue_id, failure.told)
                await asyncio.sleep(pause_s)
        return await self._reporter.report(self.owner, rows, outcomes, host, tls)

    async def _no_session(self, hop: Hop, rows: list[Row], why: NoSession) -> bool:
        """The destination takes no session, for now or at all. True: other sessions with it work, or may yet, so
        `rows` wait for these, and there are just no more of them for a while."""
        if why.outcome.kind is Kind.TEMPORARY:
            hop.state = after_no_session(hop.state, self._pressure, self._clock(), self._random)
            if hop.connected or hop.opening:
                if rows:
                    hop.groups.appendleft(rows)
                return True
        await self._give_up_hop(hop, rows, why)
        return False

    def _let_go(self, rows: list[Row]) -> None:
        for row in rows:
            held = self._held.pop((row.message, row.recipient), None)
            if held is not None:
                self._held_octets -= len(held.octets or b"")

    async def _keep_leases(self) -> None:
        """What is in hand stays ours, however long it waits or takes."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                await self._queue.renew(self.owner, list(self._held.values()), LEASE_S)
            except Failure as failure:
                log.error("leases cannot be renewed: %s", failure.told)

    async def _give_up_hop(self, hop: Hop, rows: list[Row], why: NoSession) -> None:
        """What is said of a destination counts for all that waits for it, here and, as long as it is given a rest, in
        the table."""
        groups = [rows, *hop.groups] if rows else list(hop.groups)
        hop.groups.clear()
        await self._report_all(groups, why)
        while not self._stopping and not hop.connected and hop.state.paused_until > self._clock():
            groups = await self._queue.lease(
                self.owner, LEASE_S, limit=GIVEN_UP_AT_ONCE, only_hop=hop.name
            )
            if not groups:
                return
            fresh = [
                [row for row in group if (row.message, row.recipient) not in self._held]
                for group in groups
            ]
            await self._report_all([group for group in fresh if group], why)

    async def _report_all(self, groups: list[list[Row]], why: NoSession) -> None:
        self._finishing.add(_this_task())
        for group in groups:
            try:
                if self._stopping:
                    continue  # what was not begun stays in the table
                outcomes = [why.outcome] * len(group)
                await self._reporter.report(self.owner, group, outcomes, why.host)
            except Failure as failure:
                log.error("id=%s: %s", group[0].queue_id, failure.told)
            finally:
                self._let_go(group)


def _in_turn(candidates: list[Row], limit: int) -> list[Row]:
    """Senders take turns, and new mail has its share (`schedule.choose`)."""
    due = [
        Waiting(index, row.reverse_path, row.created, row.attempts)
        for index, row in enumerate(candidates)
    ]
    return [candidates[index] for index in choose(due, limit)]


def _release(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
