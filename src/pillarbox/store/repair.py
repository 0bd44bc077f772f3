"""Damaged account files: what can be read goes into a new file, with what the journals have for the account; the old
one is kept in the folder `aside`, as it was. No server may run meanwhile."""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pillarbox.core.errors import Refused, Unavailable
from pillarbox.store import acl, database, made, mailboxes, replacing, salvage
from pillarbox.store.accounts import account_path
from pillarbox.store.check import check_account
from pillarbox.store.damage import how_to_mend
from pillarbox.store.directory import Account, Directory, ensure_not_lost
from pillarbox.store.journaled import read_journals
from pillarbox.store.lacking import find_missing
from pillarbox.store.mending import Salvaged
from pillarbox.store.restore import locked, put_in_place, staging
from pillarbox.store.told import tell_filed
from pillarbox.trace.recorder import Recorder

log = logging.getLogger("pillarbox.store")


@dataclass(slots=True)
class Repaired:
    """An account whose file was made anew."""

    address: str
    account: int
    problems: list[str]
    """What was wrong."""
    salvaged: Salvaged
    aside: Path | None
    """The old file."""
    inbox_validity: int
    """The new UIDVALIDITY of INBOX."""
    unshared: list[tuple[str, list[str]]]
    """As `salvaged.unshared`, with the addresses of those who had rights."""

    def tell(self, recorder: Recorder) -> None:
        """The trace, of what the journals had for INBOX."""
        filed = [each for each in self.salvaged.filed if each[1].mailbox == mailboxes.INBOX]
        now = [replace(done, uidvalidity=self.inbox_validity) for _, done in filed]
        tell_filed(recorder, self.account, [item for item, _ in filed], now)


@dataclass(slots=True)
class Unrepaired:
    """An account whose file could not be made anew: it is as it was."""

    address: str
    problems: list[str]
    why: str


def repair(data_dir: Path, addresses: Sequence[str] = ()) -> Iterator[Repaired | Unrepaired]:
    """Make the files of accounts anew that are not in order, one after the other; of all accounts, if none is named.
    One that is missing is made of what the journals have, where its account is named. One that fails keeps no other
    from it.
    Blocks. Raises Refused (a server runs), Unavailable."""
    if not (data_dir / "directory.db").exists():
        ensure_not_lost(data_dir / "directory.db")
        raise Refused(f"no server has run in {data_dir} yet: there is nothing to repair")
    if not addresses:
        made.ensure_not_all_missing(data_dir)
    with locked(data_dir) as lock:
        directory = Directory(data_dir / "directory.db", clock=time.time)
        try:
            replacing.finish(data_dir, directory)
            known = [
                directory.known_account(address) for address in addresses
            ] or directory.accounts()
            for account in known:
                problems, is_missing = _problems(data_dir, account)
                # A disk that is not mounted looks the same: nobody who did not say so wants new files then.
                if is_missing and not addresses:
                    yield Unrepaired(account.address, problems, how_to_mend(account.address))
                elif problems:
                    yield _try(data_dir, account.id, account.address, problems, directory)
            everybody = [account.id for account in directory.accounts()]
            if made.are_all_missing(data_dir, lock) and not find_missing(data_dir, everybody):
                os.ftruncate(lock, 0)  # all that had files were removed
        finally:
            directory.close()


def _problems(data_dir: Path, account: Account) -> tuple[list[str], bool]:
    """What is wrong with a file, and whether it is that there is none."""
    path = account_path(data_dir / "accounts", account.id)
    if path.exists():
        return list(check_account(path, account.address)), False
    if find_missing(data_dir, [account.id]):
        return [f"{account.address}: {path.name} is missing"], True
    return [], False


def _try(
    data_dir: Path, account: int, address: str, problems: list[str], directory: Directory
) -> Repaired | Unrepaired:
    try:
        return _repair(data_dir, account, address, problems, directory)
    except Unavailable as failure:
        return Unrepaired(address, problems, failure.text)
    except Exception as error:
        log.exception("account %d: a bug in its repair", account)
        return Unrepaired(address, problems, f"nothing was changed: a bug in the repair ({error})")


def _repair(
    data_dir: Path, account: int, address: str, problems: list[str], directory: Directory
) -> Repaired:
    damaged = account_path(data_dir / "accounts", account)
    with staging(data_dir, "nothing was changed") as folder:
        copy = folder / "damaged.db"
        copy.touch()
        for end in ("", "-wal"):
            if Path(f"{damaged}{end}").exists():
                shutil.copyfile(f"{damaged}{end}", f"{copy}{end}")
        path = account_path(folder / "accounts", account)
        path.parent.mkdir(mode=0o700, parents=True)
        journaled = read_journals(data_dir / "journal", account)
        salvaged = salvage.salvage(copy, path, account, int(time.time()), journaled)
        aside = put_in_place(data_dir, path, account, directory, None)
    validity = _inbox_validity(data_dir, account)
    unshared = [
        (name, [_who(directory, grantee) for grantee in grantees])
        for name, grantees in salvaged.unshared
    ]
    return Repaired(address, account, problems, salvaged, aside, validity, unshared)


def _who(directory: Directory, grantee: int) -> str:
    if grantee == acl.ANYONE:
        return "anyone"
    known = directory.account_by_id(grantee)
    return known.address if known else "an account that is no more"


def _inbox_validity(data_dir: Path, account: int) -> int:
    connection = database.open_to_read(account_path(data_dir / "accounts", account))
    try:
        row: Any = connection.execute(
            "SELECT uidvalidity FROM mailbox WHERE account = ? AND mailbox = ?",
            (account, mailboxes.INBOX),
        ).fetchone()
    finally:
        connection.close()
    return row[0] if row else 0
