"""Putting a backup back: a whole server into an empty data folder, or single accounts into one in use, while no server
runs on it.

Files are made ready beside those in use, synced, and only then renamed. An account's file that is replaced is kept in
the folder `aside`. What the journals in use have for the account, and the new file has not, goes into it first
(`journaled_since`). Then all gets new numbers (`renumber`).
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apsw

from pillarbox.core.errors import DiskFull, Refused, Unavailable
from pillarbox.store import database, made, recovery, replacing, vacant
from pillarbox.store.accounts import Accounts, account_path
from pillarbox.store.appending import Append, Appended
from pillarbox.store.backup import ASIDE
from pillarbox.store.check import check_account
from pillarbox.store.copying import copy_as_it_stands, find_damage
from pillarbox.store.directory import Directory, ensure_not_lost
from pillarbox.store.journaled import read_journals
from pillarbox.store.journaled_since import Put, put_since
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.manifest import DATA, Manifest, Progress, SavedAccount, ensure_unchanged
from pillarbox.store.place import RESTORING, UNFINISHED, lock_folder, own
from pillarbox.store.renumber import Seen, give_to, is_of, mailboxes_of, renumber, seen_by
from pillarbox.store.told import tell_filed
from pillarbox.trace.recorder import Recorder


@dataclass(slots=True)
class Replacement:
    """An account's file that took the place of another."""

    address: str
    aside: Path | None
    """Where the old file is now; None if there was none."""
    recovered: int
    """Messages that the journal had for it."""
    account: int
    filed: list[tuple[Append, Appended]]
    """What of those only the journal had, where it is in INBOX now."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with a file that SQLite can read whole; a repair mends it."""

    def tell(self, recorder: Recorder) -> None:
        """The trace, of what the journal had for INBOX."""
        items = [item for item, _ in self.filed]
        tell_filed(recorder, self.account, items, [done for _, done in self.filed])


@dataclass(slots=True)
class Left:
    """An account that the backup has, but no mail of it that can be put back: its file is as it was."""

    address: str
    why: str


def restore_server(
    backup: Path, manifest: Manifest, data_dir: Path, progress: Progress | None = None
) -> list[str]:
    """Put a whole backup into an empty folder, which is made if need be. Blocks. Returns the addresses of accounts
    whose file is damaged in the backup.

    Raises Refused (the folder is in use, the backup is damaged or has no whole server), Unavailable.
    """
    if not manifest.is_whole:
        raise Refused("this backup has single accounts only: name those to restore")
    if (data_dir / "directory.db").exists() and (data_dir / RESTORING).exists():
        raise Refused(
            f"a whole restore into {data_dir} came to its end before, and was killed only then: start the server;"
            f" to restore something else, empty {data_dir} first"
        )
    _ensure_vacant(data_dir)
    ensure_unchanged(backup, manifest, manifest.files, progress)
    is_new = not data_dir.exists()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        _vacated(data_dir) as lock,
        staging(data_dir, "nothing was restored", RESTORING) as folder,
    ):
        os.ftruncate(lock, 0)  # its marks are of mail that is not here (`made`)
        for entry in set(data_dir.iterdir()) - {folder}:
            if entry.name not in vacant.STAYING:
                _remove(entry)
        for name in manifest.files:
            if name.startswith(f"{DATA}/"):
                _copy(backup / name, folder / Path(name).relative_to(DATA))
        damaged = []
        marked = []
        directory = Directory(folder / "directory.db", clock=time.time)
        try:
            generation = directory.generation()
        finally:
            directory.close()
        for address, saved in manifest.accounts.items():
            if saved.damage:
                damaged.append(address)
            elif saved.file:
                path = account_path(folder / "accounts", saved.id)
                renumber(
                    path,
                    saved.id,
                    Seen(),
                    generation=generation,
                    now_s=int(time.time()),
                    grantees=None,
                )
            if saved.file or saved.damage:  # also of one that was missing
                _with_folder(account_path(folder / "accounts", saved.id))
                marked.append(saved.id)
        _own_and_sync(folder, data_dir)
        made.mark_lost(lock, marked)
        # Without the directory a server has no accounts: it comes last.
        for entry in sorted(folder.iterdir(), key=lambda path: path.name == "directory.db"):
            entry.rename(data_dir / entry.name)
        database.sync_folder(data_dir)
    if is_new:
        database.sync_folder(data_dir.parent)
    return damaged


def _ensure_vacant(data_dir: Path) -> None:
    """Raises Refused where there is anything to lose, but for what a whole restore left that did not come to its
    end."""
    if not data_dir.exists() or _is_unfinished(data_dir):
        return
    if there := list(vacant.find_content(data_dir)):
        raise Refused(
            f"{data_dir} is not empty, it has {', '.join(there)}: a whole server is restored into a new or empty"
            f" data_dir; move that away first, like: mv {data_dir} {data_dir}.old"
        )


def _is_unfinished(data_dir: Path) -> bool:
    return (data_dir / RESTORING).exists() and not (data_dir / "directory.db").exists()


@contextmanager
def _vacated(data_dir: Path) -> Iterator[int]:
    """What `locked` gives, once nothing is in the way. Raises Refused, Unavailable."""
    with locked(data_dir) as lock:
        if not _is_unfinished(data_dir):
            _ensure_vacant(data_dir)  # commands may have made something meanwhile
            try:
                vacant.vacate(data_dir)
            except OSError as error:
                raise Unavailable(f"nothing was restored: {error.strerror}") from error
        yield lock


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def restore_accounts(
    backup: Path,
    manifest: Manifest,
    data_dir: Path,
    addresses: Sequence[str],
    progress: Progress | None = None,
) -> Iterator[Replacement | Left]:
    """Put the mail of single accounts back, one after the other, first telling of those that must be left. Blocks.

    Raises Refused (a server runs, an account is not here or not in the backup, the backup is damaged), Unavailable.
    """
    saved = {address: _known(manifest, address) for address in addresses}
    left = [Left(address, why) for address in addresses if (why := _why_left(saved[address]))]
    for each in left:
        saved.pop(each.address)
    names = [each.file for each in saved.values()]
    names += [name for name in manifest.files if name.startswith(f"{DATA}/journal/")]
    if not (data_dir / "directory.db").exists():
        raise Refused(
            f"no server has run in {data_dir} yet: restore the whole backup, without naming accounts"
        )
    ensure_unchanged(backup, manifest, names, progress)
    with locked(data_dir):
        directory = Directory(data_dir / "directory.db", clock=time.time)
        try:
            replacing.finish(data_dir, directory)
            numbers = {address: _number_here(directory, address) for address in addresses}
            yield from left
            for address, account in saved.items():
                with staging(data_dir, "nothing was restored") as folder:
                    place = _Restored(backup, data_dir, folder, address, numbers[address])
                    done = _restore_account(place, account, directory)
                yield done
        finally:
            directory.close()


def restore_file(file: Path, data_dir: Path, address: str) -> Replacement:
    """Make a mail file that is in no use (in `aside`, or of an account that is no more) that of an account. With whom
    it was shared by name is forgotten: it may be somebody else's. Blocks. Raises Refused (it is damaged),
    Unavailable."""
    ensure_not_lost(data_dir / "directory.db")
    with locked(data_dir):
        directory = Directory(data_dir / "directory.db", clock=time.time)
        try:
            replacing.finish(data_dir, directory)
            number = _number_here(directory, address)
            with staging(data_dir, "nothing was restored") as staged:
                path = _with_folder(staged / "accounts" / file.name)
                copy_as_it_stands(file, path)
                _ensure_whole(file, path)
                is_own = is_of(path, number)
                path = give_to(path, number, path.parent)
                put = _put_journaled(path, number, data_dir / "journal", is_own=is_own)
                aside = put_in_place(data_dir, path, number, directory, set())
            problems = list(check_account(account_path(data_dir / "accounts", number), address))
            now = _filed_now(data_dir, number, put.filed)
            return Replacement(address, aside, put.messages, number, now, problems)
        finally:
            directory.close()


def _ensure_whole(file: Path, copy: Path) -> None:
    try:
        damage = find_damage(copy)
        connection = database.open_to_read(copy)
        try:
            connection.execute("SELECT account FROM account_state").fetchall()
        finally:
            connection.close()
    except apsw.NotADBError as error:
        damage = str(error)
    except apsw.SQLError as error:
        raise Refused(f"{file} is not the mail file of an account") from error
    if damage:
        raise Refused(
            f"{file} is damaged; if a repair put it there, what could be read of it is in its account already"
            f" (SQLite: {' '.join(damage.split())})"
        )


def _known(manifest: Manifest, address: str) -> SavedAccount:
    saved = manifest.accounts.get(address)
    if saved is None:
        raise Refused(f"the backup has no account {address}")
    return saved


def _why_left(saved: SavedAccount) -> str:
    """Why there is nothing to put back; "" if there is."""
    if not saved.file:
        return f"the backup has no mail of it{f': {saved.damage}' if saved.damage else ''}"
    return f"its file is damaged in the backup, too: {saved.damage}" if saved.damage else ""


def _number_here(directory: Directory, address: str) -> int:
    account = directory.account(address)
    if account is None:
        raise Refused(
            f"there is no account {address} here; make it first: pillarbox account add {address}"
        )
    return account.id


@dataclass(slots=True)
class _Restored:
    backup: Path
    data_dir: Path
    staging: Path
    address: str
    number: int


def _restore_account(place: _Restored, saved: SavedAccount, directory: Directory) -> Replacement:
    folder = place.staging / "accounts"
    path = account_path(folder, saved.id)
    _copy(place.backup / saved.file, path)
    saved_too = _put_journaled(path, saved.id, place.backup / DATA / "journal")
    if saved.id != place.number:
        path = give_to(path, place.number, folder)
    # A number may be that of somebody else by now, or on another server.
    grantees = {
        number
        for number, address in saved.grantees.items()
        if (known := directory.account_by_id(number)) is not None and known.address == address
    }
    put = _put_journaled(
        path, place.number, place.data_dir / "journal", is_own=saved.id == place.number
    )
    aside = put_in_place(place.data_dir, path, place.number, directory, grantees)
    now = _filed_now(place.data_dir, place.number, saved_too.filed + put.filed)
    recovered = saved_too.messages + put.messages
    return Replacement(place.address, aside, recovered, place.number, now)


def _filed_now(
    data_dir: Path, account: int, placed: list[tuple[Append, Appended]]
) -> list[tuple[Append, Appended]]:
    """What was put into the INBOX of a file that is in its place by now, with the numbers that it has there: found
    by the unique ids of POP3, which stay. What cannot be found is left out."""
    if not placed:
        return []
    uids: dict[str, int] = {}
    validity = 0
    with suppress(apsw.Error):  # the mail is there, whatever the trace hears of it
        connection = database.open_to_read(account_path(data_dir / "accounts", account))
        try:
            where = "WHERE account = ? AND mailbox = ?"
            row: Any = connection.execute(
                f"SELECT uidvalidity FROM mailbox {where}", (account, INBOX)
            ).fetchone()
            validity = row[0] if row else 0
            rows: Any = connection.execute(
                f"SELECT uidl, uid FROM message {where}", (account, INBOX)
            )
            uids = dict(rows)
        finally:
            connection.close()
    return [
        (item, replace(done, uid=uids[uidl], uidvalidity=validity))
        for item, done in placed
        if done.mailbox == INBOX and (uidl := f"{done.uidvalidity:08x}{done.uid:08x}") in uids
    ]


def _put_journaled(path: Path, account: int, journals: Path, *, is_own: bool = True) -> Put:
    """Put what journals have for an account into a file that is made ready. The journals stay as they are. Not
    `is_own`: it was the file of another account. Raises OSError, apsw.Error, Unavailable."""
    journaled = read_journals(journals, account)
    if not journaled.records:
        return Put()
    pool = Accounts(path.parent.parent, 0, None, recovery.put_in_order)
    try:
        now_s = int(time.time())
        file = pool.open_blocking(account, now_s)
        with file.writer:
            put = put_since(file.write_tx(now_s), journaled, is_own=is_own)
    except Unavailable as error:
        raise Unavailable(
            f"what the journal has for this account cannot be put into its file: {error.told or error.text}"
        ) from error
    finally:
        pool.close()
    return put


def put_in_place(
    data_dir: Path, path: Path, account: int, directory: Directory, grantees: set[int] | None
) -> Path | None:
    """Use a file, which is ready but for its numbers, as that of an account; where the old one is now. The lock of the
    folder is held by the caller. `grantees`: see `renumber`; None: it was made of the one in use.
    Raises Unavailable."""
    target = account_path(data_dir / "accounts", account)
    now_s = int(time.time())
    seen = seen_by(target)
    if grantees is not None:
        seen.kept = mailboxes_of(target)
    renumber(
        path,
        account,
        seen,
        generation=directory.generation(),
        now_s=now_s,
        grantees=grantees,
    )
    _own_and_sync(path, data_dir)
    aside = _keep(data_dir, target, now_s)
    replacing.replace(data_dir, path, account, directory)
    return aside


def _keep(data_dir: Path, path: Path, now_s: int) -> Path | None:
    """Give the file in use a second name in `aside`, its WAL too."""
    if not path.exists():
        return None
    folder = data_dir / ASIDE
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = folder / f"{path.stem}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now_s))}.db"
    number = 1
    while kept.exists():
        number += 1
        kept = kept.with_name(f"{kept.stem.partition('.')[0]}.{number}.db")
    for end in ("", "-wal"):
        if Path(f"{path}{end}").exists():
            os.link(f"{path}{end}", f"{kept}{end}")
    database.sync_folder(folder)
    database.sync_folder(data_dir)
    own(folder, data_dir)
    return kept


@contextmanager
def locked(data_dir: Path) -> Iterator[int]:
    """No server runs meanwhile; a descriptor of the lock of the folder. Raises Refused."""
    try:
        lock = lock_folder(data_dir)
    except Refused as error:
        raise Refused(
            f"a server runs on {data_dir}: stop it first, and start it again afterwards"
        ) from error
    try:
        yield lock
    finally:
        os.close(lock)


@contextmanager
def staging(data_dir: Path, outcome: str, name: str = UNFINISHED) -> Iterator[Path]:
    """A folder beside what is in use. Nothing is left of it; what the disk refuses becomes Unavailable, with `outcome`
    for what it means."""
    folder = data_dir / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    except (OSError, apsw.Error, DiskFull) as error:
        if isinstance(error, (apsw.FullError, DiskFull)):
            why = "the disk is full"
        else:
            why = getattr(error, "strerror", None) or str(error)
        raise Unavailable(f"{outcome}: {why}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_folder(path: Path) -> Path:
    """The same, once its folder is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, _with_folder(target))
    target.chmod(0o600)


def _own_and_sync(path: Path, data_dir: Path) -> None:
    """A file, or a folder and all in it: that of the data folder's owner, and on the disk."""
    own(path, data_dir)
    if not path.is_dir():
        database.sync_file(path)
        return
    for parent, _folders, names in os.walk(path):
        for name in names:
            file = Path(parent) / name
            own(file, data_dir)
            database.sync_file(file)
        Path(parent).chmod(0o700)
        own(Path(parent), data_dir)
        database.sync_folder(Path(parent))
