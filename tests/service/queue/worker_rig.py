"""A queue worker on a loop of its own, with a reporter that remembers."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from internet import Internet

from pillarbox.dns.mx import OwnHost
from pillarbox.net.resolver import Resolver
from pillarbox.net.tls import client_context
from pillarbox.outbound.route import Route, Router
from pillarbox.outbound.session import TlsContexts
from pillarbox.queue.worker import QueueWorker
from pillarbox.smtp.client_events import Kind, Outcome, Timeouts
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import OutgoingMessage, OutgoingRecipient, Row

CONTEXTS = TlsContexts(client_context(verified=True), client_context(verified=False))


async def until(condition: Callable[[], object]) -> None:
    """Waits up to half a minute."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


class Recorder:
    """A reporter that finishes what is final and defers the rest for an hour."""

    def __init__(self, queue: OutgoingQueue, chief: "Recorder | None" = None) -> None:
        self.queue = queue
        self.results: list[tuple[str, str, Kind, str]] = chief.results if chief else []
        self.news = chief.news if chief else asyncio.Event()

    async def report(
        self, owner: str, rows: Sequence[Row], outcomes: Sequence[Outcome], host: str, tls: str = ""
    ) -> None:
        for row, outcome in zip(rows, outcomes, strict=True):
            self.results.append((row.queue_id, row.recipient, outcome.kind, outcome.reply.text))
            if outcome.kind is Kind.TEMPORARY:
                later = int(self.queue._clock()) + 3600
                await self.queue.defer(owner, [row], later, host, outcome.reply.text)
            else:
                await self.queue.finish(owner, [row])
        self.news.set()

    def kinds(self) -> dict[str, list[Kind]]:
        found: dict[str, list[Kind]] = {}
        for _, recipient, kind, _ in self.results:
            found.setdefault(recipient, []).append(kind)
        return found


class Rig:
    def __init__(self, folder: Path, net: Internet) -> None:
        self.net = net
        self.later_s = 0.0
        """How far the clock of queues and workers is ahead."""
        self.folder = folder
        self.queue = self.open_queue()
        self.recorder = Recorder(self.queue)
        self.numbers = 0
        self.timeouts = Timeouts()

    def clock(self) -> float:
        return time.time() + self.later_s

    def open_queue(self) -> OutgoingQueue:
        """As another process would."""
        return OutgoingQueue(self.folder / "queue.db", clock=self.clock)

    def worker(self, owner: str = "w1", queue: OutgoingQueue | None = None) -> QueueWorker:
        router = Router(
            Resolver([self.net.dns]),
            OwnHost(frozenset({"me.example"}), frozenset(), ipv6=False),
            "me.example",
            rules={},
            mx_port=self.net.port,
            random=random.random,
        )

        async def find(next_hop: str) -> Route | Outcome:
            route = await router.find(next_hop)
            if isinstance(route, Route):
                return replace(route, options=replace(route.options, timeouts=self.timeouts))
            return route

        queue = queue or self.queue
        return QueueWorker(
            queue,
            find,
            self.recorder if queue is self.queue else Recorder(queue, self.recorder),
            CONTEXTS,
            owner=owner,
            clock=self.clock,
            random=random.random,
        )

    async def put(self, *recipients: str, octets: bytes = b"Subject: x\r\n\r\nhello\r\n") -> None:
        self.numbers += 1
        rows = [OutgoingRecipient(one, one.partition("@")[2]) for one in recipients]
        message = OutgoingMessage(f"Q{self.numbers}", "sender@me.example", octets)
        await self.queue.enqueue(message, rows, lifetime_s=86400, warn_after_s=0)

    async def results(self, count: int) -> None:
        while len(self.recorder.results) < count:
            self.recorder.news.clear()
            await self.recorder.news.wait()
