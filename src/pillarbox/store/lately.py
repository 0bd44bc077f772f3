"""What the log was told lately, so that it is not told the same again and again."""

import errno
import logging
import time
from collections.abc import Hashable
from pathlib import Path

from pillarbox.core.errors import DiskFull

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk that is full for us."""

TOLD_AGAIN_S = 60.0
"""From one line on a disk that is full to the next."""

log = logging.getLogger("pillarbox.store")

MOST_KNOWN = 1000
"""Things that were told; of more, nothing is said before the time of others is over."""


class Lately:
    """One line on a thing in `pause_s` seconds."""

    __slots__ = ("_pause_s", "_until")

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._until: dict[Hashable, float] = {}

    def may_tell(self, thing: Hashable, now: float) -> bool:
        """Whether there was no line on it lately; then there is one now."""
        if now < self._until.get(thing, now):
            return False
        self._until.pop(thing, None)
        if len(self._until) >= MOST_KNOWN:
            self._until = {each: until for each, until in self._until.items() if now < until}
            if len(self._until) >= MOST_KNOWN:
                return False
        self._until[thing] = now + self._pause_s
        return True


class FullDisk:
    """Tells the log of a disk that is full, once a minute."""

    __slots__ = ("_folder", "_told")

    def __init__(self, folder: Path) -> None:
        """`folder` is on it."""
        self._folder = folder
        self._told = Lately(TOLD_AGAIN_S)

    def tell(self, error: BaseException) -> bool:
        """Whether that is what an error says; a line of it, if there was none lately."""
        is_full = isinstance(error, DiskFull) or getattr(error, "errno", None) in NO_ROOM
        if is_full and self._told.may_tell(self._folder, time.monotonic()):
            log.warning(
                "the disk is full, so mail is refused or waits: make room where %s is,"
                " or move data_dir to a larger one",
                self._folder,
            )
        return is_full
