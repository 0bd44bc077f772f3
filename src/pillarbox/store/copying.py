"""Copies of single SQLite files, whoever uses them meanwhile; of damaged ones, too. Nothing is changed in what is
copied."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from pillarbox.store import database

_PAGES = 1024


def copy_database(source: Path, target: Path, advance: Callable[[int], None]) -> None:
    """Copy a file as it is at one moment, whoever uses it; `advance` hears of octets. Not synced. Raises apsw.Error."""
    connection = database.open_to_read(source)
    try:
        # Within a read transaction no step sees what comes later, so the copy never begins again.
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        page_octets = connection.pragma("page_size")
        assert isinstance(page_octets, int)
        copy = apsw.Connection(str(target))
        try:
            copy.pragma("journal_mode", "OFF")
            copy.pragma("synchronous", "OFF")
            with copy.backup("main", connection, "main") as steps:
                while not steps.done:
                    before = steps.remaining
                    steps.step(_PAGES)
                    advance(page_octets * (_PAGES if not before else before - steps.remaining))
        finally:
            copy.close()
    finally:
        connection.close()


def find_damage(path: Path) -> str:
    """The first thing that SQLite finds wrong with a file, or ""."""
    try:
        connection = database.open_to_read(path)
        try:
            row = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except (apsw.CorruptError, apsw.NotADBError) as error:
        return str(error)
    return "" if row == ("ok",) else str(row[0] if row else "no answer").splitlines()[-1]


def copy_as_it_stands(source: Path, target: Path) -> None:
    """Copy a file that SQLite cannot read whole, octet for octet, with its write-ahead log. Not synced. Raises
    OSError."""
    with _checkpoints_barred(source):
        shutil.copyfile(source, target)
        # In this order: what a server has put into the file meanwhile is in the log as well.
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{source}-wal", f"{target}-wal")


@contextmanager
def _checkpoints_barred(path: Path) -> Iterator[None]:
    """A reader keeps the log from being begun anew. Where the file is damaged so much that there can be none, no server
    writes it either."""
    if database.is_empty(path):  # SQLite would take it for a new one, and delete its log
        yield
        return
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        with suppress(apsw.Error):
            connection.execute("BEGIN")
            connection.pragma("schema_version")  # needs the first page, and none of the tables
        yield
    finally:
        connection.close()
