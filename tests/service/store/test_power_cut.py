"""A power cut at any point loses nothing that was acknowledged, and no number ever means two things."""

import asyncio
import itertools
import os
import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from power import Disk, PowerJournalFiles, PowerSyncs, PowerVFS
from tests.budget import tries

from pillarbox.core.dates import pack_date
from pillarbox.store import commit, messages, recovery
from pillarbox.store.appending import Append
from pillarbox.store.check import check_store
from pillarbox.store.content import make_content
from pillarbox.store.flags import change_flags
from pillarbox.store.journal import kept_aside
from pillarbox.store.place import Place, lock_folder
from pillarbox.store.store import Store

NOW = 1_790_000_000
ACCOUNTS = (1, 2, 3)
CUTS = tries(30, 120)


def message(number: int, size: int = 300) -> bytes:
    head = b"From: a@example.org\r\nSubject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\n" % (
        number,
        number,
    )
    return head + b"x" * size + b"\r\n"


@dataclass
class Promises:
    """What the outside world knows at a moment: acknowledged messages, flags, and every number seen."""

    kept: dict[tuple[int, int], bytes] = field(default_factory=dict)
    taken: list[tuple[int, bytes]] = field(default_factory=list)
    """Acknowledged without a number."""
    flagged: set[tuple[int, int]] = field(default_factory=set)
    expunged: set[tuple[int, int]] = field(default_factory=set)
    seen: dict[tuple[int, int], bytes] = field(default_factory=dict)
    modseq: dict[int, int] = field(default_factory=dict)


def inbox(tx) -> dict[int, tuple[bytes, int, int]]:
    rows = messages.select(
        tx, 1, [(1, messages.MOST_UIDS)], ("uid", "header", "content", "size", "flags", "modseq")
    )
    return {
        uid: (header + messages.body(tx, content, 0, size), flags, modseq)
        for uid, header, content, size, flags, modseq in rows
    }


async def look(store: Store, disk: Disk) -> None:
    """Another session looks at everything, acknowledged or not."""
    for account in ACCOUNTS:
        found = await store.read(account, inbox)
        disk.note(("seen", account, {uid: row[0] for uid, row in found.items()}))
        highest = max((row[2] for row in found.values()), default=0)
        disk.note(("modseq", account, highest))


@dataclass
class Load:
    """How much happens before the cut."""

    clients: int = 4
    messages: int = 12
    """By each client."""
    looks: int = 60
    workers: int = 1
    is_killed: bool = False
    """At the end one worker leaves its journal, and a new one of its number takes it over."""


async def work(
    stores: list[Store], disk: Disk, dice: random.Random, size: Load, first: int = 0
) -> None:
    """Appends of all sizes, flag changes and expunges, by several clients at once, in turns with each worker."""

    async def client(start: int, store: Store) -> None:
        for number in range(start, start + size.messages):
            account = dice.choice(ACCOUNTS)
            length = dice.choice(
                (10, 300, 3000, 70_000, 600_000, 1_300_000) if number % 6 == 0 else (10, 300)
            )
            octets = message(number, length)
            item = Append(1, make_content(octets), pack_date(NOW))
            if dice.random() < 0.4:
                await store.deliver(account, item)
                disk.note(("taken", account, octets))
                continue
            given = await store.append(account, item)
            disk.note(("kept", account, given.uid, octets))
            choice = dice.random()
            uids = [(given.uid, given.uid)]
            if choice < 0.3:
                await store.write(
                    account,
                    lambda tx, uids=uids: change_flags(tx, 1, uids, "+", 2, []),
                    is_short=choice < 0.2,
                )
                disk.note(("flagged", account, given.uid))
            elif choice < 0.4:
                await store.write(
                    account, lambda tx, uids=uids: messages.expunge(tx, 1, uids, only_deleted=False)
                )
                disk.note(("expunged", account, given.uid))

    async def onlooker() -> None:
        for _ in range(size.looks):
            await look(stores[0], disk)
            await asyncio.sleep(0.001)

    watching = asyncio.ensure_future(onlooker())
    await asyncio.gather(
        *(
            client(first + 100 * number, stores[number % len(stores)])
            for number in range(size.clients)
        )
    )
    await watching


def promises(disk: Disk, until: int) -> Promises:
    made = Promises()
    for event in disk.events[:until]:
        match event.note:
            case ("kept", account, uid, octets):
                made.kept[account, uid] = octets
            case ("taken", account, octets):
                made.taken.append((account, octets))
            case ("flagged", account, uid):
                made.flagged.add((account, uid))
            case ("expunged", account, uid):
                made.expunged.add((account, uid))
            case ("seen", account, found):
                made.seen.update({(account, uid): octets for uid, octets in found.items()})
            case ("modseq", account, modseq):
                made.modseq[account] = max(modseq, made.modseq.get(account, 0))
    return made


async def verify(folder: Path, made: Promises) -> list[str]:
    """What is wrong after recovery; [] is what it should be."""
    wrong = []
    store = Store(folder, clock=lambda: NOW)
    try:
        state = {account: await store.read(account, inbox) for account in ACCOUNTS}
        for (account, uid), octets in made.kept.items():
            row = state[account].get(uid)
            if (account, uid) in made.expunged:
                if row is not None:
                    wrong.append(f"{account}/{uid} came back")
            elif row is None:
                # An expunge that was under way and not yet acknowledged may have happened.
                if (account, uid) not in made.flagged and _may_be_expunged(folder, account, uid):
                    continue
                wrong.append(f"{account}/{uid} is lost")
            elif row[0] != octets:
                wrong.append(f"{account}/{uid} is another message")
            elif (account, uid) in made.flagged and not row[1] & 2:
                wrong.append(f"{account}/{uid} lost its flag")
        for account, octets in made.taken:
            copies = sum(row[0] == octets for row in state[account].values())
            if copies != 1:
                wrong.append(f"{account}: {copies} copies of {octets[:60]!r}")
        for (account, uid), octets in made.seen.items():
            row = state[account].get(uid)
            if row is not None and row[0] != octets:
                wrong.append(f"{account}/{uid} meant another message before")
        for account in ACCOUNTS:
            given = await store.append(
                account, Append(1, make_content(message(9999)), pack_date(NOW))
            )
            if (account, given.uid) in made.seen or (account, given.uid) in made.kept:
                wrong.append(f"{account}/{given.uid} was given twice")
            if given.modseq <= made.modseq.get(account, 0):
                wrong.append(f"{account}: ModSeq {given.modseq} was given twice")
    finally:
        await store.close()
    wrong += [line for line in check_store(folder) if "belongs to no account" not in line]
    wrong += [f"{path} was taken for damage" for path in kept_aside(folder)]
    return wrong


def _may_be_expunged(folder: Path, account: int, uid: int) -> bool:
    path = next((folder / "accounts").glob(f"*/{account:08x}.db"))
    connection = apsw.Connection(str(path))
    row = connection.execute(
        "SELECT 1 FROM change WHERE kind = 2 AND ? BETWEEN first_uid AND last_uid", (uid,)
    ).fetchone()
    connection.close()
    return row is not None


@pytest.fixture
def ruins() -> Iterator[Path]:
    """Where the cut disks lie: in memory if there is such a folder, for each is opened, synced and thrown away."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Disk, PowerVFS]]:
    log = Disk(tmp_path / "disk")
    vfs = PowerVFS(f"power-{id(log)}", log)
    # Short segments and frequent checkpoints, so that cuts fall into those too.
    monkeypatch.setattr(commit, "SEGMENT_OCTETS", 8_000)
    monkeypatch.setattr(commit, "CHECKPOINT_PAGES", 60)
    monkeypatch.setattr(commit, "Syncs", partial(PowerSyncs, log))
    yield log, vfs
    vfs.unregister()


def run(disk: Disk, vfs: PowerVFS, size: Load) -> range:
    """Do the work once, and stop cleanly; returns the points at which it may be cut."""

    async def load() -> None:
        disk.root.mkdir(exist_ok=True)
        lock = lock_folder(disk.root)
        stores = [opened(Place(1, size.workers, lock=os.dup(lock)))]
        for account in ACCOUNTS:  # none of these comes again: copies are counted
            octets = message(800 + account)
            await stores[0].append(account, Append(1, make_content(octets), pack_date(NOW)))
        for number in range(2, size.workers + 1):
            place = Place(number, size.workers, is_first=False, lock=os.dup(lock))
            stores.append(opened(place))
        disk.note(("begin",))
        await work(stores, disk, random.Random(7), size)
        if size.is_killed:
            # Nothing of it runs any more; what it took is in its journal only.
            killed = stores.pop()
            for account in ACCOUNTS:
                octets = message(900 + account)
                await killed.deliver(account, Append(1, make_content(octets), pack_date(NOW)))
                disk.note(("taken", account, octets))
            for task in killed._committer._tasks:
                task.cancel()
            await killed._committer._quiet()
            killed._committer._filing.stop()
            assert killed._committer.intake
            place = Place(size.workers, size.workers, is_first=False, lock=os.dup(lock))
            stores.append(opened(place))
            await stores[-1].put_left()
            await work(stores, disk, random.Random(8), size, 1000)
            killed._accounts.close()
            killed.directory.close()
            killed.pending.close()
        disk.note(("end",))
        for store in stores:
            await store.close()
        os.close(lock)

    def opened(place: Place) -> Store:
        files = PowerJournalFiles(disk)
        return Store(disk.root, clock=lambda: NOW, vfs=vfs.name, journal_files=files, place=place)

    asyncio.run(load())
    marks = [
        index for index, event in enumerate(disk.events) if event.note in (("begin",), ("end",))
    ]
    return range(marks[0], len(disk.events))


def cut(disk: Disk, ruins: Path, points: Iterable[int]) -> list[str]:
    """Verify what a cut at each point leaves, when nothing unsynced survives and when some does; stops at the first
    that is wrong."""
    dice = random.Random(11)
    wrong: list[str] = []
    for point, luck in itertools.product(points, (None, dice)):
        folder = ruins / f"cut-{point}-{luck is None}"
        disk.image(point, folder, luck)
        problems = asyncio.run(verify(folder, promises(disk, point)))
        wrong += [f"cut at {point} of {len(disk.events)}: {problem}" for problem in problems]
        if wrong:
            break
        shutil.rmtree(folder)
    return wrong


def some(points: range, cuts: int = CUTS) -> list[int]:
    return sorted(random.Random(11).sample(points, cuts))


def test_power_cut_at_any_point_keeps_every_promise(disk, ruins: Path) -> None:
    log, vfs = disk
    assert cut(log, ruins, some(run(log, vfs, Load()))) == []


def test_power_cut_at_points_of_a_short_run_keeps_every_promise(disk, ruins: Path) -> None:
    log, vfs = disk
    points = run(log, vfs, Load(clients=2, messages=5, looks=10))
    # Behind what was only seen, the disk is the same, and more was promised.
    changes = [point for point in points if log.events[point].path is not None]
    assert len(changes) > 150
    every = tries(4, 1)
    assert cut(log, ruins, changes[random.Random(11).randrange(every) :: every]) == []


def test_power_cut_under_two_workers_keeps_every_promise(disk, ruins: Path) -> None:
    log, vfs = disk
    assert cut(log, ruins, some(run(log, vfs, Load(clients=4, workers=2)), CUTS // 2)) == []


def test_power_cut_after_one_worker_was_killed_keeps_every_promise(disk, ruins: Path) -> None:
    """Its journal is what makes its mail durable until a new worker has synced the files that it names."""
    log, vfs = disk
    points = run(log, vfs, Load(clients=4, messages=6, workers=2, is_killed=True))
    assert cut(log, ruins, some(points, CUTS // 2)) == []
    assert list((log.root / "journal").glob("*.log")) == [], "nothing is left for the next start"


def test_the_same_run_without_syncs_loses_mail(disk, ruins: Path) -> None:
    log, vfs = disk
    log.syncs = False
    assert cut(log, ruins, some(run(log, vfs, Load()))) != []


def test_second_replay_changes_nothing(disk, tmp_path: Path, monkeypatch) -> None:
    """A crash between the replay and the removal of the journal: the next start replays it again."""
    log, vfs = disk
    monkeypatch.setattr(commit, "SEGMENT_OCTETS", 1 << 30)

    async def load() -> None:
        store = Store(
            log.root, clock=lambda: NOW, vfs=vfs.name, journal_files=PowerJournalFiles(log)
        )
        for number in range(20):
            await store.append(1, Append(1, make_content(message(number)), pack_date(NOW)))
        log.note(("end",))
        await store.close()

    asyncio.run(load())
    end = next(index for index, event in enumerate(log.events) if event.note == ("end",))
    folder = tmp_path / "cut"
    log.image(end, folder, None)
    segments = {path: path.read_bytes() for path in (folder / "journal").iterdir()}
    assert segments

    async def state() -> dict[int, tuple[bytes, int, int]]:
        store = Store(folder, clock=lambda: NOW)
        found = await store.read(1, inbox)
        await store.close()
        return found

    first = asyncio.run(state())
    assert len(first) == 20
    for path, octets in segments.items():
        path.write_bytes(octets)
    assert asyncio.run(state()) == first


def test_numbers_seen_before_a_power_cut_never_mean_another_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the disk's background work comes: what was taken, put into its file and seen there has no numbers
    in the journal, so no more of it may be unsynced than a start skips."""
    monkeypatch.setattr(recovery, "UIDS_SKIPPED", 200)
    monkeypatch.setattr(recovery, "MOST_UNSYNCED", 100)
    monkeypatch.setattr(commit, "CHECKPOINT_PAGES", 1 << 30)
    disk = Disk(tmp_path / "disk")
    disk.root.mkdir()
    vfs = PowerVFS("unsynced", disk)

    async def before() -> dict[int, bytes]:
        files = PowerJournalFiles(disk)
        store = Store(disk.root, clock=lambda: NOW, vfs="unsynced", journal_files=files)
        await store.append(1, Append(1, make_content(message(0)), pack_date(NOW)))
        seen: dict[int, bytes] = {}
        for start in range(1, 1200, 40):
            await asyncio.gather(
                *(
                    store.deliver(
                        1, Append(1, make_content(message(start + number)), pack_date(NOW))
                    )
                    for number in range(40)
                )
            )
            seen |= {uid: row[0] for uid, row in (await store.read(1, inbox)).items()}
        disk.image(len(disk.events), tmp_path / "cut", None)
        await store.close()
        return seen

    async def after() -> dict[int, bytes]:
        store = Store(tmp_path / "cut", clock=lambda: NOW)
        found = await store.read(1, inbox)
        await store.close()
        return {uid: row[0] for uid, row in found.items()}

    seen = asyncio.run(before())
    vfs.unregister()
    found = asyncio.run(after())
    assert len(seen) == len(found) == 1201
    assert [uid for uid in found if uid in seen and seen[uid] != found[uid]] == []
