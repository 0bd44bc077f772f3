"""SIGKILL at random moments: whatever had its 250 or OK is there afterwards, once, octet for octet."""

import asyncio
import os
import random
import re
import signal
from pathlib import Path

import pytest
from clients import Imap, Smtp
from serverprocess import DOMAIN, ServerProcess
from tests.budget import tries

from pillarbox.store.check import check_store

ROUNDS = tries(8, 40)
ROUNDS_OF_WORKERS = tries(3, 10)
SENDERS = 20
ACCOUNTS = 5


def make_message(number: int, dice: random.Random) -> bytes:
    size = dice.choice((100, 1000, 4000, 100_000, 600_000)) if dice.random() < 0.2 else 500
    lines = (b"%d %x" % (number, dice.getrandbits(200)) for _ in range(size // 50))
    return b"Subject: test %d\r\nMessage-ID: <%d@kill.example>\r\n\r\n%b\r\n" % (
        number,
        number,
        b"\r\n".join(lines),
    )


class Ledger:
    """What was acknowledged, over all rounds."""

    def __init__(self) -> None:
        self.sent: dict[int, bytes] = {}
        self.acknowledged: set[tuple[int, int]] = set()
        self.appended: dict[tuple[int, int], bytes] = {}
        self.flagged: set[tuple[int, int]] = set()
        self.number = 0

    def next(self, dice: random.Random) -> tuple[int, bytes]:
        self.number += 1
        self.sent[self.number] = make_message(self.number, dice)
        return self.number, self.sent[self.number]


async def sender(server: ServerProcess, ledger: Ledger, dice: random.Random) -> None:
    smtp = await Smtp.connect(server.smtp)
    while True:
        number, message = ledger.next(dice)
        users = dice.sample(range(ACCOUNTS), dice.choice((1, 1, 1, 3)))
        reply = await smtp.send([f"user{user}@{DOMAIN}" for user in users], message)
        assert reply.startswith("250 2.0.0"), reply
        ledger.acknowledged.update((number, user) for user in users)


async def reader(server: ServerProcess, ledger: Ledger, user: int, dice: random.Random) -> None:
    imap = await Imap.connect(server.imap, user)
    await imap.command("SELECT INBOX")
    while True:
        _, message = ledger.next(dice)
        answer = (await imap.command("APPEND INBOX (\\Seen)", message))[-1]
        match = re.match(rb"OK \[APPENDUID \d+ (\d+)\]", answer)
        assert match, answer
        uid = int(match[1])
        ledger.appended[user, uid] = message
        answer = (await imap.command(f"UID STORE {uid} +FLAGS.SILENT (\\Flagged $Kept)"))[-1]
        assert answer.startswith(b"OK"), answer
        ledger.flagged.add((user, uid))


async def under_load(ledger: Ledger) -> None:
    """Until the clients are at it, which takes a while on a busy machine."""
    wanted = len(ledger.acknowledged) + SENDERS
    async with asyncio.timeout(30):
        while len(ledger.acknowledged) <= wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def one_round(server: ServerProcess, ledger: Ledger, dice: random.Random) -> None:
    work = [sender(server, ledger, dice) for _ in range(SENDERS)]
    work += [reader(server, ledger, user, dice) for user in range(2)]
    tasks = [asyncio.ensure_future(one) for one in work]
    await under_load(ledger)
    await asyncio.sleep(dice.uniform(0.0, 0.6))
    server.kill()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        assert isinstance(result, ConnectionError | asyncio.IncompleteReadError), repr(result)


async def verify(server: ServerProcess, ledger: Ledger) -> None:
    for user in range(ACCOUNTS):
        imap = await Imap.connect(server.imap, user)
        found = await imap.mailbox()
        imap.close()
        by_number: dict[int, int] = {}
        for octets, _ in found.values():
            match = re.search(rb"Subject: test (\d+)\r\n", octets)
            assert match
            number = int(match[1])
            by_number[number] = by_number.get(number, 0) + 1
            assert octets.endswith(ledger.sent[number])
        for number, who in ledger.acknowledged:
            if who == user:
                assert by_number.get(number) == 1, f"message {number} of user {user}"
        for (who, uid), message in ledger.appended.items():
            if who == user:
                assert found[uid][0] == message
        for who, uid in ledger.flagged:
            if who == user:
                assert {b"\\Flagged", b"$Kept", b"\\Seen"} <= found[uid][1]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "rounds"), [(1, ROUNDS), (2, ROUNDS_OF_WORKERS)])
def test_nothing_acknowledged_is_lost_by_sigkill(tmp_path: Path, workers: int, rounds: int) -> None:
    """Of the server, be it one process or a supervisor whose workers then end too; the next start binds at once."""
    server = ServerProcess(tmp_path, ACCOUNTS, workers=workers)
    ledger = Ledger()
    dice = random.Random(2026)
    for _ in range(rounds):
        server.start()
        asyncio.run(one_round(server, ledger, dice))
    server.start()
    asyncio.run(verify(server, ledger))
    assert server.stop() == 0
    assert list(check_store(tmp_path / "data")) == []
    assert len(ledger.acknowledged) > rounds * SENDERS


async def one_worker_less(server: ServerProcess, ledger: Ledger, dice: random.Random) -> None:
    """Kill one of the workers under load; sessions of the other go on, and it comes back by itself."""
    work = [sender(server, ledger, dice) for _ in range(SENDERS)]
    work += [reader(server, ledger, user, dice) for user in range(2)]
    tasks = [asyncio.ensure_future(one) for one in work]
    await under_load(ledger)
    await asyncio.sleep(dice.uniform(0.0, 0.6))
    os.kill(dice.choice(server.workers()), signal.SIGKILL)
    await asyncio.sleep(dice.uniform(0.1, 0.3))
    survivors = [task for task in tasks if not task.done()]
    assert survivors
    await under_load(ledger)
    for task in survivors:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(
            result, ConnectionError | asyncio.IncompleteReadError | asyncio.CancelledError
        ), repr(result)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_one_worker_is_killed(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, ACCOUNTS, workers=2)
    ledger = Ledger()
    dice = random.Random(2027)
    server.start()
    for _ in range(ROUNDS_OF_WORKERS):
        server.wait_for_workers()
        asyncio.run(one_worker_less(server, ledger, dice))
    server.wait_for_workers()
    asyncio.run(verify(server, ledger))
    restarts = [worker["restarts"] for worker in server.status()["workers"]]
    assert sum(restarts) == ROUNDS_OF_WORKERS
    assert server.stop() == 0
    log = (tmp_path / "out").read_text()
    assert log.count("ended (signal 9)") == ROUNDS_OF_WORKERS
    assert "Traceback" not in log
    assert list(check_store(tmp_path / "data")) == []
    assert not list((tmp_path / "data" / "journal").iterdir()), "what it left was taken over"
