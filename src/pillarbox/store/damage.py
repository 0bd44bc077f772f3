"""Which mail files were found damaged or missing, and that the disk is full, for the log: whoever looks after the
server must hear of it, and from nothing else would where somebody only reads."""

import logging
from collections.abc import Callable
from pathlib import Path

from pillarbox.core.errors import Failure
from pillarbox.store.database import DAMAGED_CODE, Missing
from pillarbox.store.lately import FullDisk, Lately

TOLD_AGAIN_S = 600.0
"""From one line on an account to its next."""
_ALL = 0
"""No account has this number."""

log = logging.getLogger("pillarbox.store")


def how_to_mend(address: str) -> str:
    """What to do where an account's file is missing."""
    return (
        f"put the file back, or stop the server, then run `pillarbox restore BACKUP {address}`,"
        f" or without a backup `pillarbox check --repair {address}`, which makes a new one of what the journal has"
    )


def how_to_repair(address: str) -> str:
    """What to do where it is damaged."""
    return f"stop the server, then run `pillarbox check --repair {address}`"


def tell_unmoved(path: Path, failure: Failure) -> None:
    """One line on a checkpoint that failed."""
    log.warning(
        "what was written last stays in %s-wal for now, beside its mail file: nothing is lost, and it is moved"
        " into the file after one of the next changes: %s",
        path,
        failure.told,
    )


class Damage:
    """What one process has told. Used on its event loop."""

    __slots__ = ("_address_of", "_clock", "_full", "_told", "_why_all")

    def __init__(
        self,
        address_of: Callable[[int], str | None],
        clock: Callable[[], float],
        full: FullDisk,
        why_all: Callable[[], str | None],
    ) -> None:
        """`address_of` an account; None: there is no such account. `why_all` mail files are missing; None: they are
        not."""
        self._address_of = address_of
        self._why_all = why_all
        self._clock = clock
        self._full = full
        self._told = Lately(TOLD_AGAIN_S)

    def tell(self, account: int, error: BaseException) -> bool:
        """Whether the error is that the account's file is damaged; a line of it, or of a full disk, if there was none
        lately."""
        self._full.tell(error)
        if not isinstance(error, Failure) or error.code != DAMAGED_CODE:
            return False
        if self._told.may_tell(account, self._clock()):
            self._tell(account, is_missing=isinstance(error, Missing))
        return True

    def _tell(self, account: int, *, is_missing: bool) -> None:
        known = self._address_of(account)
        address = known or f"account {account}"
        if is_missing and known is None:
            return  # it was just removed
        if is_missing and (why_all := self._why_all()) is not None:
            if self._told.may_tell(_ALL, self._clock()):
                log.error("%s", why_all)
            return
        if is_missing:
            log.error(
                "the mail file of %s is missing; what the journal has for it is kept: %s",
                address,
                how_to_mend(address),
            )
            return
        log.error(
            "the mail file of %s is damaged: %s",
            address,
            how_to_repair(address),
        )
