"""The exclusive lock of a maildrop (RFC 1939 §4): across processes, and it dies with its holder."""

import fcntl
import os
from pathlib import Path

from pillarbox.core.errors import Unavailable
from pillarbox.store.accounts import account_path


def lock_path(folder: Path, account: int) -> Path:
    """The file that a POP3 session locks, beside the account's below `folder` (accounts/)."""
    return account_path(folder, account).with_suffix(".pop3")


def try_lock(folder: Path, account: int) -> int | None:
    """A descriptor that holds the lock until it is closed, None if it is taken. Raises Unavailable."""
    try:
        descriptor = os.open(
            lock_path(folder, account), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise Unavailable("the maildrop cannot be locked now", "UNAVAILABLE") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def note_login(descriptor: int, delay_s: int, now_s: float) -> bool:
    """Remember a login in the lock's file, which all workers see: its one octet says that there was one, its time when.
    False, and nothing is changed, if that is less than `delay_s` seconds ago."""
    status = os.fstat(descriptor)
    if status.st_size and 0 <= now_s - status.st_mtime < delay_s:
        return False
    os.pwrite(descriptor, b"1", 0)
    os.utime(descriptor, (now_s, now_s))
    return True
