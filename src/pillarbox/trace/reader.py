"""Finding what was recorded: in the files of all workers, whether they run or not.

There is no index: rows that hold a text are found by SQLite in C, some hundred MB in a second, and only lines that hold
it are decoded.
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

MOST_NEEDLES = 30
"""That SQLite looks for; with more, all rows are looked at."""

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
    """Reads the files of a data folder. Blocks."""

    data_dir: Path
    problems: list[str] = field(default_factory=list)
    """Files that could not be read, each once."""

    @property
    def paths(self) -> list[Path]:
        found = self.data_dir.glob("trace-*.db")
        return sorted(path for path in found if _FILE.fullmatch(path.name))

    def find(self, texts: Sequence[str], *, whole: bool = False, since: int = 0) -> list[Entry]:
        """All lines that hold one of the texts (ASCII letters in any case), in order of time; `whole`: as a whole
        value. Nothing from before `since`, in microseconds since 1970."""
        needles = [needle_of(text, whole=whole) for text in dict.fromkeys(texts) if text]
        found: list[Entry] = []
        for run, lines in self._rows(needles, since):
            found += _entries(run, lines_with(lines, needles), since)
        found.sort(key=lambda entry: entry.at)
        return found

    def introductions(self, connections: Collection[tuple[str, str]]) -> list[Entry]:
        """What was said of who is on connections (runs and ids), in order of time: for any number of them."""
        found: list[Entry] = []
        if not connections:
            return found
        for run, lines in self._rows(_INTRODUCTIONS, 0):
            wanted = [
                line
                for line in lines_with(lines, _INTRODUCTIONS)
                if (run, _connection_of(line)) in connections
            ]
            found += _entries(run, wanted, 0)
        found.sort(key=lambda entry: entry.at)
        return found

    def _rows(self, needles: Sequence[bytes], since: int) -> Iterator[tuple[str, bytes]]:
        """The lines of rows that hold a needle, and their run."""
        for path in self.paths:
            try:
                for run, lines in _rows(path, needles, since):
                    yield f"{path.stem}/{run}", lines
            except (apsw.Error, OSError) as error:
                problem = f"{path} cannot be read: {error}"
                if problem not in self.problems:
                    self.problems.append(problem)


def _entries(run: str, lines: Sequence[bytes], since: int) -> Iterator[Entry]:
    for line in lines:
        try:
            at, event = _decode(line)
        except msgspec.MsgspecError:
            continue  # of a later version, or damaged
        if at >= since:
            yield Entry(at, event, run)


def _connection_of(line: bytes) -> str:
    """Of an introduction: the second value of the event."""
    return line.split(b'"', 4)[3].decode("utf-8", "replace")


def needle_of(text: str, *, whole: bool = False) -> bytes:
    """A text as it stands in the lines, in lower case; `whole`: with nothing before and behind it."""
    octets = msgspec.json.encode(text.encode("utf-8", "replace").decode()).lower()
    return octets if whole else octets[1:-1]


def lines_with(lines: bytes, needles: Sequence[bytes]) -> list[bytes]:
    """The lines that hold one of the needles (in lower case), in order; each once.

    Example: (b"one\\ntwo\\nNONE", [b"on"]) -> [b"one", b"NONE"].
    """
    lower = lines.lower()
    starts: dict[int, int] = {}
    for needle in needles:
        at = lower.find(needle)
        while at >= 0:
            start = lines.rfind(b"\n", 0, at) + 1
            end = lines.find(b"\n", at)
            if end < 0:
                end = len(lines)
            starts[start] = end
            at = lower.find(needle, end + 1)
    return [lines[start:end] for start, end in sorted(starts.items())]


def _rows(path: Path, needles: Sequence[bytes], since: int) -> Iterator[tuple[int, bytes]]:
    """(run, lines) of rows that hold a needle. Raises apsw.Error."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        if connection.pragma("user_version") != VERSION:
            raise apsw.SchemaChangeError("it is of another version of Pillarbox")
        connection.pragma("query_only", "ON")
        sql, bindings = "SELECT run, CAST(lines AS BLOB) FROM batch WHERE last >= ?", [since]
        if len(needles) <= MOST_NEEDLES:
            found = " OR ".join("instr(lower(lines), ?)" for _ in needles)
            sql += f" AND ({found})"
            bindings += [needle.decode() for needle in needles]  # type: ignore[misc]
        rows: Any = connection.execute(sql + " ORDER BY id", bindings)
        yield from rows
    finally:
        connection.close()
