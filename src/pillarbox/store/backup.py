"""A copy of a whole data folder, or of some accounts, while the server runs or not.

Each SQLite file is copied as of one moment, by SQLite's online backup within one read transaction. What was
acknowledged before the backup began is in it: the order of copying goes against the way of mail. First what programs
dropped, then the journals (mail that was taken, and may not be in its account's file for a second), then the queue,
then the accounts; mail that moves on meanwhile is in the backup once or twice, never not at all. Then the journals are
replayed into the copies, which tell what they have already, as at a start after an unclean stop. A message that a user
moves from one account's file to another's during the backup is the exception: each file has its own moment.

The search index is derived data, `run.db` of the present run, and nobody needs the trace: they are left out. Nothing in
the data folder is changed.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from pillarbox import __version__
from pillarbox.core.errors import DiskFull, Failure, Refused, Unavailable
from pillarbox.store import database, intake, journal, made, recovery
from pillarbox.store.accounts import Accounts, account_path
from pillarbox.store.copying import copy_as_it_stands, copy_database, find_damage
from pillarbox.store.directory import ensure_not_lost
from pillarbox.store.manifest import (
    CONFIGURATION,
    DATA,
    FORMAT,
    UNFINISHED_MANIFEST,
    Manifest,
    Progress,
    SavedAccount,
    SavedFile,
    describe,
    present_schemas,
    write_manifest,
)
from pillarbox.store.place import REPLACING, UNFINISHED
from pillarbox.trace.file import is_trace

ASIDE = journal.ASIDE
"""In the data folder: account files that a restore or a repair took out of use."""

MISSING = "its mail file was missing"
"""What the manifest says is wrong with an account then."""

ACCOUNTS_SKIPPED = 1 << 20
"""More than are made from one backup to the next."""

MOST_NAMED = 5
"""Of account files that cannot be read."""

_SINGLE = ("directory.db", "logins.db", "queue.db")
_NOT_SAVED = frozenset(
    {
        "accounts",
        "journal",
        "spool",
        "run.db",
        "lock",
        "control",
        ASIDE,
        UNFINISHED,
        REPLACING,
        *_SINGLE,
    }
)
_ENDS_NOT_SAVED = ("-wal", "-shm", "-journal", ".new")


@dataclass(slots=True)
class Wanted:
    """What is to be saved."""

    data_dir: Path
    configuration: Sequence[Path]
    """The configuration, and the files that it names."""
    accounts: Sequence[str] = ()
    """Addresses; none: the whole server."""
    settle_s: float = intake.WAIT_S + 0.5
    """How long a server may take until its files have what it has taken."""


def back_up(wanted: Wanted, target: Path, progress: Progress | None = None) -> Manifest:
    """Write a backup into a new or empty folder, durable on return. Blocks for as long as it takes.

    Raises Refused (the folder has something in it, there is no such account, all mail is gone) or Unavailable (a full
    disk). Then nothing of it is left.
    """
    if not (wanted.data_dir / "directory.db").exists():
        ensure_not_lost(wanted.data_dir / "directory.db")
        raise Refused(f"no server has run in {wanted.data_dir} yet: there is nothing to save")
    made.ensure_not_all_missing(wanted.data_dir)
    if target.absolute().is_relative_to(wanted.data_dir.absolute()):
        raise Refused("a backup within the data folder would be lost with it: name another folder")
    with _folder(target) as folder:
        try:
            manifest = _Backup(wanted, folder, progress).run()
            for entry in sorted(folder.iterdir()):
                entry.rename(target / entry.name)
            database.sync_folder(target)
            write_manifest(target, manifest)
            folder.rmdir()
            database.sync_folder(target.parent)
        except (OSError, apsw.FullError, apsw.IOError, DiskFull) as error:
            if isinstance(error, PermissionError) and _is_within(error.filename, wanted.data_dir):
                raise Unavailable(
                    f"{error.filename} cannot be read by this user, so nothing was saved"
                ) from error
            why = error.text if isinstance(error, Failure) else getattr(error, "strerror", None)
            why = why or ("the disk is full" if isinstance(error, apsw.FullError) else str(error))
            raise Unavailable(
                f"the backup cannot be written to {target}: {why}; nothing is left of it"
            ) from error
    return manifest


@contextmanager
def _folder(target: Path) -> Iterator[Path]:
    """Where to write; `target` is as before if that fails, but for what a backup left there that was killed."""
    target = target.absolute()
    is_new = not target.exists()
    if not is_new and not (target.is_dir() and _is_free(target)):
        raise Refused(f"{target} is not empty: name a new or empty folder for each backup")
    folder = target / UNFINISHED
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        us = database.user_name(os.geteuid())
        # Root's command acts as the server's user here.
        deed = f"run first: install -d -o {us} -m 0700 {target}" if os.getuid() == 0 else ""
        raise Refused(
            f"{target} cannot be made by {us}: {error.strerror};"
            f" {deed or 'name a folder that this user may write into'}"
        ) from error
    try:
        _ensure_alone(lock, target)
        try:
            _clear(target)
            target.chmod(0o700)
            yield folder
        except BaseException:
            _clear(target)
            with suppress(FileNotFoundError):
                folder.rmdir()
            if is_new:
                target.rmdir()
            raise
    finally:
        os.close(lock)


def _is_free(target: Path) -> bool:
    """Whether there is nothing in a folder, or only what a backup left that did not come to its end."""
    names = {entry.name for entry in target.iterdir()}
    ours = {UNFINISHED, DATA, CONFIGURATION, UNFINISHED_MANIFEST}
    return not names or (UNFINISHED in names and names <= ours)


def _ensure_alone(lock: int, target: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Refused(f"another backup is being written to {target}") from error
    except OSError:
        pass  # a file system without such locks


def _clear(target: Path) -> None:
    """All of a backup but the folder that is locked."""
    for path in (target / DATA, target / CONFIGURATION, *(target / UNFINISHED).glob("*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in target.glob("manifest.json*"):
        path.unlink(missing_ok=True)


@dataclass(slots=True)
class _Backup:
    """One run of it, into `folder`."""

    wanted: Wanted
    folder: Path
    progress: Progress | None
    done: int = 0
    total: int = 0
    left_out: list[str] = field(default_factory=list)
    configuration: dict[str, str] = field(default_factory=dict)
    damaged: list[SavedAccount] = field(default_factory=list)
    """Accounts whose files are not copied yet."""

    @property
    def data(self) -> Path:
        return self.folder / DATA

    def run(self) -> Manifest:
        began = int(time.time())
        source = self.wanted.data_dir
        addresses, generation = _read_directory(source / "directory.db")
        chosen = self._choose(addresses)
        is_whole = not self.wanted.accounts
        self.data.mkdir(mode=0o700)
        self._count(chosen, is_whole=is_whole)
        if is_whole:
            self._copy_folder(source, self.data)
            self._copy_configuration()
        self._copy_journals()
        if is_whole:
            for name in ("queue.db", "logins.db", "directory.db"):
                if (source / name).exists() and (damage := self._copy_database(name)):
                    raise Unavailable(f"{source / name} is damaged, so nothing was saved: {damage}")
            _skip_accounts(self.data / "directory.db")
        accounts = {}
        for done, (address, number) in enumerate(chosen.items()):
            try:
                saved = self._copy_account(number)
            except Unavailable as error:
                raise self._unreadable(error, list(chosen.values())[done:]) from error
            if saved is not None:
                accounts[address] = saved
        held = [saved.id for saved in accounts.values() if saved.damage]
        self._replay(generation, set(chosen.values()), held)
        self._copy_damaged()
        by_number = {number: address for address, number in addresses.items()}
        for saved in accounts.values():
            if saved.file and not saved.damage:
                saved.grantees = _grantees(self.folder / saved.file, by_number)
        return Manifest(
            FORMAT,
            __version__,
            present_schemas(),
            began,
            int(time.time()),
            is_whole,
            self.configuration,
            self.left_out,
            accounts,
            self._finish(),
        )

    def _choose(self, addresses: dict[str, int]) -> dict[str, int]:
        for address in self.wanted.accounts:
            if address not in addresses:
                raise Refused(f"there is no account {address}")
        return {name: addresses[name] for name in self.wanted.accounts} or addresses

    def _count(self, chosen: dict[str, int], *, is_whole: bool) -> None:
        paths = [
            account_path(self.wanted.data_dir / "accounts", number) for number in chosen.values()
        ]
        if is_whole:
            paths += [self.wanted.data_dir / name for name in _SINGLE]
        self.total = sum(path.stat().st_size for path in paths if path.exists())

    def _advance(self, octets: int) -> None:
        self.done += octets
        if self.progress:
            self.progress(min(self.done, self.total), self.total)

    def _copy_folder(self, source: Path, target: Path) -> None:
        """Plain files: keys, certificates, what was dropped. What goes away meanwhile has moved on to where is looked
        later."""
        try:
            entries = sorted(source.iterdir())
        except PermissionError:
            self._leave_out(source)
            return
        for entry in entries:
            if target == self.data and (entry.name in _NOT_SAVED or is_trace(entry.name)):
                continue
            if entry.name.endswith(_ENDS_NOT_SAVED):
                continue
            if entry.is_dir() and not entry.is_symlink():
                (target / entry.name).mkdir(mode=0o700)
                self._copy_folder(entry, target / entry.name)
            elif entry.is_file():
                self._copy_file(entry, target / entry.name)

    def _copy_file(self, source: Path, target: Path) -> bool:
        try:
            with source.open("rb") as file, target.open("xb") as copy:
                shutil.copyfileobj(file, copy)
        except FileNotFoundError:
            return False
        except PermissionError:
            self._leave_out(source)
            return False
        return True

    def _leave_out(self, path: Path) -> None:
        self.left_out.append(f"{path} cannot be read by this user")

    def _copy_configuration(self) -> None:
        (self.folder / CONFIGURATION).mkdir(mode=0o700)
        for number, path in enumerate(self.wanted.configuration):
            if path.is_relative_to(self.wanted.data_dir):
                continue
            name = f"{CONFIGURATION}/{number}-{path.name}"
            if self._copy_file(path, self.folder / name):
                self.configuration[name] = str(path)

    def _copy_journals(self) -> None:
        """A segment that goes meanwhile: the account files have what was in it. Then a running server gets the time to
        put in what it has taken: what it numbers itself has the same numbers here."""
        (self.data / "journal").mkdir(mode=0o700)
        segments = journal.segments(self.wanted.data_dir / "journal")
        for path in segments:
            self._copy_file(path, self.data / "journal" / path.name)
        if segments:
            time.sleep(self.wanted.settle_s)

    def _copy_account(self, number: int) -> SavedAccount | None:
        """None: it was removed meanwhile."""
        path = account_path(self.wanted.data_dir / "accounts", number)
        name = path.relative_to(self.wanted.data_dir)
        if made.is_missing(path):
            return SavedAccount(number, "", MISSING)
        if not path.exists():
            return SavedAccount(number, "")
        (self.data / name.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            damage = self._copy_database(str(name))
        except Unavailable:
            if path.exists():
                raise
            return None
        saved = SavedAccount(number, f"{DATA}/{name}", damage)
        if damage:
            (self.data / name).unlink(missing_ok=True)
            self.damaged.append(saved)
        return saved

    def _copy_damaged(self) -> None:
        """As they stand, so that a repair finds in the copy what it finds here. Behind the replay, which would write
        into them: what they lack is in the copies of the journals."""
        for saved in self.damaged:
            name = Path(saved.file).relative_to(DATA)
            try:
                copy_as_it_stands(self.wanted.data_dir / name, self.data / name)
            except FileNotFoundError:
                saved.file = ""

    def _unreadable(self, first: Unavailable, accounts: Sequence[int]) -> Unavailable:
        """The failure of the first of some account files, with those of others: whoever mends one needs to know of
        all."""
        folder = self.wanted.data_dir / "accounts"
        found = [path for number in accounts if (path := account_path(folder, number)).exists()]
        others = [path for path in found[1:] if not _can_be_read(path)]
        if not others:
            return first
        lines = [first.text, *(f"{path} cannot be read" for path in others[: MOST_NAMED - 1])]
        left = len(others) + 1 - len(lines)
        lines += [f"... and {left} more"] if left else []
        return Unavailable(
            "\n".join([f"{len(others) + 1} files cannot be read, so nothing was saved:", *lines])
        )

    def _copy_database(self, name: str) -> str:
        """Copy one of the data folder; what is wrong with it, or ""."""
        source, target = self.wanted.data_dir / name, self.data / name
        try:
            copy_database(source, target, self._advance)
            return find_damage(target)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            return str(error)
        except (apsw.BusyError, apsw.CantOpenError) as error:
            raise Unavailable(f"{source} cannot be read: {error}") from error

    def _replay(self, generation: int, accounts: set[int], held: Collection[int]) -> None:
        """Put into the copies what was in the journals only; what a damaged or missing one (`held`) lacks stays in a
        journal."""
        folder = self.data / "journal"
        pool = Accounts(self.data / "accounts", 0, None, recovery.put_in_order)
        pool.knows = accounts.__contains__
        try:
            replayed = recovery.replay(pool, folder, generation, int(time.time()), held=held)
        finally:
            pool.close()
        for path in replayed.segments:
            path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()

    def _finish(self) -> dict[str, SavedFile]:
        """Sync all; sizes and checksums by name."""
        files = {}
        for parent, folders, names in os.walk(self.folder):
            folders.sort()
            for name in sorted(names):
                path = Path(parent) / name
                if path.suffix == ".lock" and path.is_relative_to(self.data / "accounts"):
                    path.unlink()
                    continue
                path.chmod(0o600)
                database.sync_file(path)
                files[str(path.relative_to(self.folder))] = describe(path)
            Path(parent).chmod(0o700)
            database.sync_folder(Path(parent))
        return files


def _is_within(name: object, folder: Path) -> bool:
    return isinstance(name, str) and Path(name).is_relative_to(folder)


def _can_be_read(path: Path) -> bool:
    try:
        database.open_to_read(path).close()
    except apsw.Error:
        return False
    return True


def _read_directory(path: Path) -> tuple[dict[str, int], int]:
    """Accounts by address, and the generation. Raises Unavailable."""
    try:
        connection = database.open_to_read(path)
        try:
            rows = connection.execute(
                "SELECT address, account FROM account ORDER BY address"
            ).fetchall()
            found: Any = connection.execute(
                "SELECT value FROM meta WHERE name = 'generation'"
            ).fetchone()
        finally:
            connection.close()
    except apsw.Error as error:
        raise Unavailable(f"{path} cannot be read: {error}") from error
    accounts: list[Any] = rows
    return {row[0]: row[1] for row in accounts}, found[0] if found else 0


def _skip_accounts(path: Path) -> None:
    """In the copy of the directory: accounts that are made from it have numbers that none has had since. Their mail
    files may be there, or rights that others gave them (`acl`)."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute(
            "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'account'", (ACCOUNTS_SKIPPED,)
        )
    finally:
        connection.close()


def _grantees(path: Path, addresses: dict[int, str]) -> dict[int, str]:
    connection = database.open_to_read(path)
    try:
        rows = connection.execute("SELECT DISTINCT grantee FROM acl WHERE grantee != 0").fetchall()
    finally:
        connection.close()
    numbers: list[Any] = [row[0] for row in rows]
    return {number: addresses[number] for number in numbers if number in addresses}
