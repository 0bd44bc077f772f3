"""An account's file takes the place of the one in use, whenever whoever does that is killed.

The write-ahead log of the old file must not be read with the new one, and the old file must not be without it. So the
new file goes into a folder of its own first. While it is there, the old one counts no more: the next who has the lock
of the data folder, a server too, brings it to an end.
"""

import shutil
from pathlib import Path
from typing import Any

from pillarbox.store import database, made, search_index
from pillarbox.store.accounts import account_path
from pillarbox.store.directory import Directory
from pillarbox.store.place import REPLACING, own


def replace(data_dir: Path, path: Path, account: int, directory: Directory) -> None:
    """Use a file, which is ready and synced, as that of an account. The lock of the folder is held by the caller.
    Raises OSError, Unavailable."""
    folder = data_dir / REPLACING
    folder.mkdir(mode=0o700, exist_ok=True)
    own(folder, data_dir)
    path.replace(folder / f"{account}.db")
    database.sync_folder(folder)
    database.sync_folder(data_dir)
    finish(data_dir, directory)


def finish(data_dir: Path, directory: Directory) -> None:
    """Bring to an end what was begun, if it was. The lock of the folder is held by the caller. Raises OSError,
    Unavailable."""
    folder = data_dir / REPLACING
    if not folder.exists():
        return
    for path in folder.glob("*.db"):
        account = int(path.stem)
        target = account_path(data_dir / "accounts", account)
        directory.replace_shares(account, _grantees(path))
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own(target.parent, data_dir)
        search_index.remove(target)
        for name in (f"{target}-wal", f"{target}-shm"):
            Path(name).unlink(missing_ok=True)
        path.replace(target)
        own(made.note_at(target), data_dir)
        database.sync_folder(target.parent)
    shutil.rmtree(folder)


def _grantees(path: Path) -> set[int]:
    """With whom it shares something; 0: with anyone."""
    connection = database.open_to_read(path)
    try:
        rows: list[Any] = connection.execute("SELECT DISTINCT grantee FROM acl").fetchall()
        return {number for (number,) in rows}
    finally:
        connection.close()
