"""Account files of an older version get sort keys by i;unicode-casemap (RFC 5051), as new mail has them."""

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest

from pillarbox.mime.message import SortKeys
from pillarbox.store import database, sort_keys
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.content import LARGEST_COMMON_FIELDS, make_content
from pillarbox.store.journaled import Journaled
from pillarbox.store.salvage import salvage
from pillarbox.store.store import Store

OLD = 5
"""The last version with folded keys."""

MAIL = [
    b"Subject: Re: lunch\r\nFrom: Ann <Ann@x.example>\r\nTo: b@x.example\r\nCc: C@x.example\r\n\r\n",
    "Subject: Stra\u00dfe\r\nFrom: \u00c9ric@x.example\r\n\r\n".encode(),
    b"Subject: STRASSE\r\n\r\n",
    b"Subject: =?utf-8?q?=C7=84_=EF=AC=81?=\r\nSubject: another\r\nTo: a@x\r\nTo: b@x\r\n\r\n",
    b"Subject: =?utf-8?q?caf=E9?=\r\n\r\n",
    b"no header at all",
    b"Subject: Many\r\n"
    + b"".join(b"To: %0500d@x\r\n" % number for number in range(50))
    + b"\r\nx",
    b"Subject: last\r\n folded\r\n",
]
assert len(MAIL[6]) > LARGEST_COMMON_FIELDS

_KEYS = "SELECT content, subject, is_reply, from_key, to_key, cc_key FROM sort_key ORDER BY content"


async def _fill(folder: Path) -> None:
    store = Store(folder)
    for octets in MAIL:
        await store.append(1, Append(1, make_content(octets), 0, prefix=b"Return-Path: <>\r\n"))
    await store.close()


def _file(folder: Path) -> apsw.Connection:
    path = account_path(folder / "accounts", 1)
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of an older version; the keys are made by what that did."""
    asyncio.run(_fill(tmp_path))
    connection = _file(tmp_path)
    with connection:
        for content, subject, from_key in connection.execute(
            "SELECT content, subject, from_key FROM sort_key"
        ).fetchall():
            connection.execute(
                "UPDATE sort_key SET subject = ?, from_key = ?, to_key = lower(to_key) WHERE content = ?",
                (subject.casefold(), from_key.casefold(), content),
            )
        first = database.schema_scripts("account")[0]
        connection.execute("DROP VIEW messages")
        connection.execute("DROP TABLE keyword")
        connection.execute("DROP INDEX message_content")
        start = first.index("CREATE VIEW messages")
        connection.execute(first[start : first.index(";", start)])
        connection.pragma("user_version", OLD)
    connection.close()
    return tmp_path


def expected(tmp_path: Path) -> list[Any]:
    """As new mail has them."""
    asyncio.run(_fill(tmp_path / "new"))
    return keys(tmp_path / "new")


def keys(folder: Path) -> list[Any]:
    connection = _file(folder)
    found = connection.execute(_KEYS).fetchall()
    connection.close()
    return found


async def _open(folder: Path) -> None:
    store = Store(folder)
    await store.read(1, lambda tx: None)
    await store.close()


def test_a_file_of_an_older_version_gets_new_keys(folder: Path) -> None:
    wanted = expected(folder)
    assert keys(folder) != wanted != []
    asyncio.run(_open(folder))
    assert keys(folder) == wanted
    connection = _file(folder)
    assert database.is_current(connection, "account")
    assert (
        connection.execute("SELECT name FROM sqlite_schema WHERE name = 'renewed'").fetchall() == []
    )
    shown = connection.execute("SELECT subject, sender, recipient FROM messages LIMIT 2").fetchall()
    assert shown == [("lunch", "ann", "b"), ("stra\u00dfe", "e\u0301ric", "")]
    connection.close()


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("done", [0, 1, 2, 5, 7])
def test_who_is_interrupted_goes_on_from_there(
    folder: Path, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sort_keys, "BATCH", 2)
    monkeypatch.setattr(sort_keys, "BATCHES_A_CHECKPOINT", 2)
    real, seen, most = sort_keys._keys, list[bytes](), done

    def count(block: bytes) -> SortKeys:
        if len(seen) == most:
            raise _Killed
        seen.append(block)
        return real(block)

    with monkeypatch.context() as patch:
        patch.setattr(sort_keys, "_keys", count)
        killed = _file(folder)
        with pytest.raises(_Killed):
            database.migrate(killed, "account")
        assert not database.is_current(killed, "account")
        killed.close()
        seen, most = [], len(MAIL)
        again = _file(folder)
        database.migrate(again, "account")
        again.close()
    assert len(seen) == len(MAIL) - done // 2 * 2
    assert keys(folder) == expected(folder)


def test_a_message_that_the_parser_fails_at_keeps_its_keys(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = keys(folder), sort_keys._keys

    def fail(block: bytes) -> SortKeys:
        if b"lunch" in block:
            raise ZeroDivisionError
        return real(block)

    with monkeypatch.context() as patch:
        patch.setattr(sort_keys, "_keys", fail)
        asyncio.run(_open(folder))
    assert keys(folder) == [before[0], *expected(folder)[1:]]


def test_what_is_saved_from_a_damaged_file_has_new_keys(folder: Path) -> None:
    source = account_path(folder / "accounts", 1)
    salvage(source, folder / "saved.db", 1, 1_790_000_000, Journaled())
    connection = apsw.Connection(str(folder / "saved.db"))
    assert connection.execute(_KEYS).fetchall() == expected(folder)
    connection.close()


def test_a_new_file_has_nothing_to_renew(tmp_path: Path) -> None:
    database.create(tmp_path / "new.db", "account")
    connection = apsw.Connection(str(tmp_path / "new.db"))
    assert database.is_current(connection, "account")
    assert connection.pragma("freelist_count") == 0
    connection.close()
