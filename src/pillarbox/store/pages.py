"""The rows of an SQLite file, read from its pages and not through its b-trees, some of which are damaged.

Names as in SQLite's "Database File Format" (https://www.sqlite.org/fileformat2.html). A row is taken only if its cell
is whole: the record's header says exactly as many octets as the cell, and its overflow pages are a chain of exactly
that length. What SQLite freed is left out: cells in the free space of a page always, pages of the freelist as far as
that can be read. Whatever octets a file has: nothing is raised for them, time grows with the file, and memory with its
largest row. The write-ahead log is not looked at, and tables are not told apart: `store.strays` does that.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType

INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE = 0x02, 0x05, 0x0A, 0x0D
"""Kinds of b-tree pages. "Index" are WITHOUT ROWID tables, too; those have rows in interior pages as well."""

MOST_COLUMNS = 16
"""Of a row that is looked for."""

_MAGIC = b"SQLite format 3\0"
_DEFAULT_OCTETS = 4096
_READ_OCTETS = 1 << 20
_LOCKED_OCTET = 1 << 30
"""The page with this octet is never used."""

_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Of values, by serial type, up to 9; 10 and 11 are not in files."""

Value = None | int | float | bytes | str


@dataclass(frozen=True, slots=True)
class Cell:
    """A row as it stands in its page."""

    page: int
    rowid: int | None
    """None: of a table or index without rowids."""
    types: tuple[int, ...]
    """The serial type of each column."""
    shape: str
    """A letter for each column: n NULL, i integer, f float, b BLOB, t text."""
    size: int
    """Octets of the record."""
    start: int
    """Where its values begin."""
    local: bytes
    """The part of the record that is in this page."""
    overflow: int
    """The page with the next part, 0 for none."""


@dataclass(slots=True)
class Marks:
    """Pages of a file."""

    octets: bytearray

    def add(self, page: int) -> bool:
        """False: it was there, or the file has no such page."""
        if page in self or not 2 <= page < len(self.octets):
            return False
        self.octets[page] = 1
        return True

    def __contains__(self, page: int) -> bool:
        return 0 <= page < len(self.octets) and self.octets[page] == 1


@dataclass(slots=True)
class Pages:
    """An SQLite file, open. Blocks; raises OSError."""

    path: Path
    has_own_header: bool = True
    """Else the first page was put there in place of a lost one: nobody knows where the freelist is."""
    count: int = 0
    page_octets: int = _DEFAULT_OCTETS
    usable: int = _DEFAULT_OCTETS
    free: Marks = field(init=False)
    is_free_known: bool = False
    """The freelist was read whole: every other page is in use."""
    _file: FileIO = field(init=False)
    _claimed: Marks = field(init=False)
    """Overflow pages of rows that were read: each belongs to one row."""

    def __enter__(self) -> "Pages":
        self._file = FileIO(self.path)
        header = self._file.read(100)
        size = self.path.stat().st_size
        is_whole = len(header) == 100 and header.startswith(_MAGIC)
        if is_whole:
            octets = int.from_bytes(header[16:18], "big")
            octets = 65536 if octets == 1 else octets
            is_whole = octets in (1 << bits for bits in range(9, 17)) and octets - header[20] >= 480
        if is_whole:
            self.page_octets, self.usable = octets, octets - header[20]
        self.count = size // self.page_octets
        said = int.from_bytes(header[28:32], "big")
        if is_whole and header[24:28] == header[92:96] and 0 < said < self.count:
            self.count = said  # what is behind it was cut off
        self.free, self._claimed = (Marks(bytearray(self.count + 1)) for _ in range(2))
        trunk, free = (int.from_bytes(header[at : at + 4], "big") for at in (32, 36))
        self.is_free_known = is_whole and self.has_own_header and self._read_freelist(trunk, free)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _read_freelist(self, trunk: int, count: int) -> bool:
        """Whether it is what the header says."""
        found = 0
        while trunk:
            if not self.free.add(trunk):
                return False
            page = self._page(trunk)
            if len(page) < self.usable:
                return False
            trunk, leaves = struct.unpack(">II", page[:8])
            found += 1 + leaves
            if leaves > self.usable // 4 - 2 or found > count:
                return False
            for leaf in struct.unpack(f">{leaves}I", page[8 : 8 + 4 * leaves]):
                if not self.free.add(leaf):
                    return False
        return found == count

    def _page(self, number: int) -> bytes:
        """All that is used of it."""
        self._file.seek((number - 1) * self.page_octets)
        return self._file.read(self.usable)

    def cells(self, *kinds: int) -> Iterator[Cell]:
        """The rows in all pages of these kinds that are not known to be free, the first page apart. A row may be there
        twice if the freelist is not known."""
        at_once = max(1, _READ_OCTETS // self.page_octets)
        locked = _LOCKED_OCTET // self.page_octets + 1
        for first in range(1, self.count + 1, at_once):
            self._file.seek((first - 1) * self.page_octets)
            octets = self._file.read(min(at_once, self.count + 1 - first) * self.page_octets)
            for place, kind in enumerate(octets[:: self.page_octets]):
                page = first + place
                if kind in kinds and page not in (1, locked) and page not in self.free:
                    start = place * self.page_octets
                    yield from cells_of(octets[start : start + self.usable], page)

    def reachable(self, roots: list[int]) -> Marks:
        """The pages of the b-trees with these roots to which undamaged pages lead; no overflow pages."""
        found = Marks(bytearray(self.count + 1))
        waiting = list(roots)
        while waiting:
            number = waiting.pop()
            if found.add(number):
                waiting += _children(self._page(number))
        return found

    def values(self, cell: Cell) -> tuple[Value, ...] | None:
        """Of all columns. None: not all of the row is there any more. Asked once for each row."""
        parts, left, page = [cell.local], cell.size - len(cell.local), cell.overflow
        if left > self.count * self.usable:
            return None
        while left > 0:
            if page in self.free or not self._claimed.add(page):
                return None
            octets = self._page(page)
            if len(octets) < self.usable:
                return None
            page = int.from_bytes(octets[:4], "big")
            parts.append(octets[4 : 4 + left])
            left -= self.usable - 4
        if page:
            return None
        try:
            return tuple(_decoded(b"".join(parts), cell.start, cell.types))
        except UnicodeDecodeError:
            return None


def cells_of(page: bytes, number: int = 0) -> Iterator[Cell]:
    """The whole cells of a page that has rows, given without its reserved octets; of cells that overlap, the first."""
    head = 12 if page[0] == INTERIOR_INDEX else 8
    end = head + 2 * int.from_bytes(page[3:5], "big")
    if end > len(page):
        return
    for place in sorted(struct.unpack(f">{(end - head) // 2}H", page[head:end])):
        if place >= end:
            try:
                cell, end_of_cell = _cell(page, place, number)
            except IndexError:  # it goes beyond the page
                continue
            if cell is not None:
                end = end_of_cell
                yield cell


def _cell(page: bytes, place: int, number: int) -> tuple[Cell | None, int]:
    """The cell at a place, and where it ends. Raises IndexError."""
    kind, rowid = page[0], None
    if kind == INTERIOR_INDEX:
        place += 4  # the left child
    size, place = _varint(page, place)
    if kind == LEAF_TABLE:
        rowid, place = _varint(page, place)
        rowid -= (rowid >> 63) << 64
    own = _local(size, len(page), kind)
    end, overflow = place + own, 0
    if own < size:
        overflow, end = int.from_bytes(page[end : end + 4], "big"), end + 4
    if end > len(page) or (own < size and not overflow):
        return None, 0
    start, at = _varint(page, place)
    types: list[int] = []
    said = start
    while at - place < start <= own and said <= size and len(types) < MOST_COLUMNS:
        each, at = _varint(page, at)
        types.append(each)
        if each in (10, 11):
            return None, 0
        said += _size(each)
    if at - place != start or said != size:
        return None, 0
    shape = "".join(map(_letter, types))
    local = page[place : place + own]
    return Cell(number, rowid, tuple(types), shape, size, start, local, overflow), end


def _local(size: int, usable: int, kind: int) -> int:
    """How many octets of a record are in its b-tree page."""
    most = usable - 35 if kind == LEAF_TABLE else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (usable - 4)
    return wanted if wanted <= most else least


def _varint(octets: bytes, place: int) -> tuple[int, int]:
    """An unsigned number of at most 9 octets, and the place behind it. Raises IndexError."""
    value = octets[place]
    if value < 128:
        return value, place + 1
    value &= 127
    for at in range(place + 1, place + 8):
        octet = octets[at]
        value = value << 7 | octet & 127
        if octet < 128:
            return value, at + 1
    return value << 8 | octets[place + 8], place + 9


def _size(serial_type: int) -> int:
    return (serial_type - 12) >> 1 if serial_type > 11 else _SIZES[serial_type]


def _letter(serial_type: int) -> str:
    return "bt"[serial_type & 1] if serial_type > 11 else "niiiiiifii"[serial_type]


def _decoded(record: bytes, place: int, types: tuple[int, ...]) -> Iterator[Value]:
    """Raises UnicodeDecodeError."""
    for serial_type in types:
        octets = record[place : place + _size(serial_type)]
        place += len(octets)
        if serial_type > 11:
            yield octets.decode() if serial_type & 1 else octets
        elif serial_type in (0, 8, 9):
            yield (None, 0, 1)[max(0, serial_type - 7)]
        elif serial_type == 7:
            yield struct.unpack(">d", octets)[0]
        else:
            yield int.from_bytes(octets, "big", signed=True)


def _children(page: bytes) -> Iterator[int]:
    if not page or page[0] not in (INTERIOR_INDEX, INTERIOR_TABLE):
        return
    end = 12 + 2 * int.from_bytes(page[3:5], "big")
    if end <= len(page):
        yield int.from_bytes(page[8:12], "big")
        for place in struct.unpack(f">{(end - 12) // 2}H", page[12:end]):
            yield int.from_bytes(page[place : place + 4], "big")
