"""Several workers share new connections evenly, whoever the kernel gives them to."""

import asyncio
import functools
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from tests.service.net.test_connection import EchoSession

from pillarbox.net import balance as module
from pillarbox.net.admission import Admission
from pillarbox.net.balance import MOST_SERVICES, NOW_OCTETS, Balance, passed_octets
from pillarbox.net.listener import Listeners, bind
from pillarbox.net.service import Service


def on_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 20))

    return run


SERVICES = ("imap", "other")


class Worker:
    def __init__(self, number: int, balance: Balance) -> None:
        self.admission = Admission(1000, 1000)
        self.admission.balance = balance
        self.balance = balance
        self.listeners = Listeners(self.admission, f"{number}-")
        self.service = Service("imap", EchoSession, b"too many\n", False, lambda: None)

    @property
    def held(self) -> int:
        return len(self.admission.connections)


class Office:
    """Workers in one process; all listen, but only the first is connected to, as by a kernel that favours one."""

    def __init__(self, workers: int) -> None:
        now, passed = (
            memoryview(bytearray(workers * NOW_OCTETS)),
            memoryview(bytearray(workers * passed_octets(workers))),
        )
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(workers)]
        self.now, self.passed = now, passed
        self.ports: list[int] = []
        self.clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.workers = [
            Worker(
                index + 1,
                Balance(
                    now,
                    passed,
                    SERVICES,
                    index + 1,
                    pairs[index][0],
                    {
                        other + 1: pairs[other][1].dup()
                        for other in range(workers)
                        if other != index
                    },
                ),
            )
            for index in range(workers)
        ]
        for _incoming, outgoing in pairs:
            outgoing.close()

    async def __aenter__(self) -> "Office":
        for worker in self.workers:
            sock = bind("127.0.0.1:0")
            self.ports.append(sock.getsockname()[1])
            await worker.listeners.listen(sock, worker.service)
            worker.listeners.share()
        return self

    async def __aexit__(self, *_error: object) -> None:
        for _reader, writer in self.clients:
            writer.close()
        for worker in self.workers:
            await worker.listeners.close(1)
            worker.balance.close()

    async def connect(self, count: int, port: int = 0) -> None:
        """That many at once; each is greeted and answered."""
        made = await asyncio.gather(
            *(asyncio.open_connection("127.0.0.1", self.ports[port]) for _ in range(count))
        )
        for reader, writer in made:
            writer.write(b"a\n")
            assert await reader.readline() == b"hello\n"
            assert await reader.readline() == b"<a>\n"
        self.clients += made

    async def leave(self) -> None:
        for reader, writer in self.clients:
            writer.write(b"quit\n")
            assert await reader.read() == b"<quit>\n"
            writer.close()
        self.clients.clear()
        await asyncio.sleep(0.05)

    @property
    def held(self) -> list[int]:
        return [worker.held for worker in self.workers]


@pytest.mark.parametrize("count", [2, 10, 100])
@on_loop
async def test_a_burst_at_one_worker_is_shared_by_both(count: int) -> None:
    async with Office(2) as office:
        await office.connect(count)
        assert office.held == [count // 2, count // 2]


@on_loop
async def test_with_more_workers_nobody_gets_far_more_than_its_share() -> None:
    async with Office(4) as office:
        for _ in range(10):
            await office.connect(20)
        assert max(office.held) - min(office.held) <= 10


@on_loop
async def test_who_has_fewer_keeps_what_it_gets() -> None:
    async with Office(2) as office:
        await office.connect(10)
        await office.leave()
        await office.connect(1, port=1)
        assert office.held == [0, 1]


@on_loop
async def test_counts_stay_right_when_sessions_end() -> None:
    async with Office(2) as office:
        for _ in range(5):
            await office.connect(20)
            assert office.held == [10, 10]
            await office.leave()
            assert office.held == [0, 0]


@on_loop
async def test_a_worker_that_does_not_serve_gets_none() -> None:
    async with Office(2) as office:
        office.workers[1].balance.end()
        await office.connect(10)
        assert office.held == [10, 0]


@on_loop
async def test_a_worker_with_no_room_for_more_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Office(2) as office:

        def full(*_arguments: object) -> None:
            raise BlockingIOError

        monkeypatch.setattr(module.socket, "send_fds", full)
        await office.connect(10)
        assert office.held == [10, 0]


@on_loop
async def test_a_worker_near_its_limit_of_open_files_gets_no_more_until_it_has_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FULL_S", 0.05)
    async with Office(2) as office:
        full = office.workers[1].balance
        usual, full._first_spare = full._first_spare, 0  # every descriptor is a spare one
        await office.connect(1)  # to the first itself
        await office.connect(1)  # to the second, which finds out
        await office.connect(6)
        assert office.held == [7, 1]
        await asyncio.sleep(0.2)
        await office.connect(1)
        assert office.held == [8, 1]
        full._first_spare = usual
        await asyncio.sleep(0.2)
        await office.connect(3)
        assert office.held == [8, 4]


@on_loop
async def test_what_a_worker_can_no_more_open_is_closed_at_once_and_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel gives a message without its descriptor then, and closes that."""
    real = socket.recv_fds

    def none_left(*arguments: int) -> tuple[bytes, list[int], int, object]:
        octets, descriptors, flags, sender = real(*arguments)
        for descriptor in descriptors:
            os.close(descriptor)
        return octets, [], flags | socket.MSG_CTRUNC, sender

    async with Office(2) as office:
        await office.connect(1)
        monkeypatch.setattr(module.socket, "recv_fds", none_left)
        reader, writer = await asyncio.open_connection("127.0.0.1", office.ports[0])
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await office.connect(4)
        assert office.held == [5, 0]
        assert office.workers[0].balance._load(2, 0) == 0, "it counts as taken and gone"


@on_loop
async def test_a_worker_that_was_killed_counts_as_empty_then() -> None:
    async with Office(2) as office:
        await office.connect(20)
        giver, killed = office.workers
        killed.admission.balance = None  # it never counts its sessions out
        office.now[NOW_OCTETS:] = bytes(NOW_OCTETS)  # what the supervisor clears
        killed.balance.begin(killed.listeners._take)  # its successor, with the same sockets
        await office.connect(10)
        assert giver.held == 10


@on_loop
async def test_what_is_on_its_way_counts(tmp_path: Path) -> None:
    """Between the hand-over and the first turn of the other worker, the giver does not give it all that comes."""
    async with Office(2) as office:
        office.workers[1].balance.end()
        office.now.cast("B").cast("Q")[1 + MOST_SERVICES] = (
            1  # it serves, but does not come to read
        )
        giver = office.workers[0].balance
        for _ in range(6):
            giver.add("imap", 1)
        with (tmp_path / "descriptor").open("wb") as file:
            given = [giver.hand_on("imap", file.fileno()) for _ in range(10)]
        assert given == [True] * 6 + [False] * 4
