"""Whether a data folder has nothing to lose. A server that was started in an empty one, or a command, leaves files
there which must not keep a whole restore out. Nothing of it is removed: what is there moves to `aside/`.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from pillarbox.core.errors import Failure
from pillarbox.store import database, journal
from pillarbox.store.journal import ASIDE
from pillarbox.store.place import REPLACING, UNFINISHED, own

STAYING = frozenset({"lock", ASIDE, "lost+found"})
"""What stays in its place."""

_LEFT = re.compile(
    r"(directory|queue|logins|run|trace-\d+)\.db(-wal|-shm)?|queue\.lock|control|watch-\d+|(doctor|canary)\.json"
    rf"|tls|journal|{re.escape(UNFINISHED)}"
)
"""What is no mail, or is looked into."""

_MAIL = ("accounts", "spool", "drop", REPLACING)
"""Folders that have files only where there is mail."""

_ROWS = {
    "directory.db": (
        ("domain", "domains in directory.db"),
        ("account", "accounts in directory.db"),
    ),
    "queue.db": (
        ("queued_message", "mail in the queue"),
        ("outgoing_message", "mail to other hosts"),
    ),
}
"""File: (table, what it has)."""


def find_content(data_dir: Path) -> Iterator[str]:
    """What there is to lose, in words. Blocks. Raises OSError."""
    for name in sorted(os.listdir(data_dir)):
        path = data_dir / name
        if name in STAYING:
            continue
        if name in _MAIL:
            if any(names for _, _, names in os.walk(path)):
                yield f"files in {name}/"
        elif not _LEFT.fullmatch(name):
            yield name
        elif name in _ROWS:
            yield from _rows(path)
        elif name == "journal":
            contents = map(journal.read_file, journal.segments(path))
            if any(each.records or each.lost_octets for each in contents):
                yield "mail in journal"


def _rows(path: Path) -> Iterator[str]:
    if database.is_empty(path):
        return
    try:
        connection = database.open_to_read(path)
        try:
            for table, what in _ROWS[path.name]:
                if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall():
                    yield what
        finally:
            connection.close()
    except (apsw.Error, Failure):
        yield f"{path.name}, which cannot be read"


def vacate(data_dir: Path) -> None:
    """Move all that is there to a folder in `aside/`. The lock of the folder is held by the caller. Blocks. Raises
    OSError."""
    names = set(os.listdir(data_dir)) - STAYING
    if not names:
        return
    folder = data_dir / ASIDE / f"before-restore-{time.time_ns()}"
    folder.mkdir(mode=0o700, parents=True)
    for name in names:
        os.rename(data_dir / name, folder / name)
    own(folder.parent, data_dir)
    own(folder, data_dir)
