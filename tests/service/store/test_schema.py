"""docs/schema.md is true: its views and columns exist and its examples run."""

import asyncio
import re
from pathlib import Path

import apsw
import pytest

from pillarbox.core.dates import pack_date
from pillarbox.store import database
from pillarbox.store.accounts import account_path
from pillarbox.store.content import make_content
from pillarbox.store.messages import Append
from pillarbox.store.store import Store

DOCUMENT = Path(__file__).parents[3] / "docs" / "schema.md"


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


def test_documented_views_have_the_documented_columns(connection) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == ["mailboxes", "messages", "headers", "history"]
    for name, text in rows:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        named = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", text))
        assert columns == named


def test_documented_examples_run(connection) -> None:
    block = re.search(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert block
    for statement in block[1].strip().split(";\n"):
        assert connection.execute(statement).fetchall()


def test_a_message_is_shown_in_plain_values(connection) -> None:
    row = connection.execute("SELECT sender, subject, sent, seen, preview FROM messages").fetchone()
    assert row == ("ann", "hi", "2026-01-01 09:00:00", 0, "Text")


def test_a_queue_of_before_there_was_outgoing_mail_is_migrated(tmp_path: Path) -> None:
    first = database.schema_scripts("queue")[0]
    old = apsw.Connection(str(tmp_path / "queue.db"))
    for _ in old.execute(first):
        pass
    old.pragma("user_version", 1)
    old.close()

    async def start() -> None:
        await Store(tmp_path).close()

    asyncio.run(start())
    migrated = apsw.Connection(str(tmp_path / "queue.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert migrated.execute("SELECT count(*) FROM outgoing").fetchall() == [(0,)]
    migrated.close()
