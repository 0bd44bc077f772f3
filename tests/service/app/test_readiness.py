"""What is told of a server from outside of its event loops: readiness, the queue, rates of the last seconds."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from pillarbox.app import readiness as module
from pillarbox.app.figures import Counts, Status
from pillarbox.app.readiness import STUCK_S, DiskFigures, Readiness
from pillarbox.app.shared import Shared, make_memory, open_memory
from pillarbox.core.tally import SlowCommand, Tally
from pillarbox.store import database
from pillarbox.store.outgoing_row import AT_ONCE, FREE, HELD, OVER_LIMIT, UNACCEPTED
from pillarbox.store.place import Place
from pillarbox.store.queue_figures import QueueReader

NOW = 1_800_000_000


def add(path: Path, *rows: tuple[int, int, str], created: int = NOW) -> None:
    """(held, next_try, owner) of recipients, each of a message of its own."""
    connection = database.open_single(path, "queue")
    (first,) = connection.execute("SELECT count(*) FROM outgoing_message").fetchone()
    for number, (held, next_try, owner) in enumerate(rows, first + 1):
        connection.execute(
            "INSERT INTO outgoing_message VALUES (?, ?, '', NULL, '', '', 0, ?, x'00')",
            (number, f"Q{number}", created),
        )
        connection.execute(
            "INSERT INTO outgoing VALUES (?, 'a@b.example', 'b.example', '', '', ?, 0, ?, 0, 0, ?, 0, '', '')",
            (number, held, next_try, owner),
        )
    connection.close()


def add_pending(path: Path, next_try: int) -> None:
    connection = database.open_single(path, "queue")
    connection.execute("INSERT INTO pending VALUES ('Q', 'a', 1, x'', 0, ?, '')", (next_try,))
    connection.close()


# The queue


def test_recipients_are_active_deferred_or_held(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    add(
        path,
        (FREE, NOW - 5, ""),  # due
        (FREE, AT_ONCE, ""),
        (FREE, NOW + 300, "worker-1"),  # at work, leased until then
        (FREE, NOW + 300, ""),
        (FREE, NOW + 301, ""),
        (HELD, NOW - 5, ""),
        (OVER_LIMIT, NOW - 5, ""),
        (UNACCEPTED, NOW - 5, "worker-1"),  # nobody has promised anything yet
        created=NOW - 60,
    )
    add_pending(path, NOW - 7)
    reader = QueueReader(path, lambda: NOW)
    figures = reader.read()
    reader.close()
    assert (figures.active, figures.deferred, figures.held) == (3, 2, 2)
    assert figures.recipients == 7
    assert figures.messages == 8
    assert figures.oldest_s == 60
    assert figures.overdue_s == 5
    assert (figures.local_deliveries, figures.local_overdue_s) == (1, 7)


def test_an_empty_queue_is_all_zero(tmp_path: Path) -> None:
    reader = QueueReader(tmp_path / "queue.db")
    figures = reader.read()
    reader.close()
    assert not any(getattr(figures, name) for name in figures.__slots__)


# Readiness


class Rig:
    """The data folder of a server with one worker, which serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = Shared(open_memory(make_memory(1)), Place(1, 1))
        self.beat()
        self.status = Status(self.shared, "1")

    def beat(self) -> None:
        beat = time.monotonic_ns() // 1_000_000
        self.shared.publish({"pid": 1, "beat": beat}, Tally().numbers(), [])

    def problems(self, moved_s_ago: float = 2 * STUCK_S) -> list[str]:
        self.status.moved_at = time.monotonic() - moved_s_ago

        async def look() -> list[str]:
            readiness = Readiness(self.folder, self.status)
            found = await readiness.problems()
            readiness.close()
            return found

        return asyncio.run(look())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_an_idle_server_is_ready_however_long_nothing_was_sent(rig: Rig) -> None:
    assert rig.problems() == []


def test_mail_that_waits_for_its_next_attempt_is_no_problem(rig: Rig) -> None:
    now = int(time.time())
    rows = [(FREE, now + 60, ""), (HELD, 5, ""), (FREE, now - 60, ""), (FREE, AT_ONCE, "")]
    add(rig.folder / "queue.db", *rows)
    assert rig.problems() == []


def test_mail_that_is_due_and_does_not_move_is_one(rig: Rig) -> None:
    add(rig.folder / "queue.db", (FREE, int(time.time()) - 700, ""))
    (problem,) = rig.problems()
    assert problem.startswith("queue: mail to other hosts has been due for 70")
    assert rig.problems(moved_s_ago=30) == [], "it moves, there is only much of it"


def test_deliveries_here_that_do_not_move_are_one(rig: Rig) -> None:
    add_pending(rig.folder / "queue.db", int(time.time()) - 700)
    (problem,) = rig.problems()
    assert problem.startswith("queue: deliveries to accounts here have been due for 70")


def test_too_little_room_is_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "disk_of", lambda _folder: DiskFigures(12 << 20, 1 << 30))
    assert rig.problems() == [f"disk: 12 MiB are free in {rig.folder}; 64 are the least"]


def test_a_damaged_queue_is_one(rig: Rig) -> None:
    (rig.folder / "queue.db").write_bytes(b"nonsense" * 1000)
    (problem,) = rig.problems()
    assert problem.startswith("queue: ")
    assert "damaged" in problem


def test_a_worker_that_is_away_is_one(rig: Rig) -> None:
    rig.shared.forget(1)
    assert rig.problems() == ["workers: worker 1 does not serve yet, or was restarted"]


def test_a_disk_that_does_not_answer_is_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """And holds up nobody who asks, nor the event loop; when it answers, all is well."""
    goes_on = threading.Event()
    monkeypatch.setattr(module, "LOOK_S", 0.1)
    monkeypatch.setattr(module, "OLD_S", 0.0)
    monkeypatch.setattr(module, "probe", lambda _folder: goes_on.wait(20))

    async def scenario() -> None:
        readiness = Readiness(rig.folder, rig.status)
        for _ in range(3):
            began = time.monotonic()
            assert await readiness.problems() == ["store: the disk has not answered for 0 s"]
            assert time.monotonic() - began < 10
        goes_on.set()
        deadline = time.monotonic() + 10
        while problems := await readiness.problems():
            assert time.monotonic() < deadline, problems
            await asyncio.sleep(0.01)
        readiness.close()

    asyncio.run(scenario())


def test_many_who_ask_make_one_look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    monkeypatch.setattr(module, "probe", looks.append)

    async def scenario() -> None:
        readiness = Readiness(rig.folder, rig.status)
        await asyncio.gather(*(readiness.problems() for _ in range(50)))
        await readiness.problems()
        readiness.close()

    asyncio.run(scenario())
    assert looks == [rig.folder]


# Rates


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The clock is moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def move(by: float) -> None:
        now[0] += by

    return move


def test_rates_are_those_of_the_last_seconds(rig: Rig, seconds: Callable[[float], None]) -> None:
    tally = Tally()
    status = Status(rig.shared, "1")
    for _ in range(6):
        seconds(5.0)
        tally.messages["smtp", "accepted"] += 100
        rig.shared.publish({"pid": 1}, tally.numbers(), [])
        status.sample()
    seconds(3.0)
    tally.messages["smtp", "accepted"] += 220
    tally.logins["imap"] += 4
    rig.shared.publish({"pid": 1}, tally.numbers(), [SlowCommand(1.5, 0.25, 7, "imap UID SEARCH")])
    report = status.report()
    assert report["per_second"]["received"] == 40.0, "320 in 8 s"
    assert report["per_second"]["logins"] == 0.5
    assert report["totals"]["received"] == 820
    assert report["slow_commands"] == [
        {
            "ended": 1.5,
            "seconds": 0.25,
            "protocol": "imap",
            "command": "UID SEARCH",
            "account_id": 7,
        }
    ]


def test_counts_are_found_by_their_labels(rig: Rig) -> None:
    tally = Tally()
    tally.login_failures["imap", "credentials"] += 2
    tally.login_failures["pop3", "credentials"] += 3
    tally.login_failures["imap", "throttled"] += 5
    tally.commands["lmtp"].observe(0.1)
    counts = Counts(tally.numbers())
    assert counts.of("login_failures") == 10
    assert counts.of("login_failures", "credentials") == 5
    assert counts.of("login_failures", "imap") == 7
    assert counts.of("login_failures", "imap", "throttled") == 5
    assert counts.of("commands", "lmtp") == 1


def test_reading_holds_up_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    add(path, (FREE, NOW, ""))
    reader = QueueReader(path)
    reader.read()
    writer = apsw.Connection(str(path))
    writer.execute("BEGIN IMMEDIATE")
    assert reader.read().messages == 1
    writer.execute("ROLLBACK")
    writer.close()
    reader.close()
