"""SQL that is run again is not prepared again (`database.connect`)."""

from pathlib import Path

import apsw

from pillarbox.store import database

OF_UIDS = (
    "SELECT uid FROM message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
    " ORDER BY uid LIMIT ?"
)


def open_account(folder: Path) -> apsw.Connection:
    path = folder / "1.db"
    database.create(path, "account")
    return database.connect(path)


def test_other_values_are_no_reason_to_prepare_a_statement_again(tmp_path: Path) -> None:
    connection = open_account(tmp_path)
    asked: list[int] = []

    def is_allowed(action: int, *_what: str | None) -> int:
        asked.append(action)  # while a statement is prepared
        return apsw.SQLITE_OK

    connection.authorizer = is_allowed
    connection.execute(OF_UIDS, (1, 1, 1, 21, 1)).fetchall()
    assert asked
    asked.clear()
    for number in range(2, 5):
        connection.execute(OF_UIDS, (1, 1, number, number + 20, number)).fetchall()
    connection.close()
    assert asked == []


def test_a_statement_is_kept_while_others_are_run_many_times(tmp_path: Path) -> None:
    connection = open_account(tmp_path)
    connection.execute(OF_UIDS, (1, 1, 1, 2, 3)).fetchall()
    for _ in range(100):
        for sql in ("BEGIN", "SELECT messages FROM account_state", "COMMIT"):
            connection.execute(sql).fetchall()
    before = connection.cache_stats()["misses"]
    connection.execute(OF_UIDS, (1, 1, 1, 2, 3)).fetchall()
    assert connection.cache_stats()["misses"] == before
    connection.close()
