"""Which process of a server this is: several workers may share one data folder.

The first to start recovers from an unclean stop and clears what the last run left, before any other opens a file. The
lock of the folder is held by whoever started them and by all of them: it is free once the last one is gone. There are
at most `config.load.MOST_WORKERS`, so that fewer appends than `recovery.UIDS_SKIPPED` can wait for a sync in one
account (`unit.MOST_UNITS_A_GROUP` each).
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from pillarbox.core.errors import Refused

RESTORING = ".restoring"
"""While it is in a data folder without a directory, all else there comes from a whole restore that was interrupted."""

UNFINISHED = ".unfinished"
"""Where files are made ready: of a backup, in its own folder; of single accounts, in the data folder."""


REPLACING = ".replacing"
"""In a data folder: files that take the place of those of accounts (`replacing`)."""


@dataclass(slots=True, frozen=True)
class Place:
    """One worker of `workers`; `number` counts from 1."""

    number: int = 1
    workers: int = 1
    is_first: bool = True
    """Nobody else has opened the data folder since the server began to start."""
    unusable: frozenset[int] = frozenset()
    """Accounts whose journal the first one could not replay."""
    left: tuple[str, ...] = ()
    """Names of the segments that it left for them."""
    lock: int | None = None
    """A descriptor that holds the folder's lock, where somebody else took it."""

    @property
    def has_duty(self) -> bool:
        """Whether it does what one worker does for all: keep house, deliver what is pending, take up what was
        dropped."""
        return self.number == 1


ALONE = Place()
"""The only process."""


def own(path: Path, data_dir: Path) -> None:
    """Give what root made in a data folder to the folder's owner: the server may run as another user."""
    if os.geteuid() == 0:
        owner = data_dir.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def lock_folder(data_dir: Path) -> int:
    """One server at a time: the lock of the data folder, as a descriptor that holds it. Raises Refused."""
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Refused(
            f"another Pillarbox uses {data_dir}; stop it, or give this one another data_dir"
        ) from error
    return descriptor
