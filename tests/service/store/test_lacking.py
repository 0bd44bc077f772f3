"""What is said of mail that was acknowledged and is in the journal only."""

import os
from pathlib import Path

import apsw
import pytest
from test_intake import deliver, killed
from test_store import item, run

from pillarbox.cli.doctor.machine import _accounts, _judge
from pillarbox.store import lacking
from pillarbox.store.accounts import account_path
from pillarbox.store.lacking import LATE_S, SOON_S, does_wait, find_lacking, find_waiting
from pillarbox.store.queue_figures import QueueFigures
from pillarbox.store.store import Store, remove_account_files

ACCOUNT = 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Its one account has a file, and the journal alone has one more message for it."""

    async def scenario(store: Store) -> None:
        store.directory.add_domain("example.test")
        assert store.directory.add_account("alice@example.test", "", "").id == ACCOUNT
        await store.append(ACCOUNT, item(0))
        await deliver(store, 1, account=ACCOUNT)
        killed(tmp_path / "data", tmp_path / "killed")

    run(tmp_path / "data", scenario)
    return tmp_path / "killed"


def damage(path: Path) -> None:
    """So that it can be opened: the root of the table of texts is lost."""
    connection = apsw.Connection(str(path))
    sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'octets'"
    (page,) = connection.execute(sql).fetchone() or (0,)
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))


def test_a_damaged_file_is_told_once_mail_was_offered_to_it(folder: Path) -> None:
    path = account_path(folder / "accounts", ACCOUNT)
    came = find_lacking(folder)[ACCOUNT].oldest
    assert find_waiting(folder, came + SOON_S) == {}  # it comes soon
    damage(path)
    assert find_waiting(folder, came + SOON_S - 0.1) == {}
    assert len(find_waiting(folder, came + SOON_S)[ACCOUNT].queue_ids) == 1
    (finding,) = _accounts(folder, came + SOON_S)
    assert finding.found.startswith("its mail file is damaged; 1 message taken and not in it, ")


def test_a_missing_file_is_told_at_once_with_how_much_waits(folder: Path) -> None:
    path = account_path(folder / "accounts", ACCOUNT)
    came = find_lacking(folder)[ACCOUNT].oldest
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    (waiting,) = find_waiting(folder, came).values()
    assert (waiting.is_missing, waiting.is_exact, len(waiting.queue_ids)) == (True, True, 1)
    (finding,) = _accounts(folder, came)
    assert finding.found.startswith("its mail file is missing; 1 message taken and not in it, ")


def test_nothing_waits_for_an_account_that_was_removed(folder: Path) -> None:
    came = find_lacking(folder)[ACCOUNT].oldest
    remove_account_files(folder, ACCOUNT)
    assert find_waiting(folder, came + 100) == {}


def test_a_file_that_another_program_has_is_told_only_after_a_while(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> str:
        raise apsw.BusyError("database is locked")

    monkeypatch.setattr(lacking, "find_damage", refuse)
    each = find_lacking(folder)[ACCOUNT]
    assert not does_wait(folder, ACCOUNT, each, each.oldest + LATE_S)
    assert does_wait(folder, ACCOUNT, each, each.oldest + LATE_S + 1)


def test_mail_in_the_queue_that_waits_for_a_mail_file_is_told() -> None:
    figures = QueueFigures(0, 0, 0, 0, 0, 0, 0, 2, 0)
    finding = _judge("queue.db", figures, 0)
    assert finding.level == "warning"
    assert finding.found == "mail for 2 recipients here waits, as its mail file took none"
