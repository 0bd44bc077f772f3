"""Whatever octets a damaged file has: its pages give rows or none, in time, and only such rows as were written once."""

import tempfile
from functools import cache
from pathlib import Path

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.store.pages import INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE, Pages, cells_of

KINDS = (LEAF_TABLE, LEAF_INDEX, INTERIOR_INDEX)
PAGE = 512


@cache
def whole() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "db"
        connection = apsw.Connection(str(path))
        connection.pragma("page_size", PAGE)
        connection.pragma("synchronous", "OFF")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, value)")
        connection.execute("CREATE TABLE w (id PRIMARY KEY, value) WITHOUT ROWID")
        for number in range(60):
            value = bytes((number,)) * (number * 30)
            connection.execute("INSERT INTO t VALUES (?, ?)", (number, value))
            connection.execute("INSERT INTO w VALUES (?, ?)", (number, value))
        connection.execute("DELETE FROM t WHERE id % 4 = 0")
        connection.close()
        return path.read_bytes()


def read(octets: bytes, *, has_own_header: bool = True) -> int:
    """How many octets of rows were found."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "db"
        path.write_bytes(octets)
        found = 0
        with Pages(path, has_own_header) as pages:
            pages.reachable([2, 3])
            for cell in pages.cells(*KINDS):
                values = pages.values(cell)
                if values is not None:
                    found += sum(len(value) for value in values if isinstance(value, (bytes, str)))
        return found


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(KINDS), st.binary(min_size=11, max_size=PAGE - 1), st.sampled_from((512, 4096))
)
def test_any_octets_are_a_page(kind: int, octets: bytes, size: int) -> None:
    page = bytes((kind,)) + octets + bytes(size - 1 - len(octets))
    cells = list(cells_of(page))
    assert sum(len(cell.local) for cell in cells) <= size


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(whole()) - 1),
            st.one_of(st.binary(min_size=1, max_size=8), st.just(bytes(PAGE))),
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_any_damage_to_a_file_leaves_it_readable(
    damages: list[tuple[int, bytes]], has_own_header: bool
) -> None:
    octets = bytearray(whole())
    for place, wrong in damages:
        octets[place : place + len(wrong)] = wrong
    # Each overflow page belongs to one row at most, so no more comes out than is there.
    assert read(bytes(octets), has_own_header=has_own_header) <= len(octets)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=8 * PAGE))
def test_any_octets_are_a_file(octets: bytes) -> None:
    assert read(octets) <= len(octets)
    assert read(whole()[:100] + octets) <= len(octets) + 100
