"""The store's promises to sessions: appends, flags, copies, expunges, and what happens when the disk fails."""

import asyncio
import errno
import fcntl
import os
import random
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from pillarbox.core import flags as flag
from pillarbox.core.dates import pack_date
from pillarbox.core.errors import DiskFull, Refused, Unavailable
from pillarbox.store import (
    accounts,
    appending,
    changes,
    commit,
    content,
    damage,
    database,
    keywords,
    lately,
    mailboxes,
    messages,
    reclaim,
    renumber,
)
from pillarbox.store import store as store_module
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.check import check_store
from pillarbox.store.flags import change_flags
from pillarbox.store.journal import Journal
from pillarbox.store.store import Store

NOW = 1_790_000_000
ALL = [(1, messages.MOST_UIDS)]


@asynccontextmanager
async def opened(folder: Path, **options) -> AsyncIterator[Store]:
    store = Store(folder, **options)
    try:
        yield store
    finally:
        await store.close()


SKIPPED = renumber.UIDS_SKIPPED


def run(folder: Path, scenario: Callable[[Store], Awaitable[None]], **options) -> None:
    async def main() -> None:
        async with opened(folder, clock=lambda: NOW, **options) as store:
            await scenario(store)

    asyncio.run(main())


def item(number: int = 1, size: int = 50, mailbox: int = 1, **options) -> Append:
    octets = b"From: a@b.example\r\nSubject: %d\r\n\r\n" % number + b"x" * size
    return Append(mailbox, content.make_content(octets), pack_date(NOW), **options)


def fill(store: Store, count: int) -> Awaitable[list[appending.Appended]]:
    return asyncio.gather(*(store.append(1, item(number)) for number in range(count)))


def test_many_large_messages_are_not_in_memory_twice(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        items = [item(size=500_000)] * 30
        await store.append(1, item())
        tracemalloc.start()
        try:
            given = await store.append_all(1, items)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [one.uid for one in given] == list(range(2, 32))
        assert peak < 5_000_000

    run(tmp_path, scenario)


def test_a_staged_body_of_a_message_that_was_there_can_be_reclaimed(tmp_path: Path) -> None:
    def work(tx) -> tuple[list[int], frozenset[int]]:
        bodies = {place: appending.stage(tx) for place in (0, 1)}
        items = [item(delivery_key=key) for key in ("known", "new")]
        return [one.uid for one in appending.append_all(tx, items, bodies)], appending.staged(tx)

    async def scenario(store: Store) -> None:
        await store.append(1, item(delivery_key="known"))
        uids, staged = await store.write(1, work)
        assert uids == [0, 2]
        assert len(staged) == 1

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("uidnext", "uids"),
    [
        (1, [1, 2, 3]),
        (3, [3, 4 + SKIPPED, 5 + SKIPPED]),
        (9, [9 + SKIPPED, 10 + SKIPPED, 11 + SKIPPED]),
    ],
)
def test_only_uids_that_the_mailbox_in_use_gave_are_given_anew(
    tmp_path: Path, uidnext: int, uids: list[int]
) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 3)

    run(tmp_path, scenario)
    path = account_path(tmp_path / "accounts", 1)
    seen = renumber.Seen(kept={"INBOX": renumber.SeenMailbox(uidnext, {})})
    renumber.renumber(path, 1, seen, generation=1, now_s=NOW, grantees=None)
    connection = apsw.Connection(str(path))
    assert [row[0] for row in connection.execute("SELECT uid FROM message ORDER BY uid")] == uids
    (following,) = connection.execute("SELECT uidnext FROM mailbox WHERE mailbox = 1").fetchone()
    assert following > max(*uids, SKIPPED)
    connection.close()


def test_uids_and_modseqs_grow_in_order_of_append(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        given = await fill(store, 600)
        assert [one.uid for one in given] == list(range(1, 601))
        assert len({one.modseq for one in given}) == 600
        box = (await store.read(1, mailboxes.all_mailboxes))[0]
        assert (box.messages, box.unseen, box.uidnext) == (600, 600, 601)

    run(tmp_path, scenario)


@pytest.mark.parametrize("size", [0, 1, 70_000, 600_000, 1_500_000, 3_000_001])
def test_bodies_of_any_size_come_back_octet_for_octet(tmp_path: Path, size: int) -> None:
    body = random.Random(size).randbytes(size)
    octets = b"Subject: x\r\n\r\n" + body

    async def scenario(store: Store) -> None:
        one = Append(1, content.make_content(octets), pack_date(NOW), prefix=b"Return-Path: <>\r\n")
        given = await store.append(1, one)

        def look(tx):
            (row,) = messages.select(
                tx, 1, [(given.uid, given.uid)], ("header", "content", "size", "header_size")
            )
            return row, messages.body(tx, row[1], 0, row[2]), messages.body(tx, row[1], 600_000, 77)

        row, found, part = await store.read(1, look)
        assert row[0] == b"Return-Path: <>\r\nSubject: x\r\n\r\n"
        assert found == body
        assert part == body[600_000:600_077]
        assert row[2] == row[3] + size

    run(tmp_path, scenario)
    assert list(check_store(tmp_path)) == [f"accounts/01/{1:08x}.db belongs to no account"]


def test_a_refused_unit_leaves_the_others_of_its_group_alone(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        results = await asyncio.gather(
            store.append(1, item(1)),
            store.append(1, item(2, mailbox=99)),
            store.append(1, item(3)),
            return_exceptions=True,
        )
        assert isinstance(results[1], Refused)
        assert results[1].code == "TRYCREATE"
        assert [one.uid for one in (results[0], results[2])] == [1, 2]

    run(tmp_path, scenario)


def test_a_delivery_key_makes_the_second_delivery_add_nothing(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        first = await store.append(1, item(delivery_key="Q1/bob@example.test"))
        second = await store.append(1, item(delivery_key="Q1/bob@example.test"))
        assert (first.uid, second.uid) == (1, 0)
        assert store.tally.stored == 1
        assert list(await store.read(1, lambda tx: messages.uids(tx, 1))) == [1]

    run(tmp_path, scenario)


def test_a_change_of_flags_says_what_it_did(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 5)
        await store.write(1, lambda tx: messages.expunge(tx, 1, [(4, 4)], only_deleted=False))

        async def change(ranges, mode, system) -> tuple[bool, int, int, set[int]]:
            done = await store.write(1, lambda tx: change_flags(tx, 1, ranges, mode, system, ()))
            return done.modseq > 0, done.found, done.changed, done.values

        assert await change([(2, 3)], "+", flag.SEEN) == (True, 2, 2, {flag.SEEN})
        assert await change(ALL, "+", flag.SEEN) == (True, 4, 2, {flag.SEEN})
        assert await change(ALL, "+", flag.SEEN) == (False, 4, 0, {flag.SEEN})
        assert await change([(1, 1), (5, 5)], "+", flag.DRAFT) == (
            True, 2, 2, {flag.SEEN | flag.DRAFT},
        )  # fmt: skip
        assert await change(ALL, "-", flag.SEEN) == (True, 4, 4, {0, flag.DRAFT})
        assert await change([(4, 4)], "+", flag.SEEN) == (False, 0, 0, set())
        box = await store.read(1, lambda tx: mailboxes.by_id(tx, 1))
        assert (box.messages, box.unseen) == (4, 4)

    run(tmp_path, scenario)


def test_flags_are_set_where_they_differ_and_only_there(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 5)
        first = await store.write(
            1, lambda tx: change_flags(tx, 1, [(2, 3)], "+", flag.SEEN, [b"$Todo"]).modseq
        )
        again = await store.write(
            1, lambda tx: change_flags(tx, 1, [(2, 2)], "+", flag.SEEN, [b"$TODO"]).modseq
        )
        assert first > 0
        assert again == 0
        replaced = await store.write(
            1, lambda tx: change_flags(tx, 1, ALL, "=", flag.FLAGGED, []).modseq
        )

        def look(tx):
            rows = messages.select(tx, 1, ALL, ("uid", "flags", "modseq"))
            return rows, [keywords.format_flags(tx, row[1]) for row in rows], mailboxes.by_id(tx, 1)

        rows, texts, box = await store.read(1, look)
        assert texts == [b"\\Flagged"] * 5
        assert {row[2] for row in rows} == {replaced}
        assert box.unseen == 5

    run(tmp_path, scenario)


def test_keywords_keep_their_first_spelling_and_are_limited(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 1)
        for number in range(keywords.MOST_KEYWORDS):
            await store.write(
                1, lambda tx, n=number: change_flags(tx, 1, ALL, "+", 0, [b"Key%d" % n])
            )
        with pytest.raises(Refused, match="at most"):
            await store.write(1, lambda tx: change_flags(tx, 1, ALL, "+", 0, [b"more"]))
        await store.write(1, lambda tx: change_flags(tx, 1, ALL, "=", 0, [b"KEY7", b"KEY255"]))
        (row,) = await store.read(1, lambda tx: messages.select(tx, 1, ALL, ("flags",)))
        assert (await store.read(1, lambda tx: keywords.format_flags(tx, row[0]))) == b"Key255 Key7"

    run(tmp_path, scenario)


def test_changes_since_tell_a_session_all_that_it_lacks(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 10)
        box = await store.read(1, lambda tx: mailboxes.by_id(tx, 1))
        assert await store.read(1, lambda tx: changes.since(tx, 1, box.modseq, box.uidnext)) is None
        await store.write(1, lambda tx: change_flags(tx, 1, [(2, 4)], "+", flag.SEEN, []))
        await store.write(
            1, lambda tx: messages.expunge(tx, 1, [(3, 3), (7, 8)], only_deleted=False)
        )
        await store.append(1, item(11))
        found = await store.read(1, lambda tx: changes.since(tx, 1, box.modseq, box.uidnext))
        assert found is not None
        assert found.vanished == [(3, 3), (7, 8)]
        assert found.mailbox.uidnext == 12
        rows, rest = await store.read(
            1, lambda tx: changes.flags_since(tx, 1, found.flagged, box.modseq)
        )
        assert [row[0] for row in rows] == [2, 4]
        assert not rest

    run(tmp_path, scenario)


def test_old_flag_changes_are_forgotten_and_then_all_flags_are_read(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 2)
        box = await store.read(1, lambda tx: mailboxes.by_id(tx, 1))

        def many(tx):
            for number in range(changes.FLAG_CHANGES_KEPT + 10):
                change_flags(tx, 1, [(1, 1)], "+" if number % 2 == 0 else "-", 2, [])
            changes.trim(tx, 1)

        await store.write(1, many)
        found = await store.read(1, lambda tx: changes.since(tx, 1, box.modseq, box.uidnext))
        assert found is not None
        assert found.flagged == [(1, 2)]
        rows, _ = await store.read(
            1, lambda tx: changes.flags_since(tx, 1, found.flagged, box.modseq)
        )
        assert [row[0] for row in rows] == [1]

    run(tmp_path, scenario)


def test_a_session_that_is_far_behind_is_told_so_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_ROWS", 8)

    async def scenario(store: Store) -> None:
        await fill(store, 20)
        box = await store.read(1, lambda tx: mailboxes.by_id(tx, 1))
        odd = [(uid, uid) for uid in range(1, 20, 2)]
        own = await store.write(1, lambda tx: change_flags(tx, 1, odd[:8], "+", 2, []).modseq)
        found = await store.read(1, lambda tx: changes.since(tx, 1, box.modseq, box.uidnext, {own}))
        assert found is not None
        assert (found.is_far, found.flagged) == (False, [])
        await store.write(1, lambda tx: messages.expunge(tx, 1, odd[8:], only_deleted=False))
        found = await store.read(1, lambda tx: changes.since(tx, 1, box.modseq, box.uidnext))
        assert found is not None
        assert (found.is_far, found.vanished, found.flagged) == (True, [], [(1, 20)])

    run(tmp_path, scenario)


@pytest.mark.parametrize(("uids", "ranges"), [(3, 100), (100, 2), (1, 1), (7, 3)])
def test_looks_for_changed_flags_go_on_where_the_last_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uids: int, ranges: int
) -> None:
    monkeypatch.setattr(changes, "SCANNED_UIDS", uids)
    monkeypatch.setattr(changes, "SCANNED_RANGES", ranges)

    async def scenario(store: Store) -> None:
        await fill(store, 20)
        box = await store.read(1, lambda tx: mailboxes.by_id(tx, 1))
        await store.write(1, lambda tx: change_flags(tx, 1, [(2, 6), (9, 9), (15, 20)], "+", 2, []))
        seen: list[int] = []
        left = [(1, 4), (6, 12), (16, 30)]
        while left:
            rows, left = await store.read(
                1, lambda tx, left=left: changes.flags_since(tx, 1, left, box.modseq)
            )
            seen += [row[0] for row in rows]
        assert seen == [2, 3, 4, 6, 9, 16, 17, 18, 19, 20]

    run(tmp_path, scenario)


def test_copies_share_their_content_and_keep_flags_and_dates(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 6)
        await store.write(1, lambda tx: change_flags(tx, 1, [(4, 4)], "+", 9, [b"$Fwd"]))
        sources, first = await store.write(
            1, lambda tx: messages.copy(tx, 1, [(2, 2), (4, 5), (90, 99)], 3)
        )
        assert (sources, first) == ([2, 4, 5], 1)
        columns = ("content", "flags", "internaldate", "size")
        copied = await store.read(1, lambda tx: messages.select(tx, 3, ALL, columns))
        original = await store.read(1, lambda tx: messages.select(tx, 1, [(2, 2), (4, 5)], columns))
        assert copied == original

    run(tmp_path, scenario)


def test_move_takes_the_sources_away(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 4)
        await store.write(1, lambda tx: messages.move(tx, 1, [(2, 3)], 4))
        assert list(await store.read(1, lambda tx: messages.uids(tx, 1))) == [1, 4]
        assert list(await store.read(1, lambda tx: messages.uids(tx, 4))) == [1, 2]

    run(tmp_path, scenario)


def test_counters_hold_after_random_work(tmp_path: Path) -> None:
    dice = random.Random(5)

    def ranges() -> list[tuple[int, int]]:
        start = dice.randrange(1, 60)
        return [(start, start + dice.randrange(10)), (start + 20, start + 25)]

    async def scenario(store: Store) -> None:
        store.directory.add_domain("example.test")
        account = store.directory.add_account("a@example.test", "", "").id
        for _ in range(150):
            box, other = dice.randrange(1, 5), dice.randrange(1, 5)
            where = ranges()
            kind = dice.randrange(6)
            if kind < 2:
                await store.append(
                    account, item(1, dice.randrange(200), box, flags=dice.choice([0, 8, 12]))
                )
            elif kind == 2:
                await store.write(
                    account,
                    lambda tx, b=box, w=where: change_flags(
                        tx, b, w, dice.choice("+-="), dice.choice([4, 8, 3]), [b"k"]
                    ),
                )
            elif kind == 3 and box != other:
                await store.write(
                    account, lambda tx, b=box, o=other, w=where: messages.copy(tx, b, w, o)
                )
            elif kind == 4 and box != other:
                await store.write(
                    account, lambda tx, b=box, o=other, w=where: messages.move(tx, b, w, o)
                )
            else:
                await store.write(account, lambda tx, b=box, w=where: messages.expunge(tx, b, w))

    run(tmp_path, scenario)
    assert list(check_store(tmp_path)) == []


def test_two_units_on_one_account_see_each_other_in_order(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await asyncio.gather(
            store.append(1, item(1)),
            store.write(1, lambda tx: change_flags(tx, 1, ALL, "+", flag.SEEN, [])),
            store.append(1, item(2)),
        )
        rows = await store.read(1, lambda tx: messages.select(tx, 1, ALL, ("uid", "flags")))
        assert rows == [(1, flag.SEEN), (2, 0)]

    run(tmp_path, scenario)


def test_hints_name_the_mailboxes_that_changed(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        seen: list[set[int]] = []
        end = store.subscribe(1, seen.append)
        await fill(store, 3)
        await store.write(1, lambda tx: messages.copy(tx, 1, [(1, 1)], 3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        end()
        await store.append(1, item(9))
        await asyncio.sleep(0)
        assert set().union(*seen) == {1, 3}

    run(tmp_path, scenario)


def test_a_lock_of_another_process_only_delays(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 1)
        descriptor = os.open(account_path(tmp_path / "accounts", 1).with_suffix(".lock"), os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        waiting = asyncio.ensure_future(store.append(1, item(2)))
        other = await store.append(2, item(1))
        assert other.uid == 1
        assert not waiting.done()
        os.close(descriptor)
        assert (await waiting).uid == 2

    run(tmp_path, scenario)


def test_two_servers_cannot_share_a_data_folder(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        with pytest.raises(Refused, match="another Pillarbox"):
            Store(tmp_path)

    run(tmp_path, scenario)


class FullVFS(apsw.VFS):
    """A disk that is full while `full`."""

    def __init__(self) -> None:
        self.full = False
        self.name = f"full-{id(self)}"
        super().__init__(self.name, base="")

    def xOpen(self, name, flags):
        return FullFile(self, name, flags)


class FullFile(apsw.VFSFile):
    def __init__(self, disk: FullVFS, name, flags) -> None:
        super().__init__("", name, flags)
        self.disk = disk

    def xWrite(self, data, offset):
        if self.disk.full:
            raise apsw.FullError("full")
        super().xWrite(data, offset)


def test_a_disk_without_room_for_the_files_beside_one_is_told_as_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says that it cannot open the file, then."""
    error, path = apsw.CantOpenError("unable to open database file"), tmp_path / "1.db"
    assert not isinstance(database.unavailable(error, path), DiskFull)
    monkeypatch.setattr(database, "LEAST_ROOM_OCTETS", 1 << 62)
    assert isinstance(database.unavailable(error, path), DiskFull)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_an_error_that_passes(tmp_path: Path) -> None:
    vfs = FullVFS()

    async def scenario(store: Store) -> None:
        await fill(store, 3)
        vfs.full = True
        for work in (
            store.append(1, item(4)),
            store.append(1, item(5, 100_000)),
            store.append(1, item(5, 2_000_000)),
            store.write(1, lambda tx: change_flags(tx, 1, ALL, "+", flag.SEEN, [])),
        ):
            with pytest.raises(Unavailable):
                await work
        assert list(await store.read(1, lambda tx: messages.uids(tx, 1))) == [1, 2, 3]
        assert store.tally.stored == 3
        vfs.full = False
        assert (await store.append(1, item(6))).uid == 4
        assert (await store.append(1, item(6, 2_000_000))).uid == 5
        await store.append_all(1, [item(7), item(8)])
        await store.deliver(1, item(9))
        assert store.tally.stored == 8

    run(tmp_path, scenario, vfs=vfs.name)
    vfs.unregister()
    problems = [line for line in check_store(tmp_path) if "belongs to no account" not in line]
    assert problems == []


def test_a_checkpoint_that_fails_is_told_by_what_it_means(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a full disk there is the line on that."""
    path = account_path(tmp_path / "accounts", 1)
    for error, said in (
        (apsw.IOError("disk I/O error"), f"what was written last stays in {path}-wal for now"),
        (apsw.FullError("database or disk is full"), "the disk is full, so mail is refused"),
    ):

        def fail(*_arguments: object, error: apsw.Error = error) -> None:
            raise error

        async def scenario(store: Store) -> None:
            await store.append(1, item(1))

        monkeypatch.setattr(commit, "CHECKPOINT_PAGES", 1)
        monkeypatch.setattr(commit, "checkpoint", fail)
        caplog.clear()
        run(tmp_path, scenario)
        lines = [each for each in caplog.messages if "-wal" in each or "disk is full" in each]
        assert lines
        assert all(line.startswith(said) for line in lines)


def test_the_files_of_a_removed_account_are_not_made_again(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        store.directory.add_domain("example.test")
        account = store.directory.add_account("a@example.test", "", "").id
        await store.append(account, item())
        store.directory.remove_account(account)
        store.forget_removed_accounts()

    run(tmp_path, scenario)
    assert list(check_store(tmp_path)) == []
    assert list((tmp_path / "accounts").glob("*/*")) == []


def test_the_log_names_a_damaged_file_and_its_cure_once_in_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [float(NOW)]
    cure = "the mail file of bob@example.test is damaged: stop the server, then run `pillarbox check --repair bob@"

    def lines() -> int:
        return sum(cure in record.getMessage() for record in caplog.records)

    async def first(store: Store) -> None:
        store.directory.add_domain("example.test")
        bob = store.directory.add_account("bob@example.test", "", "")
        await store.append(bob.id, item(1))

    run(tmp_path, first)
    bob = 1
    account_path(tmp_path / "accounts", bob).write_bytes(b"not a database" * 1000)

    async def main() -> None:
        async with opened(tmp_path, clock=lambda: now[0]) as store:
            for expected in (1, 2):
                for _ in range(3):
                    with pytest.raises(Unavailable):
                        await store.read(bob, mailboxes.all_mailboxes)
                    with pytest.raises(Unavailable):
                        await store.write(bob, mailboxes.all_mailboxes)
                assert lines() == expected
                now[0] += damage.TOLD_AGAIN_S

    asyncio.run(main())


def test_what_is_known_of_damaged_files_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    full = lately.FullDisk(Path("data"))
    told = damage.Damage(lambda _account: None, lambda: now, full, lambda: None)
    failure = Unavailable("damaged", database.DAMAGED_CODE)
    told.tell(7, Unavailable("busy", "UNAVAILABLE"))
    assert not caplog.records
    for _ in range(2):
        for account in range(lately.MOST_KNOWN + 5):
            told.tell(account, failure)
    assert len(caplog.records) == lately.MOST_KNOWN
    now = damage.TOLD_AGAIN_S
    told.tell(lately.MOST_KNOWN + 1, failure)
    assert len(caplog.records) == lately.MOST_KNOWN + 1
    assert "the mail file of account 1001 is damaged" in caplog.text


def test_a_full_disk_is_told_once_whoever_meets_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(store: Store) -> None:
        await store.append(1, item(0))

        def full(_journal: Journal, _octets: int) -> None:
            raise DiskFull

        monkeypatch.setattr(Journal, "reserve", full)
        for _ in range(2):
            with pytest.raises(DiskFull):
                await store.append(1, item(1))
            with pytest.raises(DiskFull):
                await store.deliver(1, item(2))

    run(tmp_path, scenario)
    (line,) = [record for record in caplog.records if "the disk is full" in record.getMessage()]
    assert line.levelname == "WARNING"
    assert line.getMessage().endswith(
        f"make room where {tmp_path} is, or move data_dir to a larger one"
    )


def test_a_full_disk_is_told_by_who_writes_a_message_that_comes_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = lately.FullDisk(tmp_path)
    assert full.tell(OSError(errno.ENOSPC, "No space left on device"))
    assert full.tell(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert not full.tell(OSError(errno.EACCES, "Permission denied"))
    assert len(caplog.records) == 1


def test_a_damaged_file_stops_its_account_alone(tmp_path: Path) -> None:
    async def first(store: Store) -> None:
        await store.append(1, item(1))
        await store.append(2, item(1))

    run(tmp_path, first)
    path = account_path(tmp_path / "accounts", 1)
    path.write_bytes(b"not a database" * 1000)

    async def second(store: Store) -> None:
        with pytest.raises(Unavailable):
            await store.append(1, item(2))
        with pytest.raises(Unavailable):
            await store.read(1, mailboxes.all_mailboxes)
        assert (await store.append(2, item(2))).uid == 2

    run(tmp_path, second)


def test_space_of_expunged_messages_is_given_back_after_a_while(tmp_path: Path) -> None:
    now = [float(NOW)]

    async def main() -> None:
        async with opened(tmp_path, clock=lambda: now[0]) as store:
            await fill(store, 4)
            await store.write(1, lambda tx: messages.copy(tx, 1, [(1, 1)], 3))
            await store.write(1, lambda tx: messages.expunge(tx, 1, [(1, 2)], only_deleted=False))
            assert await store.reclaim(1) == 0
            now[0] += reclaim.KEPT_S + 10
            assert await store.reclaim(1) == 1
            (row,) = await store.read(1, lambda tx: messages.select(tx, 3, ALL, ("header", "body")))
            assert row[0].startswith(b"From:")

    asyncio.run(main())
    assert [line for line in check_store(tmp_path) if "belongs to no account" not in line] == []


def test_units_for_accounts_without_files_wait_for_them_and_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "most_open_files", lambda: 4)

    async def scenario(store: Store) -> None:
        given = await asyncio.gather(
            *(store.append(account, item()) for _ in range(3) for account in range(1, 13)),
            *(store.read(account, lambda tx: tx.account) for account in range(1, 13)),
        )
        assert [one.uid for one in given[:36]] == [1] * 12 + [2] * 12 + [3] * 12
        assert given[36:] == list(range(1, 13))
        assert len(store._accounts.open_accounts()) < 12  # more than 4 only while they are used

    run(tmp_path, scenario)


def test_a_file_that_cannot_be_opened_fails_what_waits_for_it_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(store: Store) -> None:
        path = account_path(tmp_path / "accounts", 1)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no database" * 1000)
        results = await asyncio.gather(
            store.append(1, item()),
            store.append(1, item()),
            store.append(2, item()),
            return_exceptions=True,
        )
        assert [type(one) for one in results] == [Unavailable, Unavailable, appending.Appended]
        path.unlink()
        assert (await store.append(1, item())).uid == 1

    run(tmp_path, scenario)


def test_a_reader_that_is_cancelled_leaves_the_file_to_others(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        reader = asyncio.ensure_future(store.read(1, lambda tx: 1))
        await asyncio.sleep(0)
        reader.cancel()
        assert await store.read(1, lambda tx: 2) == 2

    run(tmp_path, scenario)


def test_rows_are_read_until_their_octets_are_enough(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 10)
        columns = ("uid", "envelope")
        rows = await store.read(1, lambda tx: messages.select(tx, 1, ALL, columns))
        most = sum(len(row[1]) for row in rows[:4])
        for ranges in (ALL, [(1, 2), (3, 10)]):
            found, more = await store.read(
                1,
                lambda tx, ranges=ranges: messages.select_octets(tx, 1, ranges, columns, most),
            )
            assert (found, more) == (rows[:5], True)
        found, more = await store.read(
            1, lambda tx: messages.select_octets(tx, 1, ALL, columns, 1 << 20)
        )
        assert (found, more) == (rows, False)

    run(tmp_path, scenario)


def test_what_sqlite_keeps_in_memory_is_bounded_for_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the bound, 40 files with 2 MiB of mail each keep 110 MiB; each keeps some pages with it."""
    limit = 8 << 20
    monkeypatch.setattr(store_module, "CACHES_OCTETS", limit)

    async def scenario(store: Store) -> None:
        for account in range(1, 41):
            await asyncio.gather(
                *(store.append(account, item(number, 60_000)) for number in range(40))
            )
            bodies = await store.read(
                account, lambda tx: tx.rows("SELECT max(body) FROM octets GROUP BY content", ())
            )
            assert len(bodies) == 40
        assert apsw.memory_used() < 5 * limit

    try:
        run(tmp_path, scenario)
    finally:
        apsw.soft_heap_limit(0)


def test_a_read_during_a_commit_sees_what_was_there_before(tmp_path: Path) -> None:
    """By a connection of its own; else by the writer's, whose pages are in memory."""

    async def scenario(store: Store) -> None:
        await fill(store, 3)
        file = store._accounts.get(1)
        assert file is not None
        assert list(await store.read(1, lambda tx: messages.uids(tx, 1))) == [1, 2, 3]
        assert file.reader is None
        is_amid, may_go_on = threading.Event(), threading.Event()

        def expunge(tx) -> None:
            messages.expunge(tx, 1, [(2, 2)], only_deleted=False)
            is_amid.set()
            may_go_on.wait(5)

        written = asyncio.ensure_future(store.write(1, expunge))
        await asyncio.to_thread(is_amid.wait, 5)
        assert list(await store.read(1, lambda tx: messages.uids(tx, 1))) == [1, 2, 3]
        assert file.reader is not None
        may_go_on.set()
        await written
        assert list(await store.read(1, lambda tx: messages.uids(tx, 1))) == [1, 3]

    run(tmp_path, scenario)


def test_a_read_that_fails_leaves_the_writer_as_it_was(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await fill(store, 2)

        def fail(tx) -> None:
            for _ in tx.execute("SELECT uid FROM message"):
                raise Refused("amid the rows")

        def mistake(tx) -> None:
            tx.execute("SELECT nothing FROM nowhere")

        with pytest.raises(Refused) as caught:
            await store.read(1, fail)
        assert caught.traceback  # its frames, and with them the query, are still there
        with pytest.raises(Unavailable):
            await store.read(1, mistake)
        await fill(store, 1)
        await store.write(1, lambda tx: change_flags(tx, 1, ALL, "+", flag.SEEN, []))
        assert list(await store.read(1, lambda tx: messages.uids(tx, 1))) == [1, 2, 3]

    run(tmp_path, scenario)
