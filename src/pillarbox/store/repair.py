"""Damaged account files: what can be read goes into a new file, with what the journals have for the account; the old
one is kept in the folder `aside`. No server may run meanwhile."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pillarbox.core.errors import Refused
from pillarbox.store import salvage
from pillarbox.store.accounts import account_path
from pillarbox.store.check import check_account
from pillarbox.store.directory import Directory
from pillarbox.store.restore import locked, put_in_place, replay_into, staging
from pillarbox.store.salvage import Salvaged


@dataclass(slots=True)
class Repaired:
    """An account whose file was made anew."""

    address: str
    problems: list[str]
    """What was wrong."""
    salvaged: Salvaged
    from_journal: int
    """Messages that only the journal had."""
    aside: Path | None
    """The old file."""


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
        recovered = replay_into(folder / "accounts", data_dir / "journal", directory.generation())
        aside = put_in_place(data_dir, path, account, directory, None)
    return Repaired(address, problems, salvaged, recovered, aside)
