"""The queue worker: leases what is due, groups it by next hop, and sends it over few, reused sessions.

A hop has a few sessions at a time and a short line of groups that wait for them, so a destination that is dead or
slow holds up nobody else. Every group of recipients ends in exactly one report. The lease is renewed while an attempt
goes on and once more before the final dot: an attempt that lost it does not send. What cannot be known is whether a
peer has a message whose final dot was answered by silence: then it is sent again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pillarbox.core.address import Address
from pillarbox.core.errors import Failure
from pillarbox.outbound.route import Route
from pillarbox.outbound.session import HostSession, TlsContexts, open_session
from pillarbox.queue.schedule import (
    Destination,
    Pressure,
    Random,
    Waiting,
    after_delivery,
    after_no_session,
    choose,
)
from pillarbox.smtp.client_events import (
    Envelope,
    Kind,
    Outcome,
    Recipient,
    Stage,
)
from pillarbox.smtp.reply import Reply
from pillarbox.store.outgoing import OutgoingQueue, Row

MOST_SESSIONS = 60
MOST_HOPS_REMEMBERED = 10_000
GROUPS_A_HOP = 40
"""Groups that wait in line for one hop; more stay in the table, for their leases would end."""
LEASED_AT_ONCE = 200

LEASE_S = 300
DOT_LEASE_S = 700
"""The lease from the final dot on: longer than its answer may take (RFC 5321 §4.5.3.2.6, 10 minutes)."""

LOOK_EVERY_S = 30.0
"""The table is looked at as often as this, whether a hint came or not."""

LINGER_S = 1.0
"""A session without work waits so long for more."""

log = logging.getLogger("pillarbox.queue")


DEFAULT_PRESSURE = Pressure()

FindRoute = Callable[[str], Awaitable[Route | Outcome]]
"""For a next hop: a route, or why there is none (for now, or at all)."""


class Reporter(Protocol):
    """What is done with results: rows leave the table or are deferred, senders are told."""

    async def report(
        self, owner: str, rows: Sequence[Row], outcomes: Sequence[Outcome], host: str
    ) -> None:
        """`outcomes` has one entry for each row. Raises Unavailable: then the leases end by themselves."""


@dataclass(slots=True)
class _Hop:
    name: str
    state: Destination
    groups: deque[list[Row]] = field(default_factory=deque)
    sessions: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)


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
    ) -> None:
        self._queue = queue
        self._find_route = find_route
        self._reporter = reporter
        self._contexts = contexts
        self._owner = owner
        self._clock = clock
        self._random = random
        self._pressure = pressure
        self._hops: dict[str, _Hop] = {}
        self._sessions: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """On the loop of the queue."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Drop all attempts: what was not answered stays in the table, for the next start."""
        tasks = [*self._sessions, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def hint(self) -> None:
        """Something was put into the queue, or its rows were changed."""
        self._wake.set()

    # Handing out

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                while await self._lease():
                    continue
                await self._sleep(self._nap_s(), self._queue.data_version())
            except Failure as failure:
                log.error("the queue cannot be read: %s", failure.text)
                await asyncio.sleep(LOOK_EVERY_S)
            except Exception:
                log.exception("a bug in the queue worker")
                await asyncio.sleep(LOOK_EVERY_S)

    async def _sleep(self, seconds: float, version: int) -> None:
        """Until a hint, or a change of the table by a command, but at most so long."""
        end = self._clock() + seconds
        while self._clock() < end:
            try:
                async with asyncio.timeout(min(1.0, max(0.01, end - self._clock()))):
                    await self._wake.wait()
                    return
            except TimeoutError:
                if self._queue.data_version() != version:
                    return

    def _nap_s(self) -> float:
        """How long to sleep when nothing could be taken: until something is due, or a paused hop may be tried."""
        now = self._clock()
        due = self._queue.next_due()
        if due is None:
            return LOOK_EVERY_S
        if due <= now:
            pauses = [hop.state.paused_until - now for hop in self._hops.values()]
            wait = min((pause for pause in pauses if pause > 0), default=0.0)
        else:
            wait = due - now
        return min(LOOK_EVERY_S, max(1.0, wait))

    async def _lease(self) -> bool:
        """Take some groups and see that somebody serves them; False when there are none, or enough wait here."""
        self._staff()
        if sum(len(hop.groups) for hop in self._hops.values()) > LEASED_AT_ONCE // 2:
            return False
        now = self._clock()
        busy = [
            name
            for name, hop in self._hops.items()
            if len(hop.groups) >= GROUPS_A_HOP or hop.state.paused_until > now
        ]
        groups = await self._queue.lease(
            self._owner, LEASE_S, limit=LEASED_AT_ONCE, busy_hops=busy, choose=_in_turn
        )
        for group in groups:
            name = group[0].next_hop
            hop = self._hops.get(name)
            if hop is None:
                hop = self._hops[name] = _Hop(name, Destination(self._pressure.first_sessions))
            hop.groups.append(group)
            hop.more.set()
        self._staff()
        return bool(groups)

    def _staff(self) -> None:
        """Open as many sessions as the hops with work may have."""
        now = self._clock()
        for hop in self._hops.values():
            while (
                hop.sessions < len(hop.groups)
                and len(self._sessions) < MOST_SESSIONS
                and hop.state.room(hop.sessions, now)
            ):
                hop.sessions += 1
                task = asyncio.get_running_loop().create_task(self._serve(hop))
                self._sessions.add(task)
                task.add_done_callback(self._sessions.discard)

    # Sending

    async def _serve(self, hop: _Hop) -> None:
        """Send the hop's groups one after the other over one session as long as there are any."""
        session: HostSession | None = None
        try:
            while await self._has_work(hop, session):
                group = hop.groups.popleft()
                try:
                    session = await self._send(hop, group, session)
                except Failure as failure:
                    log.error("id=%s: %s", group[0].queue_id, failure.text)
        finally:
            hop.sessions -= 1
            self._forget_idle_hops()
            self._wake.set()
            if session is not None:
                await session.close()

    def _forget_idle_hops(self) -> None:
        """What is known of a destination is kept while there is room, for a pause outlives its sessions."""
        if len(self._hops) > MOST_HOPS_REMEMBERED:
            now = self._clock()
            for name, hop in list(self._hops.items()):
                if not hop.sessions and not hop.groups and hop.state.paused_until <= now:
                    del self._hops[name]

    async def _has_work(self, hop: _Hop, session: HostSession | None) -> bool:
        if hop.groups:
            return True
        if session is None or not session.usable:
            return False
        hop.more.clear()
        self._wake.set()  # there may be more in the table
        try:
            async with asyncio.timeout(LINGER_S):
                await hop.more.wait()
        except TimeoutError:
            return False
        return bool(hop.groups)

    async def _send(
        self, hop: _Hop, rows: list[Row], session: HostSession | None
    ) -> HostSession | None:
        """Send one group and report it; returns the session if it can be used again."""
        keeper = asyncio.get_running_loop().create_task(self._keep_lease(rows))
        try:
            while rows:
                if session is None or not session.usable:
                    opened = await self._open(hop)
                    if isinstance(opened, Outcome):
                        if opened.kind is Kind.TEMPORARY:
                            hop.state = after_no_session(
                                hop.state, self._pressure, self._clock(), self._random
                            )
                        await self._give_up_hop(hop, rows, opened)
                        return None
                    session = opened
                outcomes = await self._transfer(session, rows)
                if session.messages > 1 and _was_stale(outcomes):
                    await session.close()
                    session = None
                    continue  # the peer had closed a session that we kept: that says nothing of this message
                if any(one.kind is Kind.DELIVERED for one in outcomes):
                    hop.state = after_delivery(hop.state, self._pressure)
                again = [one.too_many_recipients for one in outcomes]
                done = [index for index, more in enumerate(again) if not more]
                if not done:
                    done = list(range(len(rows)))
                await self._reporter.report(
                    self._owner,
                    [rows[index] for index in done],
                    [outcomes[index] for index in done],
                    str(session.host),
                )
                rows = [row for index, row in enumerate(rows) if index not in done]
        finally:
            keeper.cancel()
        return session

    async def _transfer(self, session: HostSession, rows: list[Row]) -> list[Outcome]:
        queue, first = self._queue, rows[0]
        octets = queue.octets(first.message)

        async def before_dot() -> bool:
            return await queue.renew(self._owner, rows, DOT_LEASE_S, sending=True)

        envelope = Envelope(
            _address(first.reverse_path) if first.reverse_path else None,
            [Recipient(_address(row.recipient), row.notify, row.orcpt) for row in rows],
            len(octets),
            eight_bit=first.eight_bit,
            ret=first.ret,
            envid=first.envid,
        )
        try:
            return await session.send(envelope, octets, before_dot)
        except ValueError as error:
            reply = Reply(553, "5.1.3", f"The address cannot be sent by SMTP: {error}")
            return [Outcome(Kind.PERMANENT, Stage.CHECK, reply, from_peer=False)] * len(rows)

    async def _keep_lease(self, rows: list[Row]) -> None:
        """Long attempts hold their lease until the dot."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            if not await self._queue.renew(self._owner, rows, LEASE_S):
                return

    async def _open(self, hop: _Hop) -> HostSession | Outcome:
        """A session with the first host of the route that takes one (RFC 5321 §5.1)."""
        route = await self._find_route(hop.name)
        if isinstance(route, Outcome):
            return route
        outcome = None
        for host in route.hosts:
            result = await open_session(host, route.options, self._contexts)
            if isinstance(result, HostSession):
                return result
            outcome = result
            log.info("hop=%s host=%s: %d %s", hop.name, host, result.reply.code, result.reply.text)
        if outcome is None:
            reply = Reply(
                451, "4.4.4", "no server of the destination has an address that can be used"
            )
            return Outcome(Kind.TEMPORARY, Stage.GREETING, reply, from_peer=False)
        # A host that refuses all mail may be wrong: others of the domain count (RFC 5321 §5.1), and tomorrow too.
        return Outcome(Kind.TEMPORARY, outcome.stage, outcome.reply, outcome.from_peer)

    async def _give_up_hop(self, hop: _Hop, rows: list[Row], outcome: Outcome) -> None:
        """What is said of a destination counts for all that waits for it."""
        groups = [rows, *hop.groups]
        hop.groups.clear()
        for group in groups:
            await self._reporter.report(self._owner, group, [outcome] * len(group), "")


def _in_turn(candidates: list[Row], limit: int) -> list[Row]:
    """Senders take turns, and new mail has its share (`schedule.choose`)."""
    due = [
        Waiting(index, row.reverse_path, row.created, row.attempts)
        for index, row in enumerate(candidates)
    ]
    return [candidates[index] for index in choose(due, limit)]


def _was_stale(outcomes: Sequence[Outcome]) -> bool:
    """Whether a session ended before the peer said anything about the message."""
    return all(
        not one.from_peer and one.stage in (Stage.IDLE, Stage.RSET, Stage.MAIL) for one in outcomes
    )


def _address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain)
