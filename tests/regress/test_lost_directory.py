"""Without its directory, a store gives nobody's mail to somebody else."""

import asyncio
from pathlib import Path

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.directory import Directory
from pillarbox.store.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with one account that has mail."""

    async def fill() -> None:
        store = Store(tmp_path)
        store.directory.add_domain("example.test")
        alice = store.directory.add_account("alice@example.test", "", "")
        item = Append(1, make_content(b"Subject: x\r\n\r\nsecret\r\n"), pack_date(1_790_000_000))
        await store.append(alice.id, item)
        await store.close()

    asyncio.run(fill())
    return tmp_path


@pytest.mark.parametrize("emptied", [True, False])
def test_a_lost_directory_is_not_made_anew_over_old_accounts(folder: Path, emptied: bool) -> None:
    path = folder / "directory.db"
    path.unlink()
    if emptied:
        path.touch()
    with pytest.raises(Refused, match="put that of a backup there"):
        Directory(path, clock=lambda: 1)
    with pytest.raises(Refused, match="put that of a backup there"):
        Store(folder)
    (folder / "accounts").rename(folder / "accounts.old")
    Directory(path, clock=lambda: 1).close()


def test_a_damaged_directory_is_said_to_the_administrator(folder: Path) -> None:
    path = folder / "directory.db"
    path.write_bytes(b"\xff" * 8192)
    with pytest.raises(Unavailable, match="is damaged; stop the server"):
        Directory(path, clock=lambda: 1)
