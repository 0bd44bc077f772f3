"""Which file of an account was made. An account has none until something is stored for it, so a file that was lost
looks like one that never was; and a copy that was put in the place of a file while a server runs looks like that file.
The lock of the data folder tells them apart: it has a mark at the number of each account whose file was made and is on
the disk, which is the file's inode, and it has a length where any was. It stands apart from the files: so neither a
file system that is not mounted nor a folder that goes while a server runs is a reason to begin anew. A crash between
the file and its mark leaves nothing that is missing.

It is in no backup: what was restored begins anew. The start of a server marks the files that are there then.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct

from pillarbox.core.errors import Refused
from pillarbox.store import database

_FOLDER = re.compile("[0-9a-f]{2}")
_FILE = re.compile(r"([0-9a-f]{8})\.db")
_MARK = Struct("<Q")
_HEAD = b"inodes 1"
"""In place of the mark of account 0, which is none. A lock without it has no such marks, perhaps those of an older
version."""
ANY = (1 << 64) - 1
"""In place of an inode: the account had a file, and if one comes, it is that."""
REMOVED = ANY - 1
"""Likewise: it has no more, and gets no new one."""


def marked(root: int, account: int) -> int:
    """Which file the account's is, by the lock of the data folder, a descriptor: its inode. 0: it was not made yet.
    Raises OSError."""
    if os.pread(root, len(_HEAD), 0) != _HEAD:
        return 0
    octets = os.pread(root, _MARK.size, account * _MARK.size)
    return int(_MARK.unpack(octets)[0]) if len(octets) == _MARK.size else 0


def mark(root: int, files: Iterable[tuple[int, Path]]) -> None:
    """These files of accounts are on the disk. Durable on return; where that cannot be, the next who opens a file tries
    it again. Blocks."""
    with suppress(OSError):
        is_any = False
        for account, path in files:
            inode = path.stat().st_ino
            if marked(root, account) != inode:
                _write(root, account, inode)
                is_any = True
        if is_any:
            os.fsync(root)


def _write(root: int, account: int, mark: int) -> None:
    if os.pread(root, len(_HEAD), 0) != _HEAD:
        os.ftruncate(root, 0)
        os.pwrite(root, _HEAD, 0)
    os.pwrite(root, _MARK.pack(mark), account * _MARK.size)


def mark_in(data_dir: Path, account: int, path: Path) -> None:
    """The same for who has not the lock open. Blocks. Raises OSError."""
    with _opened(data_dir, os.O_RDWR) as root:
        mark(root, [(account, path)])


def mark_lost(root: int, accounts: Iterable[int]) -> None:
    """They had files, of which nobody knows the inodes. Blocks. Raises OSError."""
    for account in accounts:
        _write(root, account, ANY)
    os.fsync(root)


def mark_all(data_dir: Path, root: int, knows: Callable[[int], bool]) -> None:
    """At the start of a server: the files that are there, of accounts that it `knows`, or that had one. Blocks."""
    with suppress(OSError):
        files = dict(_files(data_dir))
        mark(root, [each for each in files.items() if marked(root, each[0]) or knows(each[0])])
        accounts = range(1, os.fstat(root).st_size // _MARK.size)
        left = {each for each in accounts if marked(root, each) not in (0, REMOVED)}
        mark_lost(root, left - files.keys())


def forget(path: Path) -> None:
    """The account is removed, and its file will be: before that, or it would seem to be missing. Blocks. Raises
    OSError."""
    with suppress(FileNotFoundError), _opened(_data_dir(path), os.O_RDWR) as root:
        if marked(root, _account(path)):
            _write(root, _account(path), REMOVED)


def is_missing(path: Path) -> bool:
    """Whether an account's file was made and is not there. Raises OSError."""
    # The file is there by the time that its mark is, and goes after it where its account is removed.
    return _was_made(path) and not path.exists() and _was_made(path)


def _was_made(path: Path) -> bool:
    with suppress(FileNotFoundError), _opened(_data_dir(path), os.O_RDONLY) as root:
        return marked(root, _account(path)) not in (0, REMOVED)
    return False


def ensure_not_missing(path: Path) -> None:
    """Raises Missing, OSError."""
    if is_missing(path):
        raise database.Missing(path)


def ensure_not_all_missing(data_dir: Path) -> None:
    """Raises Refused where there were files of accounts, and are none. Raises OSError."""
    with suppress(FileNotFoundError), _opened(data_dir, os.O_RDONLY) as root:
        if are_all_missing(data_dir, root):
            raise Refused(why_all_missing(data_dir))


def are_all_missing(data_dir: Path, root: int) -> bool:
    """The same, for who has the lock of the folder open. Raises OSError."""
    return os.fstat(root).st_size > 0 and not _has_any(data_dir)


def find_why_all_missing(data_dir: Path, root: int) -> str | None:
    """What the administrator is told then; None where it is not so. Blocks, but not for long."""
    with suppress(OSError):
        if are_all_missing(data_dir, root):
            return why_all_missing(data_dir)
    return None


def why_all_missing(data_dir: Path) -> str:
    """What the administrator is told where it is so: what is wrong; what to do."""
    return (
        f"there were mail files in {data_dir / 'accounts'}, and none is there now; mount its file system, or move them"
        " back. If they are lost, stop the server, then run, naming all accounts of `pillarbox account list`:"
        " pillarbox restore BACKUP ACCOUNT..., or without a backup: pillarbox check --repair ACCOUNT..."
    )


def _has_any(data_dir: Path) -> bool:
    """A file's folder stays when its account is removed."""
    try:
        return any(_FOLDER.fullmatch(name) for name in os.listdir(data_dir / "accounts"))
    except FileNotFoundError:
        return False


def _files(data_dir: Path) -> Iterator[tuple[int, Path]]:
    """Those that are there, and whose they are. Raises OSError."""
    folder = data_dir / "accounts"
    for name in os.listdir(folder):
        if _FOLDER.fullmatch(name):
            for found in map(_FILE.fullmatch, os.listdir(folder / name)):
                if found and found[1].endswith(name):
                    yield int(found[1], 16), folder / name / found[0]


@contextmanager
def _opened(data_dir: Path, flags: int) -> Iterator[int]:
    """A descriptor of the lock of the data folder. Raises OSError."""
    root = os.open(data_dir / "lock", flags | os.O_CLOEXEC)
    try:
        yield root
    finally:
        os.close(root)


def _data_dir(path: Path) -> Path:
    """The data folder that an account's file is in."""
    return path.parents[2]


def _account(path: Path) -> int:
    return int(path.stem, 16)
