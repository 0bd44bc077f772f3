"""SIGKILL during relay: what had its 250 arrives, and twice only where the final dot was in doubt."""

import asyncio
import base64
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from clients import Smtp
from internet import Internet
from serverprocess import DOMAIN, PASSWORD, ServerProcess

from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import Selection

ROUNDS = 10
ROUNDS_OF_WORKERS = 4
CLIENTS = 6
DOMAINS = 4


class Ledger:
    """What was promised, and what may come twice."""

    def __init__(self) -> None:
        self.number = 0
        self.acknowledged: set[str] = set()
        self.in_doubt: set[str] = set()

    def next(self, dice: random.Random) -> list[str]:
        self.number += 1
        domains = dice.sample(range(DOMAINS), dice.choice((1, 1, 2)))
        return [f"m{self.number}@d{domain}.example" for domain in domains]


async def submitter(
    server: ServerProcess, ledger: Ledger, dice: random.Random, all_in: asyncio.Barrier
) -> None:
    smtp = await Smtp.connect(server.submission)
    login = base64.b64encode(f"\0user0@{DOMAIN}\0{PASSWORD}".encode()).decode()
    assert (await smtp.say(f"AUTH PLAIN {login}")).startswith("235")
    await all_in.wait()
    while True:
        recipients = ledger.next(dice)
        assert (await smtp.say(f"MAIL FROM:<user0@{DOMAIN}>"))[0] == "2"
        for one in recipients:
            assert (await smtp.say(f"RCPT TO:<{one}>"))[0] == "2"
        assert (await smtp.say("DATA"))[0] == "3"
        smtp.writer.write(b"From: user0@%b\r\nSubject: x\r\n\r\n.text\r\n.\r\n" % DOMAIN.encode())
        reply = await smtp.reply()
        assert reply.startswith("250 "), reply
        ledger.acknowledged.update(recipients)
        await asyncio.sleep(0.005)  # the hosts shall keep up


async def one_round(
    server: ServerProcess, ledger: Ledger, dice: random.Random, kill: Callable[[], None]
) -> None:
    all_in = asyncio.Barrier(CLIENTS + 1)
    tasks = [asyncio.ensure_future(submitter(server, ledger, dice, all_in)) for _ in range(CLIENTS)]
    ready = asyncio.ensure_future(all_in.wait())  # logins take long on a busy machine
    await asyncio.wait([ready, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        assert not task.done(), task.exception()
    await ready
    await asyncio.sleep(dice.uniform(0.5, 1.0))
    await asyncio.to_thread(kill)
    queue = OutgoingQueue(server.folder / "data" / "queue.db", clock=time.time)
    ledger.in_doubt.update(row.recipient for row in queue.selected.rows(Selection()) if row.sending)
    queue.close()
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()  # those of a worker that lives
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(
            result, ConnectionError | asyncio.IncompleteReadError | asyncio.CancelledError
        ), repr(result)


async def until_empty(server: ServerProcess) -> None:
    queue = OutgoingQueue(server.folder / "data" / "queue.db", clock=time.time)
    for _ in range(600):
        if queue.count() == (0, 0):
            break
        await asyncio.sleep(0.05)
    left = queue.selected.rows(Selection())
    queue.close()
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills_worker"), [(1, False), (2, False), (2, True)])
def test_no_mail_to_others_is_lost_by_sigkill_and_none_doubled_without_need(
    tmp_path: Path, workers: int, kills_worker: bool
) -> None:
    """Of the server, or of one worker whose leases are taken up while the other goes on."""
    rounds = ROUNDS if workers == 1 else ROUNDS_OF_WORKERS

    async def main() -> None:
        async with Internet() as net:
            for number in range(DOMAINS):
                await net.host(f"mx{number}.example", delay_dot_s=0.01 * number)
                net.mx(f"d{number}.example", (10, f"mx{number}.example"))
            extra = (
                f'[dns]\nservers = ["{net.dns[0]}:{net.dns[1]}"]\n[outbound]\nmx_port = {net.port}\n'
                "[submission]\nrecipients_per_hour = 0\nrecipients_per_day = 0\n"
            )
            server = ServerProcess(tmp_path, 1, extra, workers=workers)
            ledger = Ledger()
            dice = random.Random(2026)

            def kill_worker() -> None:
                os.kill(dice.choice(server.workers()), signal.SIGKILL)

            if kills_worker:
                await asyncio.to_thread(server.start)
            for _ in range(rounds):
                if kills_worker:
                    await asyncio.to_thread(server.wait_for_workers)
                    await one_round(server, ledger, dice, kill_worker)
                else:
                    await asyncio.to_thread(server.start)
                    await one_round(server, ledger, dice, server.kill)
            if not kills_worker:
                await asyncio.to_thread(server.start)
            try:
                await until_empty(server)
            finally:
                assert await asyncio.to_thread(server.stop) == 0
            arrived = Counter(
                to for host in net.hosts.values() for one in host.received for to in one.recipients
            )
            assert ledger.acknowledged - set(arrived) == set()
            twice = {to for to, count in arrived.items() if count > 1}
            assert twice <= ledger.in_doubt
            assert len(ledger.acknowledged) > rounds * CLIENTS
            assert "Traceback" not in (tmp_path / "out").read_text()

    asyncio.run(main())
