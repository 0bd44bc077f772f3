"""A damaged account file: what can be read of it is saved as it was; others go on, and no mail is lost meanwhile."""

import asyncio
import os
import random
import shutil
import time
from pathlib import Path

import apsw
import pytest
from people import ALICE, make_directory
from test_backup import append, damage, with_store
from test_intake import deliver, subjects
from test_store import item
from tests.budget import tries

from pillarbox.core.errors import Refused, Unavailable
from pillarbox.store import acl, mailboxes, messages
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.check import check_store
from pillarbox.store.content import PIECE_BITS, make_content
from pillarbox.store.journaled import Journaled
from pillarbox.store.lacking import find_unusable
from pillarbox.store.pages import LEAF_TABLE, Pages
from pillarbox.store.reclaim import find_reclaimable, reclaim
from pillarbox.store.repair import Repaired, repair
from pillarbox.store.salvage import salvage
from pillarbox.store.store import Store
from pillarbox.store.tx import Tx

PAGE = 4096


def octets(number: int) -> bytes:
    return b"Subject: %d\r\nMessage-ID: <%d@example.net>\r\n\r\n%b\r\n" % (
        number,
        number,
        b"%d " % number * (number % 40 * 50),
    )


async def fill(store: Store) -> None:
    """300 messages in INBOX, 100 in another mailbox, one of 3 MB."""
    other = await store.write(1, lambda tx: mailboxes.create(tx, ("Other",)))
    for number in range(400):
        mailbox = other.id if number % 4 == 0 else mailboxes.INBOX
        await store.append(1, Append(mailbox, make_content(octets(number)), 0))
    large = b"Subject: 400\r\n\r\n" + os.urandom(1500_000).hex().encode() + b"\r\n"
    await store.append(1, Append(mailboxes.INBOX, make_content(large), 0))


async def contents(store: Store) -> dict[str, list[bytes]]:
    """The messages of each mailbox, by UID."""

    def look(tx) -> dict[str, list[bytes]]:
        found = {}
        for mailbox in mailboxes.all_mailboxes(tx):
            rows = messages.select(
                tx, mailbox.id, [(1, messages.MOST_UIDS)], ("content", "header", "size")
            )
            found["/".join(mailbox.name)] = [
                header + messages.body(tx, content, 0, size) for content, header, size in rows
            ]
        return found

    return await store.read(1, look)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "data"
    folder.mkdir()
    make_directory(folder, ALICE, "bob@example.org")
    with_store(folder, fill)
    return folder


def copied(filled: Path, tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "data"
    shutil.copytree(filled, folder)
    return folder, account_path(folder / "accounts", 1)


def test_a_file_without_an_octet_is_damage_and_not_a_new_mailbox(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files get their names once they are whole."""
    folder = tmp_path / "data"
    folder.mkdir()
    make_directory(folder, ALICE)

    async def fill_one(store: Store) -> None:
        await store.append(1, item(0))

    with_store(folder, fill_one)
    path = account_path(folder / "accounts", 1)
    os.truncate(path, 0)

    async def look(store: Store) -> None:
        for _ in range(2):
            with pytest.raises(Unavailable) as raised:
                await subjects(store)
            assert raised.value.code == "CORRUPTION"
        with pytest.raises(Unavailable):
            await store.append(1, item(1))

    with_store(folder, look)
    assert path.stat().st_size == 0, "nothing was made of it"
    assert f"the mail file of {ALICE} is damaged" in caplog.text
    assert list(find_unusable(folder, [1])) == [(1, "")]
    assert any("damaged" in line for line in check_store(folder))
    (repaired,) = repair(folder)
    assert isinstance(repaired, Repaired)
    assert repaired.aside is not None

    async def after(store: Store) -> None:
        assert await subjects(store) == []

    with_store(folder, after)


def overwrite(path: Path) -> None:
    """All of it, while it is open."""
    damage(path, 0, 60)
    os.truncate(f"{path}-wal", 0)


def repaired(folder: Path) -> Repaired:
    (done,) = repair(folder)
    assert isinstance(done, Repaired)
    assert list(check_store(folder)) == []
    return done


def test_a_store_in_order_is_left_alone(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)
    before = path.read_bytes()
    assert list(repair(folder)) == []
    assert path.read_bytes() == before


@pytest.mark.parametrize("seed", range(12))
def test_what_is_saved_is_as_it_was_and_what_is_lost_is_told(
    filled: Path, tmp_path: Path, seed: int
) -> None:
    folder, path = copied(filled, tmp_path)
    before = with_store(folder, contents)
    chance = random.Random(seed)
    pages = path.stat().st_size // PAGE
    with path.open("r+b") as file:
        for _ in range(chance.choice((1, 5, 20))):
            file.seek(chance.randrange(1, pages) * PAGE)
            file.write(chance.choice((b"\0" * PAGE, chance.randbytes(PAGE))))
    if not list(check_store(folder)):
        return  # pages of a body, or free ones
    done = repaired(folder)
    after = with_store(folder, contents)
    known = {text for texts in before.values() for text in texts}
    strange = [text for texts in after.values() for text in texts if text not in known]
    # A page in the middle of a body has nothing that tells of its change.
    assert len(strange) <= 20
    for name, texts in before.items():
        missing = len(texts) - len(after.get(name, []))
        assert missing <= done.salvaged.lost.get(name, len(texts))
    found = sum(len(texts) for texts in after.values())
    assert found == done.salvaged.saved + done.salvaged.recovered
    assert done.aside is not None
    assert done.aside.exists()


def roots(path: Path) -> dict[str, int]:
    connection = apsw.Connection(str(path))
    try:
        found = connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0")
        return {str(name): int(page) for name, page in found}
    finally:
        connection.close()


def damage_roots(path: Path, *names: str) -> None:
    known = roots(path)
    for name in names:
        damage(path, known[name] - 1, 1)


def all_texts(found: dict[str, list[bytes]]) -> list[bytes]:
    return sorted(text for texts in found.values() for text in texts)


RENDERED = ("rendered", "fields", "sort_key", "line_end", "thread")


@pytest.mark.parametrize(
    "names",
    [
        ("octets",),
        ("body_piece",),
        ("message",),
        ("mailbox",),
        ("message_content",),
        ("mailbox", "mailbox_name"),
        ("message", "message_content", "octets"),
        ("octets", "body_piece", "message", *RENDERED),
        ("octets", "body_piece", "message", "mailbox", "expunged", *RENDERED),
    ],
    ids="-".join,
)
def test_mail_is_saved_though_the_root_pages_of_tables_are_lost(
    filled: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder, path = copied(filled, tmp_path)
    damage_roots(path, *names)
    done = repaired(folder).salvaged
    before, after = with_store(filled, contents), with_store(folder, contents)
    assert all_texts(after) == all_texts(before)
    assert done.saved + done.recovered == 401
    assert (done.lost, done.is_uncounted) == ({}, False)
    if "mailbox_name" not in names and not {"message", "message_content"} <= set(names):
        assert after == before
        assert done.recovered == 0


def test_mail_is_saved_though_the_first_page_and_roots_are_lost(
    filled: Path, tmp_path: Path
) -> None:
    folder, path = copied(filled, tmp_path)
    damage_roots(path, "octets", "body_piece", "message", "mailbox")
    damage(path, 0, 1)
    done = repaired(folder).salvaged
    assert with_store(folder, contents) == with_store(filled, contents)
    assert (done.saved, done.recovered, done.lost) == (401, 0, {})
    assert done.may_be_old  # a mailbox may have been deleted with its mail


def test_flags_that_are_lost_are_told_and_the_others_kept(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)

    async def flag_all(store: Store) -> None:
        await store.write(
            1, lambda tx: tx.execute("UPDATE message SET flags = 2, internaldate = 77").fetchall()
        )

    with_store(folder, flag_all)
    damage_roots(path, "message")  # which has a few rows; the others are in leaf pages
    done = repaired(folder).salvaged
    connection = apsw.Connection(str(path))
    (kept,) = connection.execute(
        "SELECT count(*) FROM message WHERE flags = 2 AND internaldate = 77"
    ).fetchone()
    connection.close()
    assert 0 < done.unflagged < 20
    assert kept == 401 - done.unflagged


def test_messages_whose_place_is_lost_are_found_again(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)
    damage_pages(path, "message", "message_content")
    done = repaired(folder).salvaged
    before, after = with_store(filled, contents), with_store(folder, contents)
    assert (done.saved, done.recovered) == (0, 401)
    assert done.lost == {}  # all are in Recovered
    assert not done.is_uncounted
    assert sorted(after["Recovered"]) == all_texts(before)


def test_texts_that_are_lost_are_counted_by_mailbox(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)
    damage_pages(path, "octets")
    done = repaired(folder).salvaged
    assert done.lost == {"INBOX": 301, "Other": 100}


def test_names_of_mailboxes_are_found_in_their_index(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)
    damage_pages(path, "mailbox")
    damage_roots(path, "account_state")
    done = repaired(folder).salvaged
    assert with_store(folder, contents) == with_store(filled, contents)
    assert not done.is_uncounted  # all messages are there

    async def uses(store: Store) -> dict[str, str]:
        found = await store.read(1, mailboxes.all_mailboxes)
        return {each.name[0]: each.special_use for each in found}

    assert with_store(folder, uses)["Sent"] == "\\Sent"


def test_mail_is_saved_from_a_file_whose_tables_are_in_other_places(
    filled: Path, tmp_path: Path
) -> None:
    """Its first page said where, and is lost."""
    folder, path = copied(filled, tmp_path)
    before = roots(path)
    connection = apsw.Connection(str(path))
    connection.execute("DROP TABLE subscription")  # the first of all: the others move up
    connection.execute("DROP TABLE change")
    connection.execute("VACUUM")
    connection.close()
    assert roots(path)["octets"] != before["octets"]
    damage(path, 0, 1)
    done = repaired(folder).salvaged
    assert with_store(folder, contents) == with_store(filled, contents)
    assert (done.saved, done.recovered, done.lost) == (401, 0, {})


def test_what_is_only_in_the_write_ahead_log_is_saved(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)
    copy = tmp_path / "copy"
    connection = apsw.Connection(str(path))
    connection.wal_autocheckpoint(0)
    connection.execute("UPDATE message SET flags = 2 WHERE uid > 10")
    root = roots(path)["octets"]
    shutil.copytree(folder, copy)
    connection.close()
    path = account_path(copy / "accounts", 1)
    damage(path, root - 1, 1)
    assert Path(f"{path}-wal").stat().st_size > 0
    salvaged = salvage(path, tmp_path / "new.db", 1, 1_790_000_000, Journaled())
    assert (salvaged.saved, salvaged.unflagged, salvaged.recovered) == (401, 0, 0)
    connection = apsw.Connection(str(tmp_path / "new.db"))
    sql = "SELECT count(*) FROM message WHERE flags = 2"
    assert connection.execute(sql).fetchone() == (381,)
    connection.close()


def pages_of_texts(path: Path) -> dict[int, set[int]]:
    """By content: all pages that its text is in."""
    octets = path.read_bytes()
    found: dict[int, set[int]] = {}
    with Pages(path) as pages:
        for cell in pages.cells(LEAF_TABLE):
            if cell.shape not in ("inbbb", "inb") or cell.rowid is None:
                continue
            own = found.setdefault(cell.rowid >> (PIECE_BITS if cell.shape == "inb" else 0), set())
            own.add(cell.page)
            page = cell.overflow
            while page:
                own.add(page)
                page = int.from_bytes(octets[(page - 1) * PAGE :][:4], "big")
    return found


@pytest.mark.parametrize("seed", range(tries(12, 200)))
def test_each_message_is_saved_whose_pages_stand(filled: Path, tmp_path: Path, seed: int) -> None:
    """Those that lead there may be lost, and all that describes it; and nothing deleted comes back without a word."""
    folder, path = copied(filled, tmp_path)
    gone: set[bytes] = set()
    if seed % 2:
        gone = set(all_texts(with_store(folder, contents)))
        with_store(folder, expunge_half)
        gone -= set(all_texts(with_store(folder, contents)))
    texts = pages_of_texts(path)
    total = len(texts)
    assert total == (151 if seed % 2 else 401)
    chance = random.Random(seed)
    count = path.stat().st_size // PAGE
    known = roots(path)
    damaged = set(chance.sample(range(2, count + 1), chance.choice((3, 30, count // 4))))
    damaged |= {known[name] for name in chance.sample(sorted(known), chance.randrange(9))}
    damaged |= {1} if chance.random() < 0.5 else set()
    with path.open("r+b") as file:
        for page in damaged:
            file.seek((page - 1) * PAGE)
            file.write(chance.choice((bytes(PAGE), chance.randbytes(PAGE))))
    numbers = {content for content, pages in texts.items() if not pages & damaged}
    whole = with_store(filled, lambda store: texts_of(store, numbers))  # these never change
    if not list(check_store(folder)):
        return
    done = repaired(folder).salvaged
    found = set(all_texts(with_store(folder, contents)))
    assert set(whole.values()) <= found
    assert done.saved + done.recovered >= len(whole)
    if done.saved + done.recovered < total:
        assert done.is_uncounted or sum(done.lost.values()) >= total - done.saved - done.recovered
    if found & gone:
        assert done.may_be_old


async def texts_of(store: Store, wanted: set[int]) -> dict[int, bytes]:
    def look(tx) -> dict[int, bytes]:
        rows = tx.rows(
            "SELECT o.content, o.header, r.size FROM octets AS o JOIN rendered AS r USING (content)",
            (),
        )
        return {
            content: header + messages.body(tx, content, 0, size)
            for content, header, size in rows
            if content in wanted
        }

    return await store.read(1, look)


def damage_pages(path: Path, *names: str) -> None:
    """All of tables or indexes but for overflow pages."""
    with Pages(path) as pages:
        found = pages.reachable([roots(path)[name] for name in names])
        numbers = [number for number in range(pages.count + 1) if number in found]
    assert numbers
    for number in numbers:
        damage(path, number - 1, 1)


async def expunge_half(store: Store) -> None:
    """Of each mailbox, and give their space back as if a week had passed; the others get flags twice."""

    def work(tx) -> None:
        for mailbox in mailboxes.all_mailboxes(tx):
            messages.expunge(tx, mailbox.id, [(1, 150)], only_deleted=False)
        tx.execute("UPDATE message SET flags = 8, modseq = modseq + 5000").fetchall()
        tx.execute("UPDATE account_state SET modseq = modseq + 6000").fetchall()
        tx.execute("UPDATE mailbox SET unseen = 0").fetchall()

    def give_back(tx) -> None:
        later = Tx(tx.account, tx.connection, tx.keyword_names, tx.now_s + 30 * 86400)
        reclaim(later, find_reclaimable(later))

    await store.write(1, work)
    await store.write(1, give_back)


@pytest.mark.parametrize("is_first_page_lost", [False, True])
@pytest.mark.parametrize(
    "names",
    [
        ("octets", "body_piece"),
        ("message",),
        ("octets", "body_piece", "message"),
        ("octets", "body_piece", "message", "change"),
        ("octets", "body_piece", "rendered", "fields", "sort_key"),
        ("octets", "body_piece", "message", "mailbox", "rendered"),
    ],
    ids="-".join,
)
def test_what_was_deleted_does_not_come_back_without_a_word(
    filled: Path, tmp_path: Path, names: tuple[str, ...], is_first_page_lost: bool
) -> None:
    folder, path = copied(filled, tmp_path)
    with_store(folder, expunge_half)
    before = with_store(folder, contents)
    assert 100 < len(all_texts(before)) < 200
    connection = apsw.Connection(str(path))
    assert connection.pragma("freelist_count") > 10
    connection.close()
    damage_roots(path, *names)
    if is_first_page_lost:
        damage(path, 0, 1)
    done = repaired(folder).salvaged
    after = with_store(folder, contents)
    assert set(all_texts(before)) <= set(all_texts(after))
    if not done.may_be_old:
        assert after == before
        assert (done.lost, done.is_uncounted) == ({}, False)
    is_expunge_unknown = bool({"change", "mailbox"} & set(names))
    assert done.may_be_old == (is_first_page_lost and "message" in names and is_expunge_unknown)


def test_a_lost_first_page_is_taken_from_an_empty_file(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)
    damage(path, 0, 1)
    done = repaired(folder)
    assert (done.salvaged.saved, done.salvaged.lost) == (401, {})
    assert with_store(folder, contents) == with_store(filled, contents)


def test_lost_pages_that_say_where_the_tables_are_are_taken_from_an_empty_file(
    filled: Path, tmp_path: Path
) -> None:
    folder, path = copied(filled, tmp_path)
    connection = apsw.Connection(str(path))
    roots = {row[0] for row in connection.execute("SELECT rootpage FROM sqlite_schema")}
    connection.close()
    first_of_others = sorted(set(range(2, max(roots))) - roots)
    assert first_of_others
    for page in (1, *first_of_others):
        damage(path, page - 1, 1)
    done = repaired(folder)
    assert (done.salvaged.saved, done.salvaged.lost) == (401, {})
    assert with_store(folder, contents) == with_store(filled, contents)


def test_that_nobody_knows_what_is_lost_is_told(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)
    damage(path, 1, 60)
    assert repaired(folder).salvaged.is_uncounted


def test_a_file_of_which_nothing_is_left_is_begun_anew(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)
    path.write_bytes(os.urandom(100_000))
    done = repaired(folder)
    assert done.salvaged.saved == 0
    assert done.salvaged.is_uncounted
    assert set(with_store(folder, contents)) == {
        "INBOX",
        "Sent",
        "Drafts",
        "Trash",
        "Junk",
        "Archive",
    }


def test_after_a_repair_numbers_are_new_and_unique_ids_are_kept(
    filled: Path, tmp_path: Path
) -> None:
    """RFC 3501 §2.3.1.1, RFC 1939 §7"""
    folder, path = copied(filled, tmp_path)

    async def look(store: Store):
        inbox = await store.read(1, lambda tx: mailboxes.by_id(tx, mailboxes.INBOX))
        columns = ("uid", "uidl")
        rows = await store.read(1, lambda tx: messages.select(tx, 1, [(1, 1 << 31)], columns))
        return inbox.uidvalidity, rows

    before, rows = with_store(folder, look)
    damage(path, 0, 1)
    repaired(folder)
    after, uidls = with_store(folder, look)
    assert after > before
    assert uidls == [(uid, f"{before:08x}{uid:08x}") for uid, _ in rows]


def test_rights_go_to_no_other_mailbox_than_their_own(data: Path) -> None:
    """RFC 4314: where names and numbers of mailboxes are lost, a repair makes others."""

    async def fill_shared(store: Store) -> None:
        team = await store.write(1, lambda tx: mailboxes.create(tx, ("Team",)))
        await store.write(1, lambda tx: mailboxes.subscribe(tx, ("Team",)))
        await store.share(1, team.id, 2, "=", "lrswi")
        await store.share(1, mailboxes.INBOX, 0, "=", "lr")
        for number in range(20):
            await store.append(1, item(number))

    with_store(data, fill_shared)
    path = account_path(data / "accounts", 1)
    damage_roots(path, "account_state", "mailbox", "mailbox_name", "message", "message_content")
    done = repaired(data)
    assert done.salvaged.recovered == 20
    assert done.unshared == [("", ["bob@example.org"])]
    assert done.salvaged.gone == ["Team"]

    async def look(store: Store) -> list[tuple[str, ...]]:
        # The next ones that are made have nothing of Team either.
        await store.write(1, lambda tx: mailboxes.create(tx, ("Another",)))
        assert await store.read(1, lambda tx: acl.entries(tx, mailboxes.INBOX)) == [(0, "lr")]
        return [each.name for each in await store.read(1, lambda tx: acl.shared_with(tx, 2))]

    assert with_store(data, look) == [("INBOX",)]


def test_a_mailbox_whose_name_is_lost_is_its_owners_alone(data: Path) -> None:
    async def fill_shared(store: Store) -> int:
        team = await store.write(1, lambda tx: mailboxes.create(tx, ("Team",)))
        await store.share(1, team.id, 0, "=", "lrswi")
        await store.append(1, item(0, mailbox=team.id))
        return team.id

    number = with_store(data, fill_shared)
    damage_roots(account_path(data / "accounts", 1), "mailbox", "mailbox_name")
    done = repaired(data)
    assert done.unshared == [(f"Recovered {number}", ["anyone"])]

    async def look(store: Store) -> list[acl.Shared]:
        return await store.read(1, lambda tx: acl.shared_with(tx, 2))

    assert with_store(data, look) == []


def test_what_sqlite_says_of_a_damaged_file_is_one_line_in_plain_words(
    filled: Path, tmp_path: Path
) -> None:
    folder, path = copied(filled, tmp_path)
    damage(path, 3, 8)
    (line, *others) = check_store(folder)
    assert line.startswith("alice@example.org: 00000001.db is damaged (SQLite: ")
    assert line.endswith("stop the server, then run `pillarbox check --repair alice@example.org`")
    assert all("\n" not in each and "***" not in each for each in (line, *others))
    assert not [each for each in others if "damaged" in each]


def test_without_a_directory_no_file_is_said_to_belong_to_nobody(
    filled: Path, tmp_path: Path
) -> None:
    folder, path = copied(filled, tmp_path)
    (folder / "directory.db").write_bytes(b"not a database" * 1000)
    assert [line[:24] for line in check_store(folder)] == ["directory.db is damaged:"]
    damage(path, 3, 8)
    problems = list(check_store(folder))
    assert problems[1].startswith("accounts/01/00000001.db is damaged (SQLite: ")


def test_a_running_server_is_told_to_stop(filled: Path, tmp_path: Path) -> None:
    folder, _ = copied(filled, tmp_path)

    async def scenario(_store: Store) -> None:
        with pytest.raises(Refused, match="stop it first"):
            list(repair(folder))

    with_store(folder, scenario)


def test_mail_that_was_taken_for_a_damaged_file_is_in_it_after_the_repair(data: Path) -> None:
    async def scenario(store: Store) -> None:
        await append(store, *range(30))
        await append(store, 0, account=2)
        await deliver(store, 30, 31)  # acknowledged
        overwrite(account_path(data / "accounts", 1))
        with pytest.raises(Unavailable) as refusal:
            await store.append(1, item(32))
        assert refusal.value.code in ("CORRUPTION", "UNAVAILABLE")
        await append(store, 1, account=2)
        assert await subjects(store, 2) == [0, 1]

    with_store(data, scenario)
    (done,) = repair(data)
    assert isinstance(done, Repaired)
    assert done.salvaged.from_journal >= 2
    assert with_store(data, subjects)[-2:] == [30, 31]
    assert list(check_store(data)) == []


def test_a_repair_ends_in_time_however_much_is_damaged(filled: Path, tmp_path: Path) -> None:
    folder, path = copied(filled, tmp_path)
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // PAGE, 2):
            file.seek(page * PAGE)
            file.write(bytes(PAGE))
    began = time.process_time()
    repaired(folder)
    assert time.process_time() - began < 10


def test_nothing_waits_for_a_damaged_account(data: Path) -> None:
    async def scenario(store: Store) -> None:
        for account in (1, 2):
            await append(store, 0, account=account)

    with_store(data, scenario)
    account_path(data / "accounts", 1).write_bytes(os.urandom(40_000))

    async def second(store: Store) -> None:
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match="damaged"):
                await subjects(store)
            assert await subjects(store, 2) == [0]

    with_store(data, second)


def test_mailboxes_that_nothing_names_are_found_whatever_their_numbers(
    filled: Path, tmp_path: Path
) -> None:
    """After a restore they are above a million, and none below is looked for in vain."""
    _folder, path = copied(filled, tmp_path)
    connection = apsw.Connection(str(path))
    number = (1 << 20) + 7
    connection.execute("UPDATE message SET mailbox = ? WHERE mailbox <> ?", (number, 1))
    connection.execute("UPDATE account_state SET next_mailbox = ?", (number + 1,))
    connection.execute("DELETE FROM mailbox WHERE mailbox <> 1")
    connection.close()
    target = tmp_path / "new.db"
    begin = time.monotonic()
    salvaged = salvage(path, target, 1, 1_790_000_000, Journaled())
    assert time.monotonic() - begin < 20
    assert salvaged.saved + salvaged.recovered == 401
