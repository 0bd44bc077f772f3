"""The views are shown in plain values, and files of older versions are migrated."""

import asyncio
import hashlib
from importlib import resources
from pathlib import Path

import apsw
import pytest

from pillarbox.core.dates import pack_date
from pillarbox.store import database
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("schema")

    async def fill() -> None:
        store = Store(folder)
        octets = b"From: Ann <ann@x.example>\r\nDate: 1 Jan 2026 10:00 +0100\r\nSubject: Re: Hi\r\n\r\nText\r\n"
        await store.append(1, Append(1, make_content(octets), pack_date(1_790_000_000)))
        await store.close()

    asyncio.run(fill())
    opened = apsw.Connection(
        str(account_path(folder / "accounts", 1)), flags=apsw.SQLITE_OPEN_READONLY
    )
    yield opened
    opened.close()


def test_a_message_is_shown_in_plain_values(connection) -> None:
    row = connection.execute("SELECT sender, subject, sent, seen, preview FROM messages").fetchone()
    assert row == ("ann", "hi", "2026-01-01 09:00:00", 0, "Text")


WRITTEN = {
    "account-0001.sql": "d62c9ece09be18b4",
    "directory-0001.sql": "69762a505abc5eb7",
    "directory-0002.sql": "8f6945291365e44e",
    "queue-0001.sql": "cd6f786b97091222",
    "queue-0002.sql": "880e201151387336",
    "run-0001.sql": "70d7692143df8680",
}
"""SHA-256, in part, of the scripts that have made files somewhere."""


@pytest.mark.parametrize("name", WRITTEN)
def test_scripts_that_ran_somewhere_never_change(name: str) -> None:
    """What a script lacks belongs in the next number: files that it made are not made again."""
    script = (resources.files("pillarbox.store") / "schema" / name).read_bytes()
    assert hashlib.sha256(script).hexdigest().startswith(WRITTEN[name])


@pytest.mark.parametrize(("kind", "table"), [("queue", "outgoing"), ("directory", "dkim_key")])
def test_files_of_the_first_schema_are_migrated(tmp_path: Path, kind: str, table: str) -> None:
    old = apsw.Connection(str(tmp_path / f"{kind}.db"))
    for _ in old.execute(database.schema_scripts(kind)[0]):
        pass
    old.pragma("user_version", 1)
    old.close()

    async def start() -> None:
        await Store(tmp_path).close()

    asyncio.run(start())
    migrated = apsw.Connection(str(tmp_path / f"{kind}.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert migrated.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]
    migrated.close()
