"""Five days of an Internet full of bad hosts, in a second: whatever happens, each recipient of an accepted message ends
as delivered, bounced or still queued, once."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.budget import tries
from virtual import DAY, HOUR, Host, Internet, Mood, VirtualLoop

from pillarbox.dns.mx import OwnHost
from pillarbox.net.tls import client_context
from pillarbox.outbound import route as route_module
from pillarbox.outbound.route import Router
from pillarbox.outbound.session import TlsContexts
from pillarbox.outbound.signing import MailSigner
from pillarbox.queue import worker as worker_module
from pillarbox.queue.enqueue import Enqueuer
from pillarbox.queue.notice import Notices
from pillarbox.queue.report import QueueReporter
from pillarbox.queue.schedule import Schedule
from pillarbox.queue.worker import QueueWorker
from pillarbox.store import messages
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import OutgoingMessage, Row, Selection
from pillarbox.store.store import Store

START = 1_800_000_000.0
ANN = "ann@here.example"
CONTEXTS = TlsContexts(client_context(verified=True), client_context(verified=False))


class World:
    """A server that only sends, one sender, and the Internet."""

    def __init__(self, folder: Path, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.dice = random.Random(seed)
        self.net = Internet(loop)
        self.queue = OutgoingQueue(
            folder / "queue.db", clock=self.clock, sync=lambda _descriptor: None
        )
        self.store = Store(folder)
        self.store.directory.add_domain("here.example")
        self.store.directory.add_account(ANN, "", "")
        router = Router(
            self.net,  # type: ignore[arg-type]
            OwnHost(frozenset({"me.example"}), ipv6=False),
            "me.example",
            rules={},
            mx_port=25,
            random=self.dice.random,
        )
        enqueuer = self.enqueuer = Enqueuer(
            self.queue, router.next_hop_of, Schedule(), self._hint, MailSigner(self.store)
        )
        self.notices = Notices(
            self.store, enqueuer, "me.example", self.clock, lambda: self.dice.getrandbits(20)
        )
        self.find = router.find
        self.worker = self.new_worker()
        self.accepted: list[tuple[str, str]] = []
        """(subject, recipient)."""

    def clock(self) -> float:
        return START + self.loop.now

    def _hint(self) -> None:
        self.worker.hint()

    def new_worker(self) -> QueueWorker:
        reporter = QueueReporter(
            self.queue, self.notices, self.enqueuer.schedule, self.clock, self.dice.random
        )
        worker = QueueWorker(
            self.queue,
            self.find,
            reporter,
            CONTEXTS,
            owner=f"w{self.dice.getrandbits(20)}",
            clock=self.clock,
            random=self.dice.random,
        )
        self.enqueuer.courier = worker
        return worker

    async def submit(self, subject: str, recipients: list[str]) -> None:
        octets = f"From: {ANN}\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()
        await self.enqueuer.enqueue(OutgoingMessage(subject, ANN, octets), recipients)
        self.accepted += [(subject, recipient) for recipient in recipients]

    async def bounced(self) -> Counter[tuple[str, str]]:
        """What the sender was told has failed."""
        account = self.store.directory.known_account(ANN)

        def work(tx):
            rows = messages.select(tx, 1, [(1, messages.MOST_UIDS)], ("header", "content", "size"))
            return [header + messages.body(tx, content, 0, size) for header, content, size in rows]

        found: Counter[tuple[str, str]] = Counter()
        for mail in await self.store.read(account.id, work):
            subject = re.findall(rb"^Subject: (m\d+)\r$", mail, re.MULTILINE)[-1].decode()
            for block in mail.split(b"\r\n\r\n"):
                recipient = re.search(rb"^Final-Recipient: rfc822; ?(\S+)", block, re.MULTILINE)
                if recipient and re.search(rb"^Action: failed", block, re.MULTILINE):
                    found[subject, recipient[1].decode()] += 1
        return found

    async def ends(self) -> None:
        """The one thing that must always hold."""
        await self.queue.drain()
        took = [took for host in self.net.hosts.values() for took in host.took]
        answered = Counter((one.subject, one.recipient) for one in took if one.answered)
        bounced = await self.bounced()
        queued = Counter((row.queue_id, row.recipient) for row in self.rows())
        for key in self.accepted:
            counts = answered[key], bounced[key], queued[key]
            assert sum(counts) == 1, (key, counts)
        assert not set(answered + bounced + queued) - set(self.accepted)

    def rows(self) -> list[Row]:
        return self.queue.selected.rows(Selection())

    async def close(self) -> None:
        await self.worker.stop()
        await self.queue.drain()
        self.queue.close()
        await self.store.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_module, "CHANGES_EVERY_S", 60.0)
    monkeypatch.setattr(worker_module, "LOOK_EVERY_S", 600.0)

    def run(scenario: Callable[[World], object], seed: int = 1) -> None:
        loop = VirtualLoop()
        monkeypatch.setattr(route_module, "time", SimpleNamespace(monotonic=loop.time))

        async def main() -> None:
            world = World(tmp_path, loop, seed)
            world.worker.start()
            try:
                await scenario(world)  # type: ignore[misc]
            finally:
                await world.close()

        try:
            loop.run_until_complete(main())
        finally:
            loop.close()

    return run


KINDS = (
    *("refuses", "greeting", "tls", "temporary", "permanent", "closing", "drop", "dot"),
    *("garbage", "slow", "recipients", "greylist", "good"),
)


def bad_host(dice: random.Random) -> Host:
    """Some moods one after the other, over two weeks or for ever."""
    moods = []
    until = 0.0
    while until < 14 * DAY and dice.random() < 0.95:
        until += dice.choice((600.0, HOUR, 6 * HOUR, DAY, 3 * DAY))
        kind = dice.choice(KINDS)
        mood = Mood(until)
        match kind:
            case "refuses":
                mood.refuses = True
            case "greeting":
                mood.greeting = dice.choice(("421 4.3.2 busy", "554 5.3.2 no", "nonsense"))
            case "tls":
                mood.tls = True
            case "temporary" | "closing" | "drop" | "garbage":
                setattr(mood, kind, dice.choice((0.05, 0.3, 1.0)))
            case "permanent":
                mood.permanent = 0.2
            case "dot":
                mood.drop_at_dot = 0.3
            case "slow":
                mood.slow_s = dice.choice((1.0, 50.0, 250.0, 400.0))
            case "recipients":
                mood.most_recipients = dice.choice((1, 2))
            case "greylist":
                mood.greylist_s = 600.0
        moods.append(mood)
    return Host(moods, random.Random(dice.random()))


@pytest.mark.parametrize("seed", range(tries(4, 24)))
def test_each_recipient_is_delivered_bounced_or_queued_once(run, seed: int) -> None:
    async def scenario(world: World) -> None:
        dice, net = world.dice, world.net
        domains = [f"d{number}.example" for number in range(8)]
        for domain in domains:
            for preference in range(10, 10 * dice.choice((2, 3, 4)), 10):
                net.add(domain, preference, bad_host(dice))
            net.dark[domain] = dice.choice((0.0, 0.0, HOUR, 2 * DAY))
        domains.append("gone.example")
        for number in range(40):
            people = [f"u{dice.randrange(30)}@{dice.choice(domains)}" for _ in range(5)]
            chosen = list(dict.fromkeys(people[: dice.choice((1, 2, 5))]))
            await world.submit(f"m{number}", chosen)
            await asyncio.sleep(dice.choice((0.0, 1.0, 600.0, 6 * HOUR)))
            if number % 10 == 9:
                await world.worker.stop()  # what is in hand is taken up again
                await world.ends()
                await world.queue.take_up()
                world.worker = world.new_worker()
                world.worker.start()
        await asyncio.sleep(7 * DAY)
        await world.ends()
        assert world.rows() == []

    run(scenario, seed)


def test_a_greylisted_recipient_gets_it_soon_after_the_ten_minutes(run) -> None:
    async def scenario(world: World) -> None:
        host = Host([Mood(14 * DAY, greylist_s=600.0)], random.Random(1))
        world.net.add("d.example", 10, host)
        await world.submit("m1", ["u@d.example"])
        await asyncio.sleep(HOUR)
        (took,) = host.took
        assert 600.0 <= took.at <= 1800.0
        await world.ends()

    run(scenario)


def test_a_dead_destination_bounces_after_five_days_and_the_sender_is_told_of_the_delay(
    run,
) -> None:
    async def scenario(world: World) -> None:
        world.net.add("d.example", 10, Host([Mood(30 * DAY, refuses=True)], random.Random(1)))
        await world.submit("m1", ["u@d.example"])
        await asyncio.sleep(4 * HOUR + 2 * HOUR)
        account = world.store.directory.known_account(ANN)
        warned = await world.store.read(
            account.id, lambda tx: len(messages.select(tx, 1, [(1, 99)], ("uid",)))
        )
        assert warned == 1
        await asyncio.sleep(5 * DAY - 7 * HOUR)
        assert len(world.rows()) == 1
        await asyncio.sleep(4 * HOUR)
        assert world.rows() == []
        assert await world.bounced() == {("m1", "u@d.example"): 1}

    run(scenario)
