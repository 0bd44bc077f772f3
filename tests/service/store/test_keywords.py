"""Keywords of an account: few names, however many sets of them its messages have had."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from pillarbox.core.errors import Refused
from pillarbox.store import flags, keywords, messages, recovery
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.journal import Record
from pillarbox.store.store import Store

ALL = [(1, messages.MOST_UIDS)]


def run(folder: Path, work: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(folder)
        try:
            await store.append(1, Append(1, make_content(b"Subject: a\r\n\r\nb\r\n"), 0))
            await work(store)
        finally:
            await store.close()

    asyncio.run(main())


async def change(store: Store, mode: str, *names: bytes) -> None:
    await store.write(1, lambda tx: flags.change_flags(tx, 1, ALL, mode, 0, names))


async def count(store: Store, table: str) -> int:
    row = await store.read(1, lambda tx: tx.row(f"SELECT count(*) FROM {table}", ()))
    assert row is not None
    return int(row[0])


def test_a_keyword_keeps_its_first_spelling_in_all_sets(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await change(store, "=", b"Work", b"later")
        await change(store, "=", b"LATER", b"play")
        await change(store, "+", b"WORK")
        assert await store.read(1, keywords.all_names) == [b"Work", b"later", b"play"]
        ((value,),) = await store.read(1, lambda tx: messages.select(tx, 1, ALL, ("flags",)))
        assert await store.read(1, lambda tx: keywords.names_of(tx, value)) == (
            b"Work",
            b"later",
            b"play",
        )

    run(tmp_path, work)


def test_keywords_of_a_change_that_fails_are_not_kept(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        names = [b"k%d" % number for number in range(keywords.MOST_KEYWORDS)]
        await change(store, "=", *names)
        with pytest.raises(Refused, match="at most 256 keywords"):
            await change(store, "=", b"one-more")
        await change(store, "=", b"K7")
        assert await store.read(1, keywords.all_names) == sorted(names)

    run(tmp_path, work)


def test_sets_that_no_message_has_are_forgotten_where_there_are_many(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await change(store, "=", b"Kept")
        await store.write(1, keywords.forget_unused)
        for number in range(keywords.KEPT_SETS + 5):
            await change(store, "=", b"k%d" % number, b"Kept")
        await change(store, "=", b"kept", b"K3")
        await store.reclaim(1)
        await store.write(1, lambda tx: None)
        # What the message has, and the last set, without its keywords: its number is not given again.
        assert await count(store, "keyword_set") == 2
        assert await store.read(1, keywords.all_names) == [b"Kept", b"k3"]
        await change(store, "+", b"new")
        ((value,),) = await store.read(1, lambda tx: messages.select(tx, 1, ALL, ("flags",)))
        names = await store.read(1, lambda tx: keywords.names_of(tx, value))
        assert names == (b"Kept", b"k3", b"new")

    run(tmp_path, work)


def test_keywords_that_no_message_has_take_no_room(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        for number in range(2 * keywords.MOST_KEYWORDS + 5):
            await change(store, "=", b"k%d" % number)
        assert len(await store.read(1, keywords.all_names)) <= keywords.MOST_KEYWORDS
        # All in one set, the last one.
        await change(store, "=")
        await change(store, "=", *(b"x%d" % number for number in range(keywords.MOST_KEYWORDS)))
        await change(store, "=")
        await change(store, "=", b"$Junk")
        assert await store.read(1, keywords.all_names) == [b"$Junk"]
        ((value,),) = await store.read(1, lambda tx: messages.select(tx, 1, ALL, ("flags",)))
        assert await store.read(1, lambda tx: keywords.names_of(tx, value)) == (b"$Junk",)

    run(tmp_path, work)


@pytest.mark.parametrize("size", [10, 600_000, 3_000_000])
def test_messages_with_new_keywords_are_taken_where_others_are_unused(
    tmp_path: Path, size: int
) -> None:
    content = make_content(b"Subject: a\r\n\r\n" + b"x" * 70 * (size // 70) + b"\r\n")

    async def work(store: Store) -> None:
        item = Append(1, content, 0, 0, (b"new",))
        for is_one in (True, False):
            await change(store, "=", *(b"%d" % number for number in range(keywords.MOST_KEYWORDS)))
            await change(store, "=")
            await (store.append(1, item) if is_one else store.append_all(1, [item]))
            assert await store.read(1, keywords.all_names) == [b"new"]
            await store.write(1, lambda tx: messages.expunge(tx, 1, [(2, 9)], only_deleted=False))
        assert await count(store, "message") == 1
        assert await count(store, "staged") == 0

    run(tmp_path, work)


def test_a_full_account_refuses_messages_with_new_keywords(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        names = [b"k%d" % number for number in range(keywords.MOST_KEYWORDS)]
        await change(store, "=", *names)
        item = Append(1, make_content(b"Subject: a\r\n\r\nb\r\n"), 0, 0, (b"new",))
        with pytest.raises(Refused, match="at most 256 keywords"):
            await store.append(1, item)
        await store.append(1, replace(item, keywords=(b"K1",)))
        assert await store.read(1, keywords.all_names) == sorted(names)

    run(tmp_path, work)


def test_guests_leave_half_of_the_room_to_the_owner(tmp_path: Path) -> None:
    half = keywords.MOST_KEYWORDS_OF_GUESTS

    async def work(store: Store) -> None:
        item = Append(1, make_content(b"Subject: a\r\n\r\nb\r\n"), 0, is_guest=True)
        for number in range(half):
            await store.append(1, replace(item, keywords=(b"guest%d" % number,)))
        with pytest.raises(Refused, match="at most 128 keywords"):
            await store.append(1, replace(item, keywords=(b"new", b"guest1")))
        await store.append(1, replace(item, keywords=(b"GUEST1",)))
        for number in range(half):
            own = replace(item, keywords=(b"own%d" % number,), is_guest=False)
            await store.append(1, own)

    run(tmp_path, work)


def test_what_was_acknowledged_is_replayed_whatever_keywords_there_are(tmp_path: Path) -> None:
    """What was forgotten may be there again after a power cut."""

    async def work(store: Store) -> None:
        await change(store, "=", *(b"k%d" % number for number in range(keywords.MOST_KEYWORDS)))
        row = await store.read(1, lambda tx: tx.row("SELECT uidvalidity FROM mailbox", ()))
        assert row is not None
        octets = b"Subject: a\r\n\r\nb\r\n"
        record = Record(1, 1, 1, row[0], 2, 1000, 0, 0, 0, (b"new",), "", b"", octets)
        assert await store.write(1, lambda tx: recovery.apply_record(tx, record))

    run(tmp_path, work)


def test_keywords_of_a_file_of_an_older_version_are_known(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await change(store, "=", b"Zeta", b"alpha")
        await change(store, "=", b"ZETA", b"$Forwarded")

    run(tmp_path, work)
    path = account_path(tmp_path / "accounts", 1)
    old = apsw.Connection(str(path))
    old.execute("DROP TABLE keyword")
    old.execute("DROP INDEX message_content")
    old.pragma("user_version", 6)
    old.close()

    async def look(store: Store) -> None:
        assert await store.read(1, keywords.all_names) == [b"$Forwarded", b"Zeta", b"alpha"]

    run(tmp_path, look)


@pytest.mark.parametrize("limit", ["MOST_SETS", "MOST_SETS_OCTETS"])
def test_sets_of_keywords_take_bounded_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(keywords, limit, 6 if limit == "MOST_SETS" else 40)
    monkeypatch.setattr(keywords, "KNOWN_SETS", 3)

    async def work(store: Store) -> None:
        for number in range(50):
            await change(store, "+" if number % 4 else "=", b"Name%d" % (number % 8))
        assert await count(store, "keyword_set") <= 6
        item = Append(1, make_content(b"Subject: a\r\n\r\nb\r\n"), 0)
        for number in range(9):  # a set of its own for each
            with contextlib.suppress(Refused):
                await store.append(1, replace(item, keywords=(b"Name7", b"Own%d" % number)))
        for mode in "+-":
            with pytest.raises(Refused, match="too many different sets"):
                await change(store, mode, b"Name7")
        await change(store, "=")
        await change(store, "+", b"Name7")
        assert await count(store, "keyword_set") <= 2

    run(tmp_path, work)
