"""Numbers in one account's file that cannot be: that account is refused as damaged, and no other is harmed. `check`
finds them, and what a repair or a restore makes has none."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from people import ALICE
from test_backup import put_back, save, with_store
from test_intake import deliver, subjects
from test_store import item

from pillarbox.core.errors import Failure
from pillarbox.store import mailboxes
from pillarbox.store.accounts import account_path
from pillarbox.store.check import check_store
from pillarbox.store.numbers import HIGHEST_UIDVALIDITY
from pillarbox.store.repair import Repaired, repair
from pillarbox.store.store import Store

HIGHEST = (1 << 63) - 1


def change(data: Path, sql: str) -> None:
    with closing(sqlite3.connect(account_path(data / "accounts", 1))) as connection:
        connection.execute(sql)
        connection.commit()


def numbers(data: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(account_path(data / "accounts", 1))) as connection:
        state = connection.execute("SELECT modseq, next_content, next_mailbox FROM account_state")
        return [
            *state,
            *connection.execute("SELECT uidvalidity, uidnext, modseq, change_floor FROM mailbox"),
            *connection.execute("SELECT uid, modseq FROM message"),
        ]


async def fill(store: Store) -> None:
    for number in range(3):
        await store.append(1, item(number))
    await deliver(store, 3)
    await store.append(2, item(0))
    assert await subjects(store) == [0, 1, 2, 3]


async def refused(store: Store) -> set[str]:
    """The codes of what fails for the account whose file has odd numbers, "" if nothing does; what was only taken is in
    the journal. The other account takes mail."""
    codes = set()
    for _ in range(2):
        with suppress(Failure):
            await store.deliver(1, item(7))
        try:
            await store.append(1, item(7))
            codes.add("")
        except Failure as failure:
            codes.add(failure.code)
        await store.append(2, item(1))
        await store.deliver(2, item(1))
    assert len(await store.read(2, mailboxes.all_mailboxes)) == 6
    return codes


ODD = [
    *(f"UPDATE mailbox SET uidvalidity = {value} WHERE mailbox = 1" for value in (-5, 0, 1 << 40)),
    "UPDATE mailbox SET uidvalidity = 'text' WHERE mailbox = 1",
    *(f"UPDATE mailbox SET uidnext = {value} WHERE mailbox = 1" for value in (-5, 1 << 40)),
    *(f"UPDATE account_state SET modseq = {value}" for value in (HIGHEST, -20, 9.3e18, 1.5)),
    *(f"UPDATE account_state SET generation = {value}" for value in ("'x'", -3, 1 << 40)),
    *(f"UPDATE account_state SET next_content = {value}" for value in (1 << 62, -7, 1e19)),
]


@pytest.mark.parametrize("sql", ODD)
def test_odd_numbers_of_one_account_are_its_damage_alone(data: Path, sql: str) -> None:
    with_store(data, fill)
    change(data, sql)
    problems = list(check_store(data))
    assert any("numbers that cannot be" in problem for problem in problems)
    assert with_store(data, refused) == {"CORRUPTION"}
    (done,) = repair(data)
    assert isinstance(done, Repaired)
    assert list(check_store(data)) == []
    found = with_store(data, subjects)
    assert [number for number in found if number != 7] == [0, 1, 2, 3]
    assert with_store(data, refused) == {""}
    assert all(type(value) is int and value >= 0 for row in numbers(data) for value in row)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE message SET uid = 1 << 40 WHERE uid = 2",
        "UPDATE message SET uid = -4 WHERE uid = 2",
        f"UPDATE message SET modseq = {HIGHEST} WHERE uid = 2",
        "UPDATE message SET content = 1 << 50 WHERE uid = 2",
        "UPDATE mailbox SET mailbox = 1 << 40 WHERE mailbox = 1",
        "UPDATE mailbox SET mailbox = -1 WHERE mailbox = 1",
        "UPDATE account_state SET next_mailbox = 1 << 40",
        "UPDATE account_state SET uidvalidity = 1 << 40",
    ],
)
def test_a_repair_leaves_no_number_that_cannot_be(data: Path, sql: str) -> None:
    with_store(data, fill)
    change(data, sql)
    assert any("numbers that cannot be" in problem for problem in check_store(data))
    with_store(data, refused)
    (done,) = repair(data)
    assert isinstance(done, Repaired)
    assert list(check_store(data)) == []

    async def all_mail(store: Store) -> int:
        boxes = await store.read(1, mailboxes.all_mailboxes)
        assert all(box.uidvalidity <= HIGHEST_UIDVALIDITY for box in boxes)
        return sum(box.messages for box in boxes)

    assert with_store(data, all_mail) >= 4
    assert with_store(data, refused) == {""}


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE message SET content = 77 WHERE uid = 2",
        "UPDATE message SET flags = 1.5 WHERE uid = 2",
        "UPDATE message SET internaldate = 'x' WHERE uid = 2",
        "UPDATE mailbox SET recent_uid = x'00' WHERE mailbox = 1",
        "UPDATE mailbox SET change_floor = 'x' WHERE mailbox = 1",
        "UPDATE mailbox SET name = CAST(x'46c6' AS TEXT) WHERE mailbox = 2",
        "UPDATE mailbox SET name = 'Other' WHERE mailbox = 1",
    ],
)
def test_what_no_row_can_have_is_told_and_mended_and_no_mail_is_lost(data: Path, sql: str) -> None:
    with_store(data, fill)
    change(data, sql)
    assert list(check_store(data)) != []
    (done,) = repair(data)
    assert isinstance(done, Repaired)
    assert list(check_store(data)) == []

    async def all_mail(store: Store) -> int:
        return sum(box.messages for box in await store.read(1, mailboxes.all_mailboxes))

    assert with_store(data, all_mail) == 4


@pytest.mark.parametrize("sql", [*ODD, "UPDATE account_state SET uidvalidity = 1 << 40"])
def test_a_restore_takes_no_number_that_cannot_be(data: Path, sql: str) -> None:
    with_store(data, fill)
    target = save(data)
    change(data, sql)
    put_back(target, data, ALICE)
    assert list(check_store(data)) == []
    assert with_store(data, subjects) == [0, 1, 2, 3]
    assert with_store(data, refused) == {""}


@pytest.mark.parametrize("sql", ODD)
def test_what_a_backup_has_of_them_is_mended_when_it_is_put_back(data: Path, sql: str) -> None:
    with_store(data, fill)
    change(data, sql)
    target = save(data)
    put_back(target, data, ALICE)
    assert list(check_store(data)) == []
    assert with_store(data, subjects) == [0, 1, 2, 3]
    assert with_store(data, refused) == {""}


def test_a_mailbox_whose_uids_are_nearly_used_up_begins_anew(data: Path) -> None:
    with_store(data, fill)
    change(data, f"UPDATE mailbox SET uidnext = {(1 << 32) - 100} WHERE mailbox = 1")
    change(data, f"UPDATE message SET uid = {(1 << 32) - 101} WHERE mailbox = 1 AND uid = 1")
    put_back(save(data), data, ALICE)
    assert list(check_store(data)) == []
    assert with_store(data, subjects) == [1, 2, 3, 0]
    box = with_store(data, lambda store: store.read(1, lambda tx: mailboxes.by_id(tx, 1)))
    assert box.uidnext == 5


def test_a_torn_row_of_the_account_bars_no_way_out(data: Path) -> None:
    with_store(data, fill)
    target = save(data)
    file = account_path(data / "accounts", 1)
    with closing(sqlite3.connect(file)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'account_state'"
        ).fetchone()
    with file.open("r+b") as octets:
        octets.seek(page * 4096 - 2048)
        octets.write(bytes(2048))
    torn = file.read_bytes()
    (done,) = repair(data)
    assert isinstance(done, Repaired)
    assert with_store(data, subjects) == [0, 1, 2, 3]
    file.write_bytes(torn)
    put_back(target, data, ALICE)
    assert with_store(data, subjects) == [0, 1, 2, 3]
