"""What is done with the results of attempts: rows leave the queue or wait for the next try, and senders are told.

A report to the sender is durable before its rows leave the queue, so a crash in between tells the sender twice rather
than never. Reports go out with the null path and are never answered by another (RFC 5321 §6.1, RFC 3461 §6.1).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import Failure, Refused
from pillarbox.core.ids import format_queue_id
from pillarbox.delivery.aliases import expand
from pillarbox.delivery.deliver import Delivery, deliver
from pillarbox.dsn.build import Built, Report, Reported, build_report
from pillarbox.dsn.wishes import Action
from pillarbox.outbound.translate import translate
from pillarbox.queue.enqueue import Enqueuer
from pillarbox.queue.schedule import GiveUp, Random, Retry, after_failure, wait_s
from pillarbox.smtp.client_events import Kind, Outcome
from pillarbox.store.content import make_content
from pillarbox.store.directory import canonical_address
from pillarbox.store.outgoing import OutgoingMessage, OutgoingQueue, Row
from pillarbox.store.store import Store

log = logging.getLogger("pillarbox.queue")


@dataclass(slots=True)
class QueueReporter:
    """The `worker.Reporter` of a server."""

    store: Store
    queue: OutgoingQueue
    enqueuer: Enqueuer
    hostname: str
    clock: Callable[[], float]
    random: Random
    entropy: Callable[[], int]
    """20 random bits, for queue ids."""

    async def report(
        self, owner: str, rows: Sequence[Row], outcomes: Sequence[Outcome], host: str
    ) -> None:
        """`rows` are of one message. Raises Unavailable: then the leases end by themselves."""
        results = list(zip(rows, outcomes, strict=True))
        delivered = [row for row, outcome in results if outcome.kind is Kind.DELIVERED]
        for row, outcome in results:
            if outcome.kind is Kind.DELIVERED:
                self._log(row, "delivered", host, _text(outcome))
        if delivered:
            # First of all: what goes wrong with a report must not send these again.
            self.queue.finish_soon(owner, delivered)
        failed: list[tuple[Row, Outcome]] = []
        delayed: list[tuple[Row, Outcome]] = []
        for row, outcome in results:
            if outcome.kind is Kind.PERMANENT:
                self._log(row, "permanent", host, _text(outcome))
                failed.append((row, outcome))
            elif outcome.kind is Kind.TEMPORARY:
                step = self._next_step(row)
                if isinstance(step, GiveUp):
                    self._log(row, "expired", host, _text(outcome))
                    failed.append((row, outcome))
                    continue
                if step.warn:
                    delayed.append((row, outcome))
                await self._defer(owner, row, step.at, host, outcome)
        if failed:
            await self._fail(owner, failed, host)
        if delayed and await self._tell(delayed, host, Action.DELAYED):
            await self.queue.warned([row for row, _ in delayed])

    def _next_step(self, row: Row) -> Retry | GiveUp:
        return after_failure(
            self.enqueuer.schedule,
            created=row.created,
            now=self.clock(),
            attempts=row.attempts + 1,
            warned=not row.warn_at,
            random=self.random,
        )

    async def _defer(self, owner: str, row: Row, at: float, host: str, outcome: Outcome) -> None:
        self._log(row, f"deferred until {int(at)}", host, _text(outcome))
        await self.queue.defer(owner, [row], int(at), host, _text(outcome))

    async def _fail(self, owner: str, failed: Sequence[tuple[Row, Outcome]], host: str) -> None:
        """Tell the sender and let the rows go; while nobody can be told, they wait like after a temporary failure."""
        if await self._tell(failed, host, Action.FAILED):
            await self.queue.finish(owner, [row for row, _ in failed])
            return
        for row, outcome in failed:
            again_s = wait_s(self.enqueuer.schedule, row.attempts + 1, self.random)
            await self._defer(owner, row, self.clock() + again_s, host, outcome)

    def _reported(self, row: Row, outcome: Outcome, host: str, action: Action) -> Reported:
        reply = outcome.reply
        meaning = translate(reply)
        status = reply.enhanced or f"{reply.code // 100}.0.0"
        if action is Action.FAILED and outcome.kind is Kind.TEMPORARY:
            status = "4.4.7"  # RFC 3463 §3.5: delivery time expired
        return Reported(
            row.recipient,
            action,
            status,
            row.notify,
            row.orcpt,
            remote_mta=host.partition(" ")[0] if outcome.from_peer else "",
            diagnostic=_text(outcome),
            explanation=str(meaning) if meaning is not None else "",
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
            await self._tell_sender(row, told)
        except Failure as failure:
            log.error("id=%s: the sender cannot be told now: %s", row.queue_id, failure.text)
            return False
        except Exception:
            log.exception("id=%s: a bug in reports", row.queue_id)
            return False
        return True

    async def _tell_sender(self, row: Row, told: Sequence[Reported]) -> None:
        now = self.clock()
        report_id = format_queue_id(int(now * 1_000_000), self.entropy())
        built = build_report(
            Report(
                report_id,
                self.hostname,
                f"postmaster@{self.hostname}",
                row.reverse_path,
                pack_date(int(now)),
                told,
                self.queue.octets(row.message),
                arrival=pack_date(row.created),
                envid=row.envid,
                ret=row.ret,
            )
        )
        if built is not None:
            await self._send(report_id, row.reverse_path, built)
            log.info("id=%s report=%s to=<%s>", row.queue_id, report_id, row.reverse_path)
        elif not row.reverse_path:
            log.warning("id=%s: nobody can be told: it came with the null path", row.queue_id)

    async def _send(self, report_id: str, address: str, built: Built) -> None:
        """To an account of ours at once, else by the queue."""
        try:
            canonical = canonical_address(address)
        except Refused:
            log.warning("report=%s: <%s> is no address", report_id, address)
            return
        directory = self.store.directory
        if not directory.is_local(canonical.rpartition("@")[2]):
            message = OutgoingMessage(report_id, "", built.octets, eight_bit=built.eight_bit)
            await self.enqueuer.enqueue(message, [address], own=True)
            return
        expansion = expand(directory, canonical)
        if expansion.elsewhere:
            message = OutgoingMessage(report_id, "", built.octets, eight_bit=built.eight_bit)
            await self.enqueuer.enqueue(message, expansion.elsewhere, own=True)
        if expansion.targets:
            date = pack_date(int(self.clock()))
            content = make_content(built.octets)
            await deliver(
                self.store, Delivery(report_id, "", b"", date, content, expansion.targets)
            )
        if not expansion.targets and not expansion.elsewhere:
            log.warning("report=%s: nobody has the address <%s> any more", report_id, address)

    def _log(self, row: Row, what: str, host: str, text: str) -> None:
        log.info(
            "id=%s to=<%s> host=%s attempt=%d: %s (%s)",
            row.queue_id,
            row.recipient,
            host or "-",
            row.attempts + 1,
            what,
            text,
        )


def _text(outcome: Outcome) -> str:
    """The reply with its codes; lines parted by "\\n"."""
    reply = outcome.reply
    return " ".join(part for part in (str(reply.code), reply.enhanced, reply.text) if part)
