"""SQLite files: opened with our settings, made from a template, migrated by numbered scripts.

`apsw` runs a string of several statements lazily and stops at the first row, so settings are made one by
one and are checked to hold. Account files are opened through SQLite only: closing any other descriptor of
such a file would drop SQLite's POSIX locks on it.
"""

import os
import pwd
from functools import cache
from importlib import resources
from pathlib import Path

import apsw

from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.store import sort_keys
from pillarbox.store.new_file import open_new

FULL = "FULL"
NORMAL = "NORMAL"

BUSY_TIMEOUT_MS = 5000
"""How long a connection waits in a thread while another program has the file."""
LOOP_TIMEOUT_MS = 20
"""The same for reads on the event loop: somebody may just open or close the file, or it is damaged."""

KEPT_STATEMENTS = 512
"""A prepared statement is kept until so many were run, the same ones counted again: apsw counts uses, so with its
100 a statement for one command in ten is often prepared anew. A few KiB each; there are not so many."""

LEAST_ROOM_OCTETS = 256 * 1024
"""On a disk: with less, SQLite cannot even open a file."""

_BEFORE = {("account", 6): sort_keys.renew}
"""What is done before a script; it knows how far it came, for it may be interrupted."""

DAMAGED_CODE = "CORRUPTION"
"""What clients of a damaged file are told (RFC 5530 §3)."""
_SINGLE = {
    "directory": "",
    "queue": "mail that waited in it, for other hosts or for mail files that took none",
    "logins": "the history of logins",
}
"""The files that no repair makes anew, and what goes with one that the server makes anew; "": too much."""
_DAMAGED = (apsw.CorruptError, apsw.NotADBError)
_WITHOUT_ROOM = (apsw.CantOpenError, apsw.IOError)
"""What SQLite says, too, where it has no room for the files beside one."""
_ERRORS_OF_THE_DISK = (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError)


class Missing(Unavailable):
    """An account's file is not there, though the account is, and it was made (`made`), or the journal has mail for it.
    A file is on the disk under its name before anything is taken for it, so it was lost: a new one would hide that, and
    all that it had."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            "the mail file is missing; ask the administrator",
            DAMAGED_CODE,
            f"{path} is missing",
        )
        self.account = int(path.stem, 16)


class Replaced(Unavailable):
    """An account's file is another than the one that this process used before: what the journal has of what was put
    into that one, the next start puts in here."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            "the mail file was replaced; ask the administrator",
            "UNAVAILABLE",
            f"{path} is not the file that was in use: somebody replaced it while the server runs; restart the server,"
            " which puts into it what the journal has",
        )


def connect(
    path: Path,
    *,
    vfs: str | None = None,
    cache_kib: int = 512,
    timeout_ms: int = BUSY_TIMEOUT_MS,
) -> apsw.Connection:
    """Open an existing file in WAL mode at synchronous NORMAL. Raises Unavailable."""
    try:
        _ensure_not_empty(path)
        connection = apsw.Connection(
            str(path),
            flags=apsw.SQLITE_OPEN_READWRITE,
            vfs=vfs,
            statementcachesize=KEPT_STATEMENTS,
        )
        connection.set_busy_timeout(timeout_ms)
        keep_plans(connection)
        _set(connection, "journal_mode", "wal")
        _set(connection, "synchronous", 1, give="NORMAL")
        connection.pragma("cache_size", -cache_kib)
        connection.pragma("temp_store", "MEMORY")
        connection.pragma("trusted_schema", "OFF")
        # Only the cleanest transactions: no checkpoint on commit, the committer does it in a thread.
        connection.wal_autocheckpoint(0)
        connection.pragma("journal_size_limit", 4 << 20)
    except apsw.Error as error:
        raise unavailable(error, path) from error
    return connection


def keep_plans(connection: apsw.Connection) -> None:
    """Prepare a statement once: else SQLite does it again for each new value that its plan might depend on, such as a
    bound of BETWEEN or a LIMIT, which takes several times as long as to read a few rows."""
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def bound_caches(octets: int) -> None:
    """What SQLite keeps in memory for all files of this process stays near so many octets: beyond, a file that needs
    a page gives up another of its own."""
    apsw.soft_heap_limit(octets)


def octets_in_memory() -> int:
    """What SQLite has in memory now for all files of this process: nearly all of it pages of files that are open."""
    return apsw.memory_used()


def open_to_read(path: Path) -> apsw.Connection:
    """A connection that changes nothing, in a thread or another program; on a read-only disk too, where all that was
    written is in the file itself. A write-ahead log that is there stays, and is not put into the file. Raises
    apsw.Error."""
    _ensure_not_empty(path)
    has_log = Path(f"{path}-wal").exists()
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    # Without a log, the close takes away the files that the opening made.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(has_log))
    try:
        connection.execute("SELECT name FROM sqlite_schema LIMIT 1").fetchall()
    except apsw.CantOpenError:
        # WAL mode wants to write a file beside it.
        connection.close()
        if not os.statvfs(path).f_flag & os.ST_RDONLY or _has_octets(Path(f"{path}-wal")):
            raise
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        connection = apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=flags)
    except BaseException:
        connection.close()
        raise
    connection.pragma("query_only", "ON")
    return connection


def _has_room(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return True  # that is not what is wrong
    return found.f_bavail * found.f_frsize >= LEAST_ROOM_OCTETS


def _ensure_not_empty(path: Path) -> None:
    """A file gets its name once it is whole (`create`), so one without an octet has lost all that it had; SQLite would
    take it for a new one. Raises apsw.NotADBError."""
    if is_empty(path):
        raise apsw.NotADBError("the file is empty")


def is_empty(path: Path) -> bool:
    """Whether a file is there without an octet."""
    return path.exists() and path.stat().st_size == 0


def _has_octets(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def set_synchronous(connection: apsw.Connection, level: str) -> None:
    """FULL or NORMAL for the transactions that follow; not inside one."""
    connection.pragma("synchronous", level)


def _set(connection: apsw.Connection, name: str, value: int | str, give: str | None = None) -> None:
    connection.pragma(name, give if give is not None else value)
    if connection.pragma(name) != value:
        raise apsw.SQLError(f"the setting {name} does not hold")


def unavailable(error: apsw.Error, path: Path | None = None) -> Unavailable:
    """What a client may be told of an error of the database, and what the administrator."""
    told = _why_not(path, error) if path is not None else ""
    if isinstance(error, apsw.FullError) or (
        isinstance(error, _WITHOUT_ROOM) and path is not None and not _has_room(path.parent)
    ):
        return DiskFull(told)
    if isinstance(error, _DAMAGED):
        return Unavailable("the mail file is damaged; ask the administrator", DAMAGED_CODE, told)
    if isinstance(error, apsw.BusyError):
        return Unavailable("the mail file is busy; try again", "UNAVAILABLE", told)
    return Unavailable("the mail file cannot be used now", "UNAVAILABLE", told)


def is_damage(error: BaseException) -> bool:
    """Whether the file is no database any more, or not all of it."""
    return isinstance(error, _DAMAGED)


def is_disk_error(error: BaseException) -> bool:
    """Whether the disk, not the unit of work, made a transaction fail."""
    return isinstance(error, _ERRORS_OF_THE_DISK)


def migrate(connection: apsw.Connection, kind: str) -> None:
    """Run the scripts `schema/KIND-NNNN.sql` above the file's version, each in a transaction of its own.

    Raises Unavailable when the file was made by a newer version of Pillarbox.
    """
    scripts = schema_scripts(kind)
    version = connection.pragma("user_version")
    if not isinstance(version, int) or version > len(scripts):
        raise Unavailable(f"this {kind} file was made by a newer version of Pillarbox")
    for number in range(version + 1, len(scripts) + 1):
        if before := _BEFORE.get((kind, number)):
            before(connection)
        with connection:
            for _ in connection.execute(scripts[number - 1]):
                pass
            connection.pragma("user_version", number)


def is_current(connection: apsw.Connection, kind: str) -> bool:
    """Whether a file has the newest schema."""
    return bool(connection.pragma("user_version") == len(schema_scripts(kind)))


@cache
def schema_scripts(kind: str) -> list[str]:
    """The texts of `schema/KIND-0001.sql`, `KIND-0002.sql`, ... in order."""
    folder = resources.files("pillarbox.store") / "schema"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.startswith(f"{kind}-"))
    return [(folder / name).read_text("utf-8") for name in names]


def create(path: Path, kind: str, *, vfs: str | None = None) -> None:
    """Make a new file with the newest schema, in WAL mode, wholly on the disk under its name or not at all."""
    unfinished = path.with_name(path.name + ".new")
    for leftover in (unfinished, Path(f"{unfinished}-wal"), Path(f"{unfinished}-shm")):
        leftover.unlink(missing_ok=True)
    try:
        connection = apsw.Connection(str(unfinished), vfs=vfs)
        try:
            connection.pragma("page_size", 4096)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "FULL")
            migrate(connection, kind)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
        os.chmod(unfinished, 0o600)
        sync_file(unfinished)
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except apsw.Error as error:
        raise unavailable(error, path) from error


def create_copy(path: Path, octets: bytes) -> None:
    """Make a new file from the octets of an empty one, wholly on the disk under its name or not at all.

    Raises OSError.
    """
    unfinished = path.with_name(path.name + ".new")
    with os.fdopen(open_new(unfinished), "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    sync_folder(path.parent)


def open_single(path: Path, kind: str, *, vfs: str | None = None) -> apsw.Connection:
    """Open, make or migrate one of the files that there is one of (directory, queue, run), at FULL.

    Raises Unavailable with the path: no peer is told of it.
    """
    try:
        if not path.exists():
            create(path, kind, vfs=vfs)
        connection = connect(path, vfs=vfs)
        migrate(connection, kind)
    except Unavailable as error:
        raise Unavailable(_named(path, error), error.code) from error
    except apsw.Error as error:  # of the scripts
        raise Unavailable(f"{path} cannot be used: {error}") from error
    set_synchronous(connection, FULL)
    connection.wal_autocheckpoint(1000)
    return connection


def _named(path: Path, error: Unavailable) -> str:
    return error.told if isinstance(error.__cause__, apsw.Error) else f"{path}: {error.text}"


def _why_not(path: Path, cause: apsw.Error) -> str:
    """What keeps a file from being used, and what to do."""
    if isinstance(cause, _DAMAGED):
        if path.stem in _SINGLE:
            return f"{path} is damaged; {how_to_replace(path)} (SQLite: {cause})"
        return f"{path} is damaged; see: pillarbox check (SQLite: {cause})"
    if isinstance(cause, apsw.BusyError):
        return f"{path} is busy: another program has it for long"
    folder = path.parent
    if folder.exists():
        if isinstance(cause, apsw.FullError) or not _has_room(folder):
            return f"{path}: the disk is full: make room where {folder} is"
        try:
            ensure_writable(folder)
        except Unavailable as failure:
            return f"{path} cannot be used now: {failure.text}"
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), path.with_suffix(".lock")):
        if why := why_no_file(name):
            return why
    return f"{path} cannot be used now: {cause}"


def why_no_file(path: Path) -> str:
    """What keeps a file that is there from being used, and what to do; "" for nothing."""
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to nothing: see what put it there, and remove it"
    if path.is_dir():
        return f"{path} is a folder, and should be a file: see what put it there, and move it away"
    if (
        path.exists()
        and not os.access(path, os.R_OK | os.W_OK, effective_ids=True)
        and not os.statvfs(path).f_flag & os.ST_RDONLY  # that is no fault of the file
    ):
        us = user_name(os.geteuid())
        return (
            f"{path}: {us} may not read and write it; run: chown {us}: {path} && chmod 600 {path}"
        )
    return ""


def how_to_replace(path: Path) -> str:
    """What to do where one of the files is damaged that there is one of."""
    lost = _SINGLE[path.stem]
    if not lost:
        return (
            f"stop the server, move {path.name} away, with {path.name}-wal and {path.name}-shm if they are there, and"
            f" put that of a backup there: cp -p BACKUP/data/{path.name} {path}"
        )
    return (
        f"stop the server and move {path.name} away, with {path.name}-wal and {path.name}-shm if they are there:"
        f" it makes a new one, and all that is lost is {lost}"
    )


def ensure_writable(folder: Path) -> None:
    """Raises Unavailable with what to do where no file can be made or removed in a folder that is there."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise Unavailable(f"the disk of {folder} is read-only; mount it read-write")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        owner, us = user_name(folder.stat().st_uid), user_name(os.geteuid())
        deed = f"chmod u+rwx {folder}" if owner == us else f"chown -R {us}: {folder}"
        raise Unavailable(
            f"{us} may not write into {folder}, which belongs to {owner}; run: {deed}"
        )


def user_name(uid: int) -> str:
    """As the machine calls a user; the number of one that it does not know."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def sync_file(path: Path) -> None:
    """fsync a file by its name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """fsync a folder, so that a name made or removed in it stays so."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
