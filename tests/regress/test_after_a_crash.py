"""One account whose file is damaged does not keep others from service after an unclean stop."""

import asyncio
from pathlib import Path

import pytest

from pillarbox.core.errors import Unavailable
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.store import Store


def test_a_journal_that_stays_is_not_in_the_way_of_the_next(tmp_path: Path) -> None:
    item = Append(INBOX, make_content(b"Subject: x\r\n\r\ntext\r\n"), 0)

    async def leave_unclean() -> None:
        store = Store(tmp_path)
        await store.append(1, item)
        (segment,) = (tmp_path / "journal").glob("*.log")
        kept = segment.read_bytes()
        await store.close()
        segment.write_bytes(kept)
        for path in (tmp_path / "accounts").rglob("00000001.db"):
            path.write_bytes(b"not a database" * 1000)

    async def go_on() -> None:
        for _ in range(2):
            store = Store(tmp_path)
            with pytest.raises(Unavailable):
                await store.append(1, item)
            await store.append(2, item)
            await store.close()
            assert list((tmp_path / "journal").glob("*.log"))  # of account 1

    asyncio.run(leave_unclean())
    asyncio.run(go_on())
