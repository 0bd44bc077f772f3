"""The views of an account's file that people may query (docs/schema.md), and nothing else of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from pillarbox.core.errors import Refused
from pillarbox.store import database

VIEWS = ("mailboxes", "messages", "headers", "history")

_ALLOWED = frozenset((apsw.SQLITE_SELECT, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE))

_STEPS = 100_000
"""Of SQLite's virtual machine between two looks whether the user has had enough: some milliseconds."""


@contextmanager
def query(path: Path, sql: str) -> Iterator[tuple[list[str], Iterator[tuple[Any, ...]]]]:
    """The names of the columns, and the rows (also none), read as they are asked for, of one moment. Raises Refused for
    what is no single query of the views, also while rows are read; Unavailable. Ctrl-C ends it."""
    columns: list[str] = []

    def note_columns(cursor: apsw.Cursor, _text: str, _values: object) -> bool:
        """Of each statement before its first row, for without one the cursor forgets them. Comments have none."""
        found = [column[0] for column in cursor.get_description()]
        if found and columns:
            raise Refused("that is more than one SELECT: ask one at a time")
        columns.extend(found)
        return True

    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error as error:
        raise database.unavailable(error, path) from error
    try:
        connection.set_busy_timeout(database.BUSY_TIMEOUT_MS)
        for view in VIEWS:  # so that the schema is read before it is barred
            connection.execute(f"SELECT 1 FROM {view} LIMIT 0").fetchall()
        connection.authorizer = _authorize
        connection.set_progress_handler(lambda: False, _STEPS)  # runs Python's signal handlers
        cursor = connection.cursor()
        cursor.exec_trace = note_columns
        cursor.execute(sql)
        if not columns:
            raise Refused("that asks for nothing: write SELECT ... FROM messages or another view")
        yield columns, cursor
    except apsw.AuthError as error:
        raise Refused(f"only SELECT from the views {', '.join(VIEWS)} is possible") from error
    except (apsw.SQLError, apsw.TooBigError, apsw.BindingsError) as error:
        views = f"; the views are {', '.join(VIEWS)}" if "no such table" in str(error) else ""
        raise Refused(f"SQL: {error}{views}") from error
    except apsw.Error as error:
        raise database.unavailable(error, path) from error
    finally:
        connection.close(True)


def _authorize(
    operation: int, name: str | None, column: str | None, _database: str | None, by: str | None
) -> int:
    """The tables may be read by the views: `by` says whose text it is. Without a column, rows are only counted, which
    also a view does whose columns are not needed."""
    if operation in _ALLOWED:
        return apsw.SQLITE_OK
    if operation == apsw.SQLITE_READ and (name in VIEWS or by in VIEWS or not column):
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY
