"""Finding what was recorded: in the files of all workers, whether they run or not.

There is no index: the lines of a row are searched as they are, in C, and only those that hold a text are decoded. Rows
from before a time are not read.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec

from pillarbox.trace.events import AnyEvent, Line
from pillarbox.trace.file import BUSY_TIMEOUT_MS, VERSION

_FILE = re.compile(r"trace-[0-9]+\.db")

_INTRODUCTIONS = (b'["session","', b'["login","', b'["identified","')

_decode = msgspec.json.Decoder(Line).decode


@dataclass(slots=True, frozen=True)
class Entry:
    """Something that happened."""

    at: int
    """Microseconds since 1970."""
    event: AnyEvent
    run: str
    """Of which worker, in which run: ids of connections are unique there."""

    @property
    def connection(self) -> tuple[str, str]:
        """The run and the id; the id is "" where there was no connection."""
        return self.run, getattr(self.event, "connection", "")


@dataclass(slots=True)
class TraceReader:
    """Reads the files of a data folder. Blocks; `close` it."""

    data_dir: Path
    problems: list[str] = field(default_factory=list)
    """Files that could not be read, each once."""
    _open: dict[Path, apsw.Connection] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        found = self.data_dir.glob("trace-*.db")
        return sorted(path for path in found if _FILE.fullmatch(path.name))

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def find(self, texts: Sequence[str], *, whole: bool = False, since: int = 0) -> list[Entry]:
        """All lines that hold one of the texts, in order of time: ASCII letters in any case, but `whole` (as a whole
        value) just as they are. Nothing from before `since`, in microseconds since 1970."""
        found: list[Entry] = []
        for entries in self._search(texts, whole=whole, since=since):
            found += entries
        found.sort(key=lambda entry: entry.at)
        return found

    def latest(self, text: str, *, since: int = 0) -> Iterator[Entry]:
        """Lines that hold a text, letters in any case, about from the latest to the first: for those who stop early."""
        for entries in self._search([text], whole=False, since=since):
            yield from reversed(entries)

    def introductions(
        self, connections: Collection[tuple[str, str]], *, since: int = 0
    ) -> list[Entry]:
        """What was said of who is on connections (runs and ids), in order of time: for any number of them."""
        found: list[Entry] = []
        for run, lines in self._rows(since) if connections else ():
            wanted = [
                line
                for line in lines_with(lines, lines, _INTRODUCTIONS)
                if (run, _connection_of(line)) in connections
            ]
            found += _entries(run, wanted, 0)
        found.sort(key=lambda entry: entry.at)
        return found

    def _search(self, texts: Sequence[str], *, whole: bool, since: int) -> Iterator[list[Entry]]:
        needles = [needle_of(text, whole=whole) for text in dict.fromkeys(texts) if text]
        for run, lines in self._rows(since) if needles else ():
            found = lines_with(lines, lines if whole else lines.lower(), needles)
            if found:
                yield _entries(run, found, since)

    def _rows(self, since: int) -> Iterator[tuple[str, bytes]]:
        """(run, lines) of all rows, the latest first."""
        rows: list[tuple[int, Path, int, int]] = []
        for path in self.paths:
            sql = "SELECT last, id, run FROM batch WHERE last >= ?"
            rows += [(last, path, *more) for last, *more in self._ask(path, sql, since)]
        rows.sort(key=lambda row: row[0], reverse=True)
        for _, path, number, run in rows:
            for (lines,) in self._ask(path, "SELECT lines FROM batch WHERE id = ?", number):
                yield f"{path.stem}/{run}", lines

    def _ask(self, path: Path, sql: str, value: int) -> list[Any]:
        """Nothing where the file cannot be read."""
        try:
            connection = self._open.get(path)
            if connection is None:
                connection = self._open[path] = _connect(path)
            return connection.execute(sql, (value,)).fetchall()
        except (apsw.Error, OSError) as error:
            problem = f"{path} cannot be read: {error}"
            if problem not in self.problems:
                self.problems.append(problem)
            return []


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        if connection.pragma("user_version") != VERSION:
            raise apsw.SchemaChangeError("it is of another version of Pillarbox")
        connection.pragma("query_only", "ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _entries(run: str, lines: Sequence[bytes], since: int) -> list[Entry]:
    found = []
    for line in lines:
        try:
            at, event = _decode(line)
        except msgspec.MsgspecError:
            continue  # of a later version, or damaged
        if at >= since:
            found.append(Entry(at, event, run))
    return found


def _connection_of(line: bytes) -> str:
    """Of an introduction: the second value of the event."""
    return line.split(b'"', 4)[3].decode("utf-8", "replace")


def needle_of(text: str, *, whole: bool = False) -> bytes:
    """A text as it stands in the lines; in lower case, unless it is `whole`: with nothing before and behind it."""
    octets = msgspec.json.encode(text.encode("utf-8", "replace").decode())
    return octets if whole else octets[1:-1].lower()


def lines_with(lines: bytes, folded: bytes, needles: Sequence[bytes]) -> list[bytes]:
    """The lines that hold one of the needles, in order; each once. It is looked for in `folded`, which may be the lines
    in lower case.

    Example: (b"one\ntwo\nNONE", b"one\ntwo\nnone", [b"on"]) -> [b"one", b"NONE"].
    """
    starts: dict[int, int] = {}
    for needle in needles:
        at = folded.find(needle)
        while at >= 0:
            start = lines.rfind(b"\n", 0, at) + 1
            end = lines.find(b"\n", at)
            if end < 0:
                end = len(lines)
            starts[start] = end
            at = folded.find(needle, end + 1)
    return [lines[start:end] for start, end in sorted(starts.items())]
