"""Which accounts' files were made. An account has none until something is stored for it, so a file that was lost looks
like one that never was; but its lock file stays, and is one octet long once the account's file was made and is on the
disk (a hole: it takes no block). Before that it is empty: a crash between the two leaves nothing that is missing.

The lock of the data folder tells the same of all of them, in another folder: its octet at the number of an account is
a mark that the file was made, and it has a length where any was. So a file system that is not mounted is no new data
folder, and a folder that went while a server runs, with the lock files in it, no reason to begin anew. It is in no
backup: what was restored begins anew.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pillarbox.core.errors import Refused
from pillarbox.store import database

_FOLDER = re.compile("[0-9a-f]{2}")
_FILE = re.compile(r"([0-9a-f]{8})\.db")
_MARK = b"\1"


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


def is_marked(root: int, account: int) -> bool:
    """Whether the lock of the data folder, a descriptor, says that the account's file was made."""
    return os.pread(root, 1, account) == _MARK


def mark(root: int, account: int) -> None:
    """The file is on the disk. Durable on return, or as with `note`. Blocks."""
    with suppress(OSError):
        if not is_marked(root, account):
            os.pwrite(root, _MARK, account)
            os.fsync(root)


def note_at(path: Path) -> Path:
    """Both of a file that nobody has open; the lock file, whose name is not synced. Blocks. Raises OSError."""
    lock = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        note(lock)
    finally:
        os.close(lock)
    with suppress(FileNotFoundError):  # of a restore, before it is in its place
        root = os.open(_root(path), os.O_RDWR | os.O_CLOEXEC)
        try:
            mark(root, _account(path))
        finally:
            os.close(root)
    return lock_path(path)


def forget(path: Path) -> None:
    """The account is removed, and its file will be: before that, or it would seem to be missing. Blocks. Raises
    OSError."""
    lock_path(path).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        root = os.open(_root(path), os.O_RDWR | os.O_CLOEXEC)
        try:
            if is_marked(root, _account(path)):
                os.pwrite(root, b"\0", _account(path))
        finally:
            os.close(root)


def _root(path: Path) -> Path:
    """The lock of the data folder that an account's file is in."""
    return path.parents[2] / "lock"


def _account(path: Path) -> int:
    return int(path.stem, 16)


def is_missing(path: Path) -> bool:
    """Whether an account's file was made and is not there. Raises OSError."""
    # The file is there by the time that its lock file says so, and goes after it where its account is removed.
    return _was_made(path) and not path.exists() and _was_made(path)


def _was_made(path: Path) -> bool:
    with suppress(FileNotFoundError):
        if lock_path(path).stat().st_size > 0:
            return True
    with suppress(FileNotFoundError):
        root = os.open(_root(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return is_marked(root, _account(path))
        finally:
            os.close(root)
    return False


def ensure_not_missing(path: Path) -> None:
    """Raises Missing, OSError."""
    if is_missing(path):
        raise database.Missing(path)


def mark_all(data_dir: Path, root: int, knows: Callable[[int], bool]) -> None:
    """At the start of a server: the files that are there, of accounts that it `knows`. Blocks."""
    with suppress(OSError):
        new = [each for each in _files(data_dir) if not is_marked(root, each) and knows(each)]
        for account in new:
            os.pwrite(root, _MARK, account)
        if new:
            os.fsync(root)
    if not was_noted(root) and _has_any(data_dir):
        note(root)


def _files(data_dir: Path) -> Iterator[int]:
    """Whose file is there."""
    folder = data_dir / "accounts"
    for name in os.listdir(folder):
        if _FOLDER.fullmatch(name):
            for found in map(_FILE.fullmatch, os.listdir(folder / name)):
                if found and found[1].endswith(name):
                    yield int(found[1], 16)


def ensure_not_all_missing(data_dir: Path) -> None:
    """Raises Refused where there were files of accounts, and are none. Raises OSError."""
    lock = data_dir / "lock"
    if lock.exists() and lock.stat().st_size > 0 and not _has_any(data_dir):
        raise Refused(why_all_missing(data_dir))


def are_all_missing(data_dir: Path, root: int) -> bool:
    """The same, for who has the lock of the folder open. Raises OSError."""
    return was_noted(root) and not _has_any(data_dir)


def find_why_all_missing(data_dir: Path, root: int) -> str | None:
    """What the administrator is told then; None where it is not so. Blocks, but not for long."""
    with suppress(OSError):
        if are_all_missing(data_dir, root):
            return why_all_missing(data_dir)
    return None


def why_all_missing(data_dir: Path) -> str:
    """What the administrator is told where it is so."""
    return (
        f"there were mail files in {data_dir / 'accounts'}, and none is there now: is its file system not mounted?"
        " If they are lost, put back what a backup has, naming all accounts of `pillarbox account list`:"
        " pillarbox restore BACKUP ACCOUNT...; to begin without their mail, run:"
        f" truncate -s 0 {data_dir / 'lock'}"
    )


def _has_any(data_dir: Path) -> bool:
    """A file's folder stays when its account is removed."""
    try:
        return any(_FOLDER.fullmatch(name) for name in os.listdir(data_dir / "accounts"))
    except FileNotFoundError:
        return False
