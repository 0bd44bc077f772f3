"""One attempt of the queue worker: a session with a host of the route, and a group of recipients sent over it. What
becomes of the rows is not decided here."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pillarbox.core.address import Address
from pillarbox.outbound.route import Route
from pillarbox.outbound.session import HostSession, TlsContexts, open_session
from pillarbox.queue.hop import Line
from pillarbox.smtp.client_events import Envelope, Kind, Outcome, Recipient, Stage
from pillarbox.smtp.reply import Reply
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import SEVEN_BIT, UTF8_HEADER, Row
from pillarbox.trace.events import HostFailed
from pillarbox.trace.recorder import Recorder

DOT_LEASE_S = 700
"""The lease from the final dot on: longer than its answer may take (RFC 5321 §4.5.3.2.6, 10 minutes)."""

FindRoute = Callable[[str], Awaitable[Route | Outcome]]
"""For a next hop: a route, or why there is none (for now, or at all)."""

log = logging.getLogger("pillarbox.queue")


@dataclass(slots=True, frozen=True)
class NoSession:
    """Why a destination takes no session."""

    outcome: Outcome
    host: str = ""
    """The one that was tried last; "" where there was none to try."""


@dataclass(slots=True, frozen=True)
class Opener:
    """Opens sessions with destinations."""

    find_route: FindRoute
    contexts: TlsContexts
    recorder: Recorder

    async def open(self, line: Line, queue_id: str) -> HostSession | NoSession:
        """A session with the first host of the route that takes one (RFC 5321 §5.1), in place of the last."""
        hop = line.hop
        await line.hang_up()
        route = await self.find_route(hop.name)
        if isinstance(route, Outcome):
            return NoSession(route)
        outcome, tried = None, ""
        for host in route.hosts:
            result = await open_session(host, route.options, self.contexts)
            if isinstance(result, HostSession):
                line.pick_up(result)
                return result
            outcome, tried = result, str(host)
            reply = result.reply
            log.info("hop=%s host=%s: %d %s", hop.name, host, reply.code, reply.text)
            failed = HostFailed(queue_id, tried, reply.code, reply.enhanced, reply.text)
            self.recorder.add(failed)
        if outcome is None:
            reply = Reply(
                451, "4.4.4", "no server of the destination has an address that can be used"
            )
            return NoSession(Outcome(Kind.TEMPORARY, Stage.GREETING, reply, from_peer=False))
        # A host that refuses all mail may be wrong: others of the domain count (RFC 5321 §5.1), and tomorrow too.
        later = Outcome(Kind.TEMPORARY, outcome.stage, outcome.reply, outcome.from_peer)
        return NoSession(later, tried)


async def transfer(
    queue: OutgoingQueue,
    owner: str,
    session: HostSession,
    rows: list[Row],
    dot_comes: Callable[[], None],
) -> list[Outcome] | None:
    """Send a message to the recipients of some of its rows, which `owner` has leased. `dot_comes` is called before the
    final dot goes out. One outcome for each row; None: rows were removed or taken by others, so it was not sent."""
    first = rows[0]
    octets = first.octets
    if octets is None:
        octets = queue.octets(first.message)
    is_ours = True

    async def before_dot() -> bool:
        nonlocal is_ours
        is_ours = await queue.note_sending(owner, rows, DOT_LEASE_S)
        if is_ours:
            dot_comes()
        return is_ours

    envelope = Envelope(
        _address(first.reverse_path) if first.reverse_path else None,
        [Recipient(_address(row.recipient), row.notify, row.orcpt) for row in rows],
        len(octets),
        eight_bit=first.eight_bit != SEVEN_BIT,
        utf8=first.eight_bit == UTF8_HEADER,
        ret=first.ret,
        envid=first.envid,
    )
    try:
        outcomes = await session.send(envelope, octets, before_dot)
        return outcomes if is_ours else None
    except ValueError as error:
        reply = Reply(553, "5.1.3", f"The address cannot be sent by SMTP: {error}")
        return [Outcome(Kind.PERMANENT, Stage.CHECK, reply, from_peer=False)] * len(rows)


def was_stale(outcomes: Sequence[Outcome]) -> bool:
    """Whether a session ended before the peer said anything about the message: 421 is said of the session."""
    return all(
        (not one.from_peer or one.reply.code == 421)
        and one.stage in (Stage.IDLE, Stage.RSET, Stage.MAIL)
        for one in outcomes
    )


def said_421(outcomes: Sequence[Outcome]) -> Outcome | None:
    return next((one for one in outcomes if one.from_peer and one.reply.code == 421), None)


def _address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain)
