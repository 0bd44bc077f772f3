"""A queue worker on a loop of its own, with a reporter that remembers."""

import asyncio
import random
import time
from collections.abc import Sequence
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
from pillarbox.store.outgoing import OutgoingMessage, OutgoingQueue, OutgoingRecipient, Row

CONTEXTS = TlsContexts(client_context(verified=True), client_context(verified=False))


class Recorder:
    """A reporter that finishes what is final and defers the rest for an hour."""

    def __init__(self, queue: OutgoingQueue) -> None:
        self.queue = queue
        self.results: list[tuple[str, str, Kind, str]] = []
        self.news = asyncio.Event()

    async def report(
        self, owner: str, rows: Sequence[Row], outcomes: Sequence[Outcome], host: str
    ) -> None:
        for row, outcome in zip(rows, outcomes, strict=True):
            self.results.append((row.queue_id, row.recipient, outcome.kind, outcome.reply.text))
            if outcome.kind is Kind.TEMPORARY:
                later = int(time.time()) + 3600
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
        self.queue = OutgoingQueue(folder / "queue.db", clock=time.time)
        self.recorder = Recorder(self.queue)
        self.numbers = 0
        self.timeouts = Timeouts()

    def worker(self, owner: str = "w1") -> QueueWorker:
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

        return QueueWorker(
            self.queue,
            find,
            self.recorder,
            CONTEXTS,
            owner=owner,
            clock=time.time,
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
