"""Which accounts' files were made. An account has none until something is stored for it, so a file that was lost looks
like one that never was; but its lock file stays, and is one octet long once the account's file was made and is on the
disk (a hole: it takes no block). Before that it is empty: a crash between the two leaves nothing that is missing.

The lock of the data folder tells the same of all of them: that there were some when a server began or ended. So a file
system that is not mounted is no new data folder. It is in no backup: what was restored begins anew.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from pillarbox.core.errors import Refused
from pillarbox.store import database

_FOLDER = re.compile("[0-9a-f]{2}")


def lock_path(path: Path) -> Path:
    """The lock file of an account's file."""
    return path.with_suffix(".lock")


def was_noted(lock: int) -> bool:
    """Whether the file was made before now; `lock` is a descriptor of its lock file."""
    return os.fstat(lock).st_size > 0


def note(lock: int) -> None:
    """What the lock is for is on the disk. Durable on return; where that cannot be, the next who opens the file tries
    it again. Blocks."""
    with suppress(OSError):
        os.ftruncate(lock, 1)
        os.fsync(lock)


def note_at(path: Path) -> Path:
    """The same of a file that nobody has open; the lock file, whose name is not synced. Blocks. Raises OSError."""
    lock = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        note(lock)
    finally:
        os.close(lock)
    return lock_path(path)


def is_missing(path: Path) -> bool:
    """Whether an account's file was made and is not there. Raises OSError."""
    # The file is there by the time that its lock file says so, and goes after it where its account is removed.
    return _was_made(path) and not path.exists() and _was_made(path)


def _was_made(path: Path) -> bool:
    try:
        return lock_path(path).stat().st_size > 0
    except FileNotFoundError:
        return False


def ensure_not_missing(path: Path) -> None:
    """Raises Missing, OSError."""
    if is_missing(path):
        raise database.Missing(path)


def note_all(data_dir: Path, lock: int) -> None:
    """At the start and the end of a server: whether there are files of accounts; `lock` is the folder's. Blocks."""
    if not was_noted(lock) and _has_any(data_dir):
        note(lock)


def ensure_not_all_missing(data_dir: Path) -> None:
    """Raises Refused where there were files of accounts, and are none. Raises OSError."""
    lock = data_dir / "lock"
    if lock.exists() and lock.stat().st_size > 0 and not _has_any(data_dir):
        folder = data_dir / "accounts"
        raise Refused(
            f"there were mail files in {folder}, and none is there now: is its file system not mounted?"
            " If they are lost, put back what a backup has, naming all accounts of `pillarbox account list`:"
            " pillarbox restore BACKUP ACCOUNT...; to begin without their mail, run:"
            f" truncate -s 0 {lock}"
        )


def _has_any(data_dir: Path) -> bool:
    """A file's folder stays when its account is removed."""
    try:
        return any(_FOLDER.fullmatch(name) for name in os.listdir(data_dir / "accounts"))
    except FileNotFoundError:
        return False
