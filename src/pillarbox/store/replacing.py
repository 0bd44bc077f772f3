"""An account's file takes the place of the one in use, whenever whoever does that is killed.

The write-ahead log of the old file must not be read with the new one, and the old file must not be without it. So the
new file goes into a folder of its own first. While it is there, the old one counts no more: the next who has the lock
of the data folder, a server too, brings it to an end. What else lies there, or cannot be used, goes to `aside/`: it
keeps no server from starting.
"""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import apsw

from pillarbox.core.errors import Unavailable
from pillarbox.store import database, made, search_index
from pillarbox.store.accounts import account_path
from pillarbox.store.directory import Directory
from pillarbox.store.journal import ASIDE
from pillarbox.store.owned import why_denied
from pillarbox.store.place import REPLACING, own

log = logging.getLogger("pillarbox.store")


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
    """Bring to an end what was begun, if it was. The lock of the folder is held by the caller. Raises Unavailable."""
    try:
        _finish(data_dir, data_dir / REPLACING, directory)
    except OSError as error:
        path = Path(error.filename or data_dir / REPLACING)
        is_denied = isinstance(error, PermissionError) and path.exists()
        why = why_denied(path) if is_denied else f"{path} cannot be used: {error.strerror}"
        raise Unavailable(why) from error


def _finish(data_dir: Path, folder: Path, directory: Directory) -> None:
    """Raises OSError, Unavailable."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        _set_aside(data_dir, folder, _Foreign("it is no folder"))
        return
    if not folder.exists():
        return
    for path in sorted(folder.iterdir()):
        try:
            account, grantees = _account(path, directory), _grantees(path)
        except (apsw.Error, _Foreign) as error:
            _set_aside(data_dir, path, error)
            continue
        target = account_path(data_dir / "accounts", account)
        directory.replace_shares(account, grantees)
        for made_one in (target.parent.parent, target.parent):  # all of them may be gone
            made_one.mkdir(mode=0o700, exist_ok=True)
            own(made_one, data_dir)
        search_index.remove(target)
        for name in (f"{target}-wal", f"{target}-shm"):
            Path(name).unlink(missing_ok=True)
        path.replace(target)
        made.mark_in(data_dir, account, target)
        database.sync_folder(target.parent)
    shutil.rmtree(folder)


class _Foreign(Exception):
    """It is not on its way to anywhere."""


def _account(path: Path, directory: Directory) -> int:
    """Whose file it is. Raises _Foreign."""
    if path.suffix != ".db" or not path.stem.isdecimal() or not path.is_file():
        raise _Foreign("it is no mail file")
    try:
        is_known = directory.has_account(int(path.stem))
    except OverflowError:
        is_known = False
    if not is_known:
        raise _Foreign("there is no such account")
    return int(path.stem)


def _set_aside(data_dir: Path, path: Path, why: Exception) -> None:
    """Raises OSError."""
    folder = data_dir / ASIDE
    folder.mkdir(mode=0o700, exist_ok=True)
    own(folder, data_dir)
    kept = folder / f"replacing-{time.time_ns()}-{path.name}"
    path.rename(kept)
    database.sync_folder(folder)
    log.error("%s cannot take the place of a mail file, and is kept as %s: %s", path, kept, why)


def _grantees(path: Path) -> set[int]:
    """With whom it shares something; 0: with anyone."""
    connection = database.open_to_read(path)
    try:
        rows: list[Any] = connection.execute("SELECT DISTINCT grantee FROM acl").fetchall()
        return {number for (number,) in rows}
    finally:
        connection.close()
