"""Rows read from the pages of files that SQLite made."""

import os
from pathlib import Path

import apsw
import pytest

from pillarbox.store.pages import (
    INTERIOR_INDEX,
    LEAF_INDEX,
    LEAF_TABLE,
    Pages,
    Value,
    cells_of,
)

SIZES = (512, 1024, 4096, 65536)

VALUES: tuple[Value, ...] = (
    *(None, 0, 1, -1, 127, -128, 128, 1 << 15, -(1 << 15) - 1, 1 << 23, 1 << 31, -(1 << 40)),
    *(1 << 47, (1 << 63) - 1, -(1 << 63), 0.5, b"", "", "\u00e9", b"\0" * 57, "x" * 58),
)


def write(path: Path, page_octets: int, *statements: str) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.pragma("page_size", page_octets)
    connection.pragma("synchronous", "OFF")
    connection.pragma("journal_mode", "MEMORY")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, value, other)")
    connection.execute(
        "CREATE TABLE keyed (value, number, other, PRIMARY KEY (number)) WITHOUT ROWID"
    )
    for statement in statements:
        connection.execute(statement)
    return connection


def fill(connection: apsw.Connection) -> dict[int, tuple[Value, Value]]:
    """Rows of all sizes around those at which SQLite begins another overflow page."""
    rows = dict(enumerate(((value, "short") for value in VALUES), 1))
    for size in (*range(20, 500, 7), 4060, 4061, 4062, 4063, 4090, 70_000, 200_001):
        rows[len(rows) + 1] = (os.urandom(size), size)
    rows[-5] = ("negative", None)
    rows[1 << 40] = ("far", 1.5)
    with connection:
        for key, (value, other) in rows.items():
            connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (key, value, other))
            connection.execute("INSERT INTO keyed VALUES (?, ?, ?)", (value, key, other))
    return rows


def rows_in(pages: Pages) -> dict[int | None, tuple[Value, Value]]:
    found = {}
    for cell in pages.cells(LEAF_TABLE):
        values = pages.values(cell)
        assert values is not None
        assert cell.rowid not in found
        found[cell.rowid] = (values[1], values[2])
    return found


@pytest.mark.parametrize("octets", SIZES)
def test_all_rows_are_found_whatever_their_size(tmp_path: Path, octets: int) -> None:
    connection = write(tmp_path / "db", octets)
    rows = fill(connection)
    connection.close()
    with Pages(tmp_path / "db") as pages:
        assert pages.page_octets == octets
        assert pages.is_free_known
        assert rows_in(pages) == rows
        keyed: dict[Value, tuple[Value, Value]] = {}
        for cell in pages.cells(LEAF_INDEX, INTERIOR_INDEX):
            number, value, other = pages.values(cell) or (None, None, None)
            assert cell.rowid is None
            keyed[number] = (value, other)
        assert keyed == rows


@pytest.mark.parametrize("octets", SIZES)
def test_shapes_name_the_types_of_columns(tmp_path: Path, octets: int) -> None:
    connection = write(
        tmp_path / "db", octets, "INSERT INTO rows VALUES (7, x'00', 'a'), (8, 0, 1.5)"
    )
    connection.close()
    with Pages(tmp_path / "db") as pages:
        assert {cell.rowid: cell.shape for cell in pages.cells(LEAF_TABLE)} == {7: "nbt", 8: "nif"}


@pytest.mark.parametrize("octets", SIZES)
def test_deleted_rows_stay_deleted(tmp_path: Path, octets: int) -> None:
    connection = write(tmp_path / "db", octets)
    rows = fill(connection)
    many = [(number, os.urandom(300), None) for number in range(1000, 3000)]
    with connection:
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", many)
    connection.execute("DELETE FROM rows WHERE id >= 1000 AND id < 3000 OR id % 3 = 0")
    assert connection.pragma("freelist_count") > 0
    connection.close()
    kept = {key: row for key, row in rows.items() if key % 3}
    with Pages(tmp_path / "db") as pages:
        assert pages.is_free_known
        assert rows_in(pages) == kept
    with Pages(tmp_path / "db", has_own_header=False) as pages:
        assert not pages.is_free_known


def test_a_damaged_freelist_is_not_relied_on(tmp_path: Path) -> None:
    connection = write(tmp_path / "db", 512)
    fill(connection)
    connection.execute("DELETE FROM rows")
    connection.close()
    octets = bytearray((tmp_path / "db").read_bytes())
    first = int.from_bytes(octets[32:36], "big")
    for number, wrong in enumerate((b"\xff" * 8, bytes(8), first.to_bytes(4, "big") * 2)):
        path = tmp_path / str(number)
        octets[(first - 1) * 512 : (first - 1) * 512 + 8] = wrong
        path.write_bytes(octets)
        with Pages(path) as pages:
            assert not pages.is_free_known


def test_a_broken_chain_of_overflow_pages_gives_no_row(tmp_path: Path) -> None:
    connection = write(tmp_path / "db", 512, "INSERT INTO rows VALUES (1, randomblob(5000), 'a')")
    connection.close()
    octets = (tmp_path / "db").read_bytes()
    with Pages(tmp_path / "db") as pages:
        (cell,) = pages.cells(LEAF_TABLE)
        assert pages.values(cell) is not None
        assert pages.values(cell) is None  # these pages are those of a row by now
    at = (cell.overflow - 1) * 512
    for number, wrong in enumerate((0, 1, cell.overflow, 1 << 31)):
        path = tmp_path / str(number)
        path.write_bytes(octets[:at] + wrong.to_bytes(4, "big") + octets[at + 4 :])
        with Pages(path) as pages:
            (cell,) = pages.cells(LEAF_TABLE)
            assert pages.values(cell) is None
    (tmp_path / "cut").write_bytes(octets[: at + 512])
    with Pages(tmp_path / "cut") as pages:
        assert [pages.values(cell) for cell in pages.cells(LEAF_TABLE)] == [None]


def test_pages_behind_the_size_that_the_header_says_are_not_read(tmp_path: Path) -> None:
    connection = write(tmp_path / "db", 512, "INSERT INTO rows VALUES (1, 'x', 'y')")
    connection.close()
    octets = (tmp_path / "db").read_bytes()
    (tmp_path / "db").write_bytes(octets + octets[512:])
    with Pages(tmp_path / "db") as pages:
        assert rows_in(pages) == {1: ("x", "y")}


def test_leaf_pages_are_reached_from_their_root_only_through_whole_pages(tmp_path: Path) -> None:
    connection = write(tmp_path / "db", 512)
    rows = fill(connection)
    (root,) = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'rows'"
    ).fetchone()
    connection.close()
    with Pages(tmp_path / "db") as pages:
        marks = pages.reachable([root])
        assert all(cell.page in marks for cell in pages.cells(LEAF_TABLE))
    with (tmp_path / "db").open("r+b") as file:
        file.seek((root - 1) * 512)
        file.write(bytes(512))
    with Pages(tmp_path / "db") as pages:
        assert not any(cell.page in pages.reachable([root]) for cell in pages.cells(LEAF_TABLE))
        assert rows_in(pages) == rows


def test_a_text_that_is_none_gives_no_row(tmp_path: Path) -> None:
    write(
        tmp_path / "db", 512, "INSERT INTO rows VALUES (1, CAST(x'ff' AS TEXT), ''), (2, 'b', '')"
    ).close()
    with Pages(tmp_path / "db") as pages:
        found = [pages.values(cell) for cell in pages.cells(LEAF_TABLE)]
    assert sorted(map(str, found)) == ["(None, 'b', '')", "None"]


def test_cells_that_overlap_are_no_rows_of_their_own() -> None:
    cell = bytes((3, 9, 2, 1, 42))  # a record of 3 octets, rowid 9, one column: 42
    page = bytearray(512)
    page[0] = LEAF_TABLE
    page[500:505] = cell
    page[3:14] = bytes((0, 3)) + bytes(3) + b"\x01\xf4\x01\xf4\x01\xf5"
    (found,) = cells_of(bytes(page))
    assert (found.rowid, found.types, found.shape) == (9, (1,), "i")
