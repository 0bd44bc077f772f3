"""What is done with the results of attempts: rows leave the queue or wait for the next try, and senders are told.

A report to the sender is durable before its rows leave the queue, so a crash in between tells the sender twice rather
than never. Reports go out with the null path and are never answered by another (RFC 5321 §6.1, RFC 3461 §6.1).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import Failure
from pillarbox.core.said import ADDRESS, Said
from pillarbox.core.tally import Tally
from pillarbox.dsn.build import Reported
from pillarbox.dsn.wishes import Action, wants
from pillarbox.outbound.translate import gist, translate
from pillarbox.queue.notice import About, Notices
from pillarbox.queue.schedule import GiveUp, Random, Retry, Schedule, after_failure, wait_s
from pillarbox.smtp.client_events import Kind, Outcome
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import Row
from pillarbox.trace.events import Attempt, Result
from pillarbox.trace.recorder import Recorder

TRIED_IN_VAIN = (
    "It was tried again and again until now, and is not tried any more."
    " Send it again later, or reach the recipient in another way."
)

LONGEST_TOLD = 1000
"""Characters of a reply, for the trace."""

log = logging.getLogger("pillarbox.queue")


@dataclass(slots=True)
class QueueReporter:
    """The `worker.Reporter` of a server."""

    queue: OutgoingQueue
    notices: Notices
    schedule: Schedule
    clock: Callable[[], float]
    random: Random
    tally: Tally = field(default_factory=Tally)
    recorder: Recorder = field(default_factory=Recorder)

    async def report(
        self,
        owner: str,
        rows: Sequence[Row],
        outcomes: Sequence[Outcome],
        host: str,
        tls: str = "",
    ) -> None:
        """`rows` are of one message; `tls` is the version under which they went. Raises Unavailable: then the leases
        end by themselves."""
        results = list(zip(rows, outcomes, strict=True))
        told: list[Result] = []
        delivered = [row for row, outcome in results if outcome.kind is Kind.DELIVERED]
        for row, outcome in results:
            if outcome.kind is Kind.DELIVERED:
                self._log(row, "delivered", host, _text(outcome))
                told.append(_result(row, outcome, "delivered"))
        if delivered:
            # First of all, but for the one report that needs the message: whether it can be made or not, what went
            # out must not go again.
            relayed = [pair for pair in results if _is_relayed(*pair)]
            if relayed:
                await self._tell(relayed, host, Action.RELAYED)
            self.queue.finish_soon(owner, delivered)
            self._note_delivered(delivered)
        failed: list[tuple[Row, Outcome]] = []
        delayed: list[tuple[Row, Outcome]] = []
        for row, outcome in results:
            if outcome.kind is not Kind.DELIVERED:
                self._count(outcome)
            if outcome.kind is Kind.PERMANENT:
                self.tally.attempts["failed"] += 1
                self._log(row, "permanent", host, _explained(outcome))
                failed.append((row, outcome))
                told.append(_result(row, outcome, "failed"))
            elif outcome.kind is Kind.TEMPORARY:
                step = self._next_step(row)
                if isinstance(step, GiveUp):
                    self.tally.attempts["expired"] += 1
                    self._log(row, "expired", host, _explained(outcome))
                    failed.append((row, outcome))
                    told.append(_result(row, outcome, "expired"))
                    continue
                self.tally.attempts["deferred"] += 1
                if step.warn:
                    delayed.append((row, outcome))
                await self._defer(owner, row, step.at, host, outcome)
                told.append(_result(row, outcome, "deferred", int(step.at)))
        if told:
            self.recorder.add(Attempt(rows[0].queue_id, host, tls, told))
        if failed:
            await self._fail(owner, failed, host)
        if delayed and await self._tell(delayed, host, Action.DELAYED):
            await self.queue.warned([row for row, _ in delayed])

    def _note_delivered(self, rows: Sequence[Row]) -> None:
        self.tally.attempts["delivered"] += len(rows)
        now = self.clock()
        for row in rows:
            self.tally.queue_seconds.observe(max(0.0, now - row.created))

    def _count(self, outcome: Outcome) -> None:
        if outcome.from_peer and translate(outcome.reply) is None:
            self.queue.unknown_replies.add(gist(outcome.reply))

    def _next_step(self, row: Row) -> Retry | GiveUp:
        return after_failure(
            self.schedule,
            created=row.created,
            now=self.clock(),
            attempts=row.attempts + 1,
            warned=not row.warn_at,
            random=self.random,
        )

    async def _defer(self, owner: str, row: Row, at: float, host: str, outcome: Outcome) -> None:
        self._log(
            row,
            f"deferred until {datetime.fromtimestamp(int(at), UTC):%Y-%m-%d %H:%M:%SZ}",
            host,
            _explained(outcome),
        )
        await self.queue.defer(owner, [row], int(at), host, _text(outcome))

    async def _fail(self, owner: str, failed: Sequence[tuple[Row, Outcome]], host: str) -> None:
        """Tell the sender and let the rows go; while nobody can be told, they wait like after a temporary failure."""
        if await self._tell(failed, host, Action.FAILED):
            await self.queue.finish(owner, [row for row, _ in failed])
            return
        for row, outcome in failed:
            again_s = wait_s(self.schedule, row.attempts + 1, self.random)
            await self._defer(owner, row, self.clock() + again_s, host, outcome)

    def _reported(self, row: Row, outcome: Outcome, host: str, action: Action) -> Reported:
        reply = outcome.reply
        meaning = translate(reply)
        status = reply.enhanced or f"{reply.code // 100}.0.0"
        explanation = str(meaning) if meaning is not None else ""
        if action is Action.FAILED and outcome.kind is Kind.TEMPORARY:
            status = "4.4.7"  # RFC 3463 §3.5: delivery time expired
            cause = f"{meaning.cause.value}\n" if meaning is not None else ""
            explanation = cause + TRIED_IN_VAIN
        return Reported(
            row.recipient,
            action,
            status,
            row.notify,
            row.orcpt,
            remote_mta=host.partition(" ")[0] if outcome.from_peer else "",
            diagnostic=_text(outcome),
            explanation=explanation,
            last_attempt=pack_date(int(self.clock())),
            retry_until=pack_date(row.expires) if action is Action.DELAYED else 0,
        )

    async def _tell(
        self, results: Sequence[tuple[Row, Outcome]], host: str, action: Action
    ) -> bool:
        """Whether the sender is told, or need not be. False: that cannot be done now."""
        row = results[0][0]
        told = [self._reported(one, outcome, host, action) for one, outcome in results]
        try:
            await self.notices.tell(
                About(
                    row.queue_id,
                    row.reverse_path,
                    self.queue.octets(row.message),
                    pack_date(row.created),
                    row.envid,
                    row.ret,
                ),
                told,
            )
        except Failure as failure:
            log.error("id=%s: the sender cannot be told now: %s", row.queue_id, failure.told)
            return False
        except Exception:
            log.exception("id=%s: a bug in reports", row.queue_id)
            return False
        return True

    def _log(self, row: Row, what: str, host: str, text: str) -> None:
        log.info(
            "id=%s to=<%s> host=%s attempt=%d: %s (%s)",
            row.queue_id,
            Said(row.recipient, ADDRESS),
            host or "-",
            row.attempts + 1,
            what,
            text,
        )


def _result(row: Row, outcome: Outcome, what: str, next_try: int = 0) -> Result:
    """For the trace."""
    reply = outcome.reply
    return Result(
        row.recipient,
        what,
        outcome.stage.value,
        reply.code,
        reply.enhanced,
        reply.text[:LONGEST_TOLD],
        outcome.from_peer,
        row.attempts + 1,
        next_try,
    )


def _is_relayed(row: Row, outcome: Outcome) -> bool:
    """Whether success was to be told, and nobody else will (RFC 3461 §5.2.2 b)."""
    return (
        outcome.kind is Kind.DELIVERED
        and not outcome.dsn
        and bool(row.notify)
        and wants(row.notify, Action.RELAYED)
    )


def _explained(outcome: Outcome) -> str:
    """For the log: the reply, and what it means if that is known."""
    meaning = translate(outcome.reply)
    return f"{_text(outcome)}; {meaning.cause.value}" if meaning is not None else _text(outcome)


def _text(outcome: Outcome) -> str:
    """The reply with its codes; lines parted by "\\n"."""
    reply = outcome.reply
    return " ".join(part for part in (str(reply.code), reply.enhanced, reply.text) if part)
