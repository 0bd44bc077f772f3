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
