"""Damaged account files: what can be read goes into a new file, with what the journals have for the account; the old
one is kept in the folder `aside`. No server may run meanwhile."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pillarbox.core.errors import Refused
from pillarbox.store import database, mailboxes, recovery, salvage
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append, Appended
from pillarbox.store.check import check_account
from pillarbox.store.directory import Directory
from pillarbox.store.mending import Salvaged
from pillarbox.store.restore import locked, put_in_place, replay_into, staging
from pillarbox.store.told import tell_filed
from pillarbox.trace.recorder import Recorder


@dataclass(slots=True)
class Repaired:
    """An account whose file was made anew."""

    address: str
    account: int
    problems: list[str]
    """What was wrong."""
    salvaged: Salvaged
    from_journal: int
    """Messages that only the journal had."""
    aside: Path | None
    """The old file."""
    inbox_validity: int
    """The new UIDVALIDITY of INBOX."""
    filed: list[tuple[list[Append], list[Appended]]]
    """What of those had no numbers yet, with the UIDs that it has now."""

    def tell(self, recorder: Recorder) -> None:
        """The trace, of what is in INBOX now."""
        for items, done in self.filed:
            now = [replace(each, uidvalidity=self.inbox_validity) for each in done]
            tell_filed(recorder, self.account, items, now)


def repair(data_dir: Path, addresses: Sequence[str] = ()) -> Iterator[Repaired]:
    """Make the files of accounts anew that are not in order, one after the other; of all accounts, if none is named.
    Blocks. Raises Refused (a server runs), Unavailable."""
    if not (data_dir / "directory.db").exists():
        raise Refused(f"no server has run in {data_dir} yet: there is nothing to repair")
    with locked(data_dir):
        directory = Directory(data_dir / "directory.db", clock=time.time)
        try:
            known = [
                directory.known_account(address) for address in addresses
            ] or directory.accounts()
            for account in known:
                path = account_path(data_dir / "accounts", account.id)
                problems = list(check_account(path, account.address)) if path.exists() else []
                if problems:
                    yield _repair(data_dir, account.id, account.address, problems, directory)
        finally:
            directory.close()


def _repair(
    data_dir: Path, account: int, address: str, problems: list[str], directory: Directory
) -> Repaired:
    damaged = account_path(data_dir / "accounts", account)
    with staging(data_dir, "nothing was changed") as folder:
        copy = folder / "damaged.db"
        for end in ("", "-wal"):
            if Path(f"{damaged}{end}").exists():
                shutil.copyfile(f"{damaged}{end}", f"{copy}{end}")
        path = account_path(folder / "accounts", account)
        path.parent.mkdir(mode=0o700, parents=True)
        salvaged = salvage.salvage(copy, path, account, int(time.time()))
        filed: recovery.AllFiled = []
        recovered = replay_into(
            folder / "accounts", data_dir / "journal", directory.generation(), filed
        )
        aside = put_in_place(data_dir, path, account, directory, None)
    own = [(items, done) for number, items, done in filed if number == account]
    return Repaired(
        address,
        account,
        problems,
        salvaged,
        recovered,
        aside,
        _inbox_validity(data_dir, account),
        own,
    )


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
