"""Domains, accounts and aliases; a change by another process counts at once."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import apsw
import pytest

from pillarbox.core.errors import Refused
from pillarbox.store import database
from pillarbox.store.directory import Directory, canonical_address
from pillarbox.store.directory_file import LOOK_EVERY_S, DirectoryFile, Value
from pillarbox.store.pending import Pending

NOW = 1_790_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    made = Directory(tmp_path / "directory.db", clock=lambda: NOW)
    made.add_domain("Example.TEST")
    yield made
    made.close()


def test_addresses_have_one_canonical_form() -> None:
    assert canonical_address(" Bob@Exämple.ORG. ") == "bob@xn--exmple-cua.org"
    for bad in (
        "bob",
        "@example.org",
        "bob@",
        "bo b@example.org",
        "bob@-x.org",
        "b" * 65 + "@x.org",
        "\ud800@x.org",
        "bob@\ud800.org",
    ):
        with pytest.raises(Refused):
            canonical_address(bad)


def test_an_account_needs_its_domain_and_a_free_address(directory: Directory) -> None:
    with pytest.raises(Refused, match="domain add"):
        directory.add_account("bob@elsewhere.test", "", "")
    made = directory.add_account("Bob@example.test", "h", "s")
    assert made.address == "bob@example.test"
    with pytest.raises(Refused, match="exists"):
        directory.add_account("bob@EXAMPLE.test", "", "")


def test_a_change_of_another_connection_counts_at_once(
    directory: Directory, tmp_path: Path
) -> None:
    other = Directory(tmp_path / "directory.db", clock=lambda: NOW)
    account = other.add_account("eve@example.test", "h", "s")
    assert directory.account("eve@example.test") == account
    other.set_enabled(account.id, enabled=False)
    found = directory.account("eve@example.test")
    assert found is not None
    assert not found.enabled
    assert found.version > account.version
    other.close()


def test_a_login_name_without_domain_works_where_it_is_unique(directory: Directory) -> None:
    directory.add_account("bob@example.test", "", "")
    assert directory.account_for_login("BOB") is not None
    directory.add_domain("second.test")
    directory.add_account("bob@second.test", "", "")
    assert directory.account_for_login("bob") is None
    assert len(directory.accounts_for_login("bob")) == 2
    assert directory.account_for_login("bob@second.test") is not None
    assert directory.account_for_login("b%") is None
    assert directory.account_for_login("b_b") is None
    assert directory.account_for_login("\ud800") is None


def test_a_login_name_without_domain_is_found_without_a_look_at_all_accounts(
    tmp_path: Path,
) -> None:
    """In a directory of the version before, too."""
    old = apsw.Connection(str(tmp_path / "directory.db"))
    for script in database.schema_scripts("directory")[:6]:
        for _ in old.execute(script):
            pass
    old.pragma("user_version", 6)
    old.execute(
        "INSERT INTO account VALUES (7, 'bob@example.test', '', '', 1, '', NULL, NULL, 1, 1)"
    )
    old.close()
    directory = Directory(tmp_path / "directory.db", clock=lambda: NOW)
    found = directory.account_for_login("Bob")
    assert found is not None
    assert found.id == 7
    asked: list[str] = []
    rows = directory.file.rows

    def explained(sql: str, *values: Value) -> list[Any]:
        asked.extend(row[3] for row in rows(f"EXPLAIN QUERY PLAN {sql}", *values))
        return rows(sql, *values)

    directory.file = cast(
        DirectoryFile, SimpleNamespace(rows=explained, close=directory.file.close)
    )
    assert directory.account_for_login("bob") == found
    assert [line.split()[0] for line in asked] == ["SEARCH"]
    directory.close()


def test_an_account_number_is_never_used_again(directory: Directory) -> None:
    first = directory.add_account("a@example.test", "", "").id
    directory.remove_account(first)
    assert directory.add_account("a@example.test", "", "").id > first


def test_a_domain_with_accounts_stays(directory: Directory) -> None:
    directory.add_account("a@example.test", "", "")
    with pytest.raises(Refused, match="accounts"):
        directory.remove_domain("example.test")


def test_aliases(directory: Directory) -> None:
    directory.add_account("a@example.test", "", "")
    assert directory.add_alias("Sales@example.test", "A@example.test") == (
        "sales@example.test",
        "a@example.test",
    )
    directory.add_alias("@example.test", "a@example.test")
    assert directory.alias_targets("@example.test") == ["a@example.test"]
    for alias, target in (
        ("a@example.test", "b@example.test"),
        ("x@example.test", "x@example.test"),
        ("x@other.test", "a@example.test"),
        ("sales@example.test", "a@example.test"),
    ):
        with pytest.raises(Refused):
            directory.add_alias(alias, target)
    directory.remove_alias("sales@example.test")
    with pytest.raises(Refused):
        directory.remove_alias("sales@example.test")


def test_pending_deliveries_come_due_with_growing_delays(tmp_path: Path) -> None:
    now = [NOW]
    pending = Pending(tmp_path / "queue.db", clock=lambda: now[0])
    pending.add("Q1", "s@x", 5, b"message", [("a@x", 1, b"P1"), ("b@x", 2, b"P2")])
    assert pending.due(16) == []
    now[0] += 6
    one, two = pending.due(16)
    assert (one.octets, one.prefix, one.key) == (b"message", b"P1", "Q1/a@x")
    pending.done(one)
    pending.failed(two, "full")
    assert pending.due(16) == []
    now[0] += 6
    assert [entry.recipient for entry in pending.due(16)] == ["b@x"]
    pending.done(two)
    assert pending.count() == 0
    pending.make_all_due()
    assert pending.due(16) == []
    pending.close()


def test_a_recipient_is_remembered_until_the_directory_changes(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "directory.db", clock=time.time)
    directory.add_domain("example.org")
    assert directory.recipient("a@example.org") is None
    account = directory.add_account("a@example.org", "", "")
    assert directory.recipient("a@example.org") == account.id
    other = Directory(tmp_path / "directory.db", clock=time.time)
    new = other.add_account("b@example.org", "", "")
    assert directory.recipient("b@example.org") == new.id, "a new one counts at once"
    other.remove_account(account.id)
    time.sleep(2 * LOOK_EVERY_S)
    assert directory.recipient("a@example.org") is None
    other.close()
    directory.close()
