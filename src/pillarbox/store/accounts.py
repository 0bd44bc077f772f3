"""The open account files of one worker: `accounts/<2 hex>/<account id>.db`, each with its lock file.

A file has a writer, with which only the committer writes, and a reader once somebody reads while it is at work: whoever
reads sees the last commit and never waits for a writer. Files are opened at first use and closed when too many are
open, or nobody has used them for a while, both in threads: a new file takes several syncs, and so does the last close
of one that was written.
"""

import asyncio
import fcntl
import os
import resource
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import apsw

from pillarbox.core.errors import Failure, Unavailable
from pillarbox.core.memory import give_back
from pillarbox.store import database, made, mailboxes
from pillarbox.store.appending import Append, Appended
from pillarbox.store.numbers import HIGHEST_GENERATION, ensure_can_be
from pillarbox.store.tx import Tx

DESCRIPTORS_PER_FILE = 8  # database and WAL for writer and reader, shared memory, lock, WAL to sync
_DESCRIPTORS_FOR_OTHERS = 4096  # sockets, journal, directory
MOST_OPEN_FILES = 4000

CACHE_KIB = 2048
"""Of pages that a connection keeps in memory; `database.bound_caches` has a bound for all."""

RETRY_S = 5.0
"""Before what a start could not put into a file is tried again."""

KEPT_OPEN = 16
"""Files that stay open although nobody uses them: each takes some 400 KiB, and less than a millisecond to open."""


Filed = tuple[list[Append], list[Appended]]
"""What was appended, and the numbers that it got."""


_Identity = tuple[int, int] | None
"""Of a file, as the kernel tells it from others."""


class AccountFile:
    """One account's file, open. Not for use by two threads at a time."""

    __slots__ = (
        "account",
        "busy",
        "filed",
        "identity",
        "keyword_names",
        "level",
        "lock_descriptor",
        "log_descriptor",
        "path",
        "pins",
        "reader",
        "unsynced",
        "used",
        "vfs",
        "wal_pages",
        "writer",
    )

    def __init__(self, account: int, path: Path, vfs: str | None, lock_descriptor: int) -> None:
        """`lock_descriptor`, of the lock between processes, belongs to this object once it is made."""
        self.account = account
        self.path = path
        self.vfs = vfs
        self.lock_descriptor = lock_descriptor
        self.writer = database.connect(path, vfs=vfs, cache_kib=CACHE_KIB)
        self.identity = _identity(path)
        self.log_descriptor: int | None = None
        self.reader: apsw.Connection | None = None
        self.busy = False
        """The committer is at work on it, perhaps in a thread."""
        self.filed: list[Filed] = []
        """What opening it put into it, until that is told."""
        self.used = 0
        """In which round (`Accounts.close_unused`)."""
        self.pins = 0
        """How many users (sessions, a checkpoint) need it to stay open."""
        self.wal_pages = 0
        self.unsynced = 0
        """Messages that this process took and put into it since the last sync: a power cut may take their numbers."""
        self.level = database.NORMAL
        self.keyword_names: dict[int, tuple[bytes, ...]] = {0: ()}
        self.writer.set_wal_hook(self._committed)

    def _committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def ensure_in_place(self) -> None:
        """Raises Missing or Replaced where it is not the file that is at its path: it was moved or deleted, and what is
        written to it nobody else will see."""
        found = _identity(self.path)
        if found is None or found != self.identity:
            raise database.Missing(self.path) if found is None else database.Replaced(self.path)

    def read_tx(self, now_s: int) -> Tx:
        """A view of the last commit, for use at once. Open a transaction around it to see one moment in several
        queries.

        While nobody writes, the writer reads: it knows the pages that it wrote, which another connection would have to
        read again behind each commit, and all others with them."""
        if not self.busy:
            self.writer.set_busy_timeout(database.LOOP_TIMEOUT_MS)
            return self.write_tx(now_s)
        if self.reader is None:
            self.reader = database.connect(
                self.path,
                vfs=self.vfs,
                cache_kib=CACHE_KIB,
                timeout_ms=database.LOOP_TIMEOUT_MS,
            )
        return Tx(self.account, self.reader, self.keyword_names, now_s)

    def write_tx(self, now_s: int) -> Tx:
        return Tx(self.account, self.writer, self.keyword_names, now_s)

    def set_synchronous(self, level: str) -> None:
        """For the writer's transactions that follow."""
        if level != self.level:
            self.level = level
            database.set_synchronous(self.writer, level)

    def try_lock(self) -> bool:
        """Take the lock between processes without waiting."""
        try:
            fcntl.flock(self.lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(self) -> None:
        """Wait for the lock between processes (in a thread: blocks)."""
        fcntl.flock(self.lock_descriptor, fcntl.LOCK_EX)

    def unlock(self) -> None:
        fcntl.flock(self.lock_descriptor, fcntl.LOCK_UN)

    def open_log(self) -> None:
        """Have `log_descriptor`, to sync the write-ahead log by. Raises OSError."""
        if self.log_descriptor is None:
            # SQLite locks the file and its -shm, never its log, so a descriptor of our own does no harm.
            self.log_descriptor = os.open(f"{self.path}-wal", os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.writer.close()
        if self.log_descriptor is not None:
            os.close(self.log_descriptor)
        os.close(self.lock_descriptor)


class Accounts:
    """The pool. `generation` counts unclean stops; a file behind it is put in order before its first use."""

    def __init__(
        self,
        folder: Path,
        generation: int,
        vfs: str | None,
        put_in_order: Callable[[Tx, int], None],
        *,
        worker: int = 1,
        root: int | None = None,
    ) -> None:
        """`worker` is the number of this process among those that use `folder`; `root` is a descriptor of the lock of
        the data folder, where it is one of a server (`made`)."""
        self._folder = folder
        self._worker = worker
        self._root = root
        self._generation = generation
        self.vfs = vfs
        self._put_in_order = put_in_order
        self._open: OrderedDict[int, AccountFile] = OrderedDict()
        self._most = most_open_files()
        self._opening: dict[int, asyncio.Future[None]] = {}
        self._round = 0
        self._unsynced: dict[int, int] = {}
        """What is known of files that were closed."""
        self._template = b""
        self._template_lock = threading.Lock()
        self.unusable: set[int] = set()
        """Accounts that lack what the start found in the journals: to use them as they are would give numbers twice."""
        self.replay: Callable[[AccountFile, int], list[Filed]] = _replay_nothing
        """Puts that into a file, now that it is opened again; see `recovery.replay_late`."""
        self.tell_filed: Callable[[int, Filed], None] = lambda _account, _filed: None
        """Hears of what that appended."""
        self.knows: Callable[[int], bool] = _knows_none
        """Whether there is such an account; without a directory, only files that are there are of use."""
        self._failed: dict[int, tuple[float, Unavailable]] = {}
        """Unusable accounts: why, and until when nobody tries again (monotonic)."""

    def path(self, account: int) -> Path:
        return account_path(self._folder, account)

    def is_removed(self, account: int) -> bool:
        """Whether there is no file because there is no such account any more. Raises Missing where there is one."""
        path = self.path(account)
        if path.exists():
            return False
        if self.knows(account):
            raise database.Missing(path)
        return True

    def get(self, account: int) -> AccountFile | None:
        """The account's file if it is open."""
        file = self._open.get(account)
        if file is not None:
            self._open.move_to_end(account)
            file.used = self._round
        return file

    async def open(self, account: int, now_s: int) -> AccountFile:
        """The account's file, opened or made if need be, and pinned: the caller takes one from `pins` once it has
        used it. Raises Unavailable."""
        while (file := self.get(account)) is None:
            opening = self._opening.get(account)
            if opening is None:
                loop = asyncio.get_running_loop()
                # Done only when the file is in `_open`: who finds it done must find the file.
                opening = self._opening[account] = loop.create_future()
                work = loop.run_in_executor(None, self._open_file, account, now_s)
                work.add_done_callback(lambda done: self._opened(account, done))
            await asyncio.shield(opening)  # another one may be waiting for it, too
        file.pins += 1
        return file

    def _opened(self, account: int, done: "asyncio.Future[AccountFile]") -> None:
        opening = self._opening.pop(account)
        if done.cancelled():
            opening.cancel()
            return
        error = done.exception()
        if error is not None:
            opening.set_exception(error)
            opening.exception()  # those who waited may have gone
            return
        surplus = self._take_idle() if len(self._open) >= self._most else []
        file = self._open[account] = done.result()
        file.used = self._round
        file.unsynced = self._unsynced.pop(account, 0)
        opening.set_result(None)
        for filed in file.filed:
            self.tell_filed(account, filed)
        file.filed = []
        if surplus:
            self._close_soon(surplus)

    def open_blocking(self, account: int, now_s: int) -> AccountFile:
        """The same without an event loop, for the start; not pinned."""
        file = self.get(account)
        if file is None:
            if len(self._open) >= self._most:
                _close(self._take_idle())
            file = self._open[account] = self._open_file(account, now_s)
        return file

    def _open_file(self, account: int, now_s: int) -> AccountFile:
        if account not in self.unusable:
            return self._open_at_once(account, now_s)
        until, why = self._failed.get(account, (0.0, None))
        if why is not None and time.monotonic() < until:
            raise why.with_traceback(None)
        try:
            file = self._open_at_once(account, now_s)
        except Unavailable as failure:
            self._failed[account] = time.monotonic() + RETRY_S, failure
            raise
        self.unusable.discard(account)
        self._failed.pop(account, None)
        return file

    def _open_at_once(self, account: int, now_s: int) -> AccountFile:
        path = self.path(account)
        try:
            is_new = not path.exists()
            if is_new:
                self._ensure_not_lost(account, path)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if is_new:
                    self._create(path, lock)
                self._ensure_same(account, path)
                file = AccountFile(account, path, self.vfs, lock)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise database.unavailable(apsw.CantOpenError(str(error)), path) from error
        try:
            if account in self.unusable:
                file.filed = self.replay(file, now_s)
            self._prepare(file, now_s)
            if self._root is not None and made.marked(self._root, account) in (0, made.ANY):
                made.mark(self._root, [(account, path)])
        except apsw.Error as error:
            file.close()
            raise database.unavailable(error, path) from error
        except BaseException:
            file.close()
            raise
        return file

    def _ensure_not_lost(self, account: int, path: Path) -> None:
        """Raises Missing where a new file would hide that there was one, or that the folder of all files is gone, and
        OSError."""
        root = self._root
        if (
            account in self.unusable
            or (
                root is not None
                and (made.marked(root, account) or made.are_all_missing(self._folder.parent, root))
            )
        ) and not path.exists():  # another process may have made it just now
            raise database.Missing(path)

    def _ensure_same(self, account: int, path: Path) -> None:
        """Raises Missing, or Replaced where the file at the path is not the account's, which was moved or deleted; and
        OSError."""
        inode = made.marked(self._root, account) if self._root is not None else 0
        found = _identity(path)
        if inode not in (0, made.ANY) and (found is None or found[1] != inode):
            raise database.Missing(path) if found is None else database.Replaced(path)

    def ensure_in_place(self, account: int) -> None:
        """Raises Missing or Replaced where what was written for an account is not in the file that is at the path, and
        OSError."""
        file = self._open.get(account)
        if file is not None:
            file.ensure_in_place()
        self._ensure_same(account, self.path(account))

    def _create(self, path: Path, lock: int) -> None:
        """Make the file unless another process was quicker: a second one would take its place, mail and all."""
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not path.exists():
                database.create_copy(path, self._template_octets())
                database.sync_folder(path.parent.parent)  # the folder may be new, too
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)

    def _template_octets(self) -> bytes:
        """An empty account file, made once: a copy of it costs a tenth of running the schema."""
        with self._template_lock:
            if not self._template:
                path = self._folder / f"template-{self._worker}.db"
                database.create(path, "account", vfs=self.vfs)
                self._template = path.read_bytes()
                path.unlink()
            return self._template

    def _prepare(self, file: AccountFile, now_s: int) -> None:
        """Migrate, give a new file its mailboxes, and deal with an unclean stop, once and durably."""
        writer = file.writer
        if database.is_current(writer, "account") and not self._is_behind(file):
            return
        file.lock()
        try:
            database.migrate(writer, "account")
            file.set_synchronous(database.FULL)
            writer.execute("BEGIN IMMEDIATE")
            try:
                tx = file.write_tx(now_s)
                # Another process may have put it in order meanwhile, and be at work on it.
                if not mailboxes.make_first(tx, self._generation) and self._is_behind(file):
                    self._put_in_order(tx, self._generation)
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise
        finally:
            file.unlock()

    def _is_behind(self, file: AccountFile) -> bool:
        """Whether it is new, or has not yet seen the last unclean stop. Raises Unavailable: what it says cannot be."""
        row = file.writer.execute(
            "SELECT generation FROM account_state WHERE account = ?", (file.account,)
        ).fetchone()
        if row is None:
            return True
        if row[0] != 0:
            ensure_can_be(row[0], HIGHEST_GENERATION)
        return bool(row[0] < self._generation)

    def close_unused(self) -> None:
        """Close the files that nobody has used since the last but one call, but for KEPT_OPEN of them."""
        self._round += 1
        surplus = len(self._open) - KEPT_OPEN
        if surplus > 0:
            unused = self._take(surplus, used_before=self._round - 1)
            if unused:
                self._close_soon(unused)

    def _take_idle(self) -> list[AccountFile]:
        """Give up the tenth of the files that nobody used for longest; the caller closes them."""
        return self._take(max(1, self._most // 10), used_before=self._round + 1)

    def _take(self, most: int, used_before: int) -> list[AccountFile]:
        idle: list[AccountFile] = []
        for file in self._open.values():
            if len(idle) == most or file.used >= used_before:
                break
            if not file.busy and not file.pins:
                idle.append(file)
        for file in idle:
            self._give_up(file)
        return idle

    def _give_up(self, file: AccountFile) -> None:
        """Keep of a file what must be known of it when it is closed; the caller closes it."""
        del self._open[file.account]
        if file.unsynced:
            self._unsynced[file.account] = file.unsynced

    def close_strayed(self, account: int) -> None:
        """Close a file that is not in its place, if nobody is at work on it: it may be put back."""
        file = self._open.get(account)
        if file is not None and not file.busy and not file.pins:
            self._give_up(file)
            file.close()

    def _close_soon(self, files: list[AccountFile]) -> None:
        asyncio.get_running_loop().run_in_executor(None, _close_for_good, files)

    def open_accounts(self) -> list[int]:
        """Whose files are open."""
        return list(self._open)

    def forget(self, account: int) -> None:
        """Close one file, if it is open and nobody is at work on it (its account was removed)."""
        self._unsynced.pop(account, None)
        file = self._open.get(account)
        if file is not None and not file.busy and not file.pins:
            del self._open[account]
            file.close()

    def close(self) -> None:
        files = list(self._open.values())
        self._open.clear()
        _close(files)


def _identity(path: Path) -> _Identity:
    """Of the file that is there now; None for none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _replay_nothing(_file: AccountFile, _now_s: int) -> list[Filed]:
    return []


def _knows_none(_account: int) -> bool:
    return False


def _close_for_good(files: Iterable[AccountFile]) -> None:
    """Nobody uses them any more, nor what they had in memory."""
    _close(files)
    give_back()


def _close(files: Iterable[AccountFile]) -> None:
    for file in files:
        try:
            file.close()
        except (apsw.Error, Failure):
            continue  # a damaged file must not keep the others open


def account_path(folder: Path, account: int) -> Path:
    """The file of an account below `folder` (accounts/)."""
    name = f"{account:08x}"
    return folder / name[-2:] / f"{name}.db"


def lock_path(path: Path) -> Path:
    """The lock file between processes of an account's file."""
    return path.with_suffix(".lock")


def most_open_files() -> int:
    """How many account files this process may hold open; raises its descriptor limit as far as it goes."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES * DESCRIPTORS_PER_FILE + 4 * _DESCRIPTORS_FOR_OTHERS
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if limit > _soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    available = max(limit, _soft) - min(_DESCRIPTORS_FOR_OTHERS, max(limit, _soft) // 2)
    return max(4, min(MOST_OPEN_FILES, available // DESCRIPTORS_PER_FILE))
