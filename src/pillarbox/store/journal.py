"""The redo journal of a worker: appends that were acknowledged but may still be missing from their account files.

Account files are committed without a sync; what makes an append durable is its record here and one fdatasync for all
that waits. Segments are `journal/WORKER-NNNNNN.log`. A segment is removed once every account file that it names is
synced; a clean stop removes all, so a segment found at start means an unclean stop (`recovery`).

A record: a frame, the fixed numbers, the variable texts, header fields put in front, message. The frame has the length
of the rest, how much of the segment was on the disk when it was written, the rest's CRC-32, and a CRC-32 of its own,
which holds at this place of this run's segments only: a copy of a journal in a message is no record. What was taken
and not yet put into its file (`intake`) has a UID of 0, and for a ModSeq its sequence in the run, one process of the
worker.

What does not check is passed over. Mostly it was being written when the power went, and nobody was told of it; if a
later record says that it was on the disk, it is damage (`Contents.lost_octets`).
"""

import logging
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.store.appending import Append, Appended
from pillarbox.store.database import sync_folder
from pillarbox.store.lately import NO_ROOM

SEGMENT_OCTETS = 64 << 20
"""A segment that is this long is followed by a new one."""

ALLOCATION_OCTETS = 8 << 20
"""Room is taken in steps of this, so that a full disk shows before anything was changed."""

ASIDE = "aside"
"""Folder of files that were taken out of use."""
KEPT = "journal-"
"""How the names of damaged segments begin there."""

_FIRST_OCTETS = 4096
"""Of a segment: its first record begins there."""

TOLD_AGAIN_S = 60.0
"""From one line on a journal that cannot be written to the next."""

MOST_PIECES = 1000
"""That one system call writes (Linux: IOV_MAX is 1024)."""

MAGIC = b"pillarbox journal 3\n"

_FRAME = struct.Struct("<4sIIII")
"""_MARK, length of the rest, octets of the segment that were durable before, CRC-32 of the rest, of the frame."""
_MARK = b"\xf7rec"
"""Frames are found by it behind damage."""
_BOUND = struct.Struct("<8sIIII")
"""What the CRC-32 of a frame is of: run, as it stands in the record, place in the segment, and the three before it."""
RUN_OCTETS = 8
"""Of a record, the first."""

_NUMBERS = struct.Struct("<QQIIIQqQIHHI")
# run, account, mailbox, uidvalidity, uid, modseq, internaldate, savedate, flags, then the lengths of
# keywords, delivery key and prefix


log = logging.getLogger("pillarbox.store")

Octets = bytes | memoryview

Framed = tuple[bytes, Octets, int]
"""A record without its frame: all that stands in front of the message, the message, and their CRC-32."""


@dataclass(slots=True)
class Record:
    """One append, with all that was given to it."""

    run: int
    account: int
    mailbox: int
    uidvalidity: int
    uid: int
    modseq: int
    internaldate: int
    savedate: int
    flags: int
    keywords: tuple[bytes, ...]
    delivery_key: str
    prefix: bytes
    octets: bytes


def format_record(run: int, account: int, item: Append, given: Appended, savedate: int) -> Framed:
    """A record. The message in it is not copied."""
    words = b" ".join(item.keywords)
    key = item.delivery_key.encode()
    octets = item.content.octets
    head = b"".join(
        (
            _NUMBERS.pack(
                run,
                account,
                item.mailbox,
                given.uidvalidity,
                given.uid,
                given.modseq,
                item.internaldate,
                savedate,
                item.flags,
                len(words),
                len(key),
                len(item.prefix),
            ),
            words,
            key,
            item.prefix,
        )
    )
    return head, octets, crc32(octets, crc32(head))


def framed_size(record: Framed) -> int:
    """Octets of a record in the journal."""
    return _FRAME.size + len(record[0]) + len(record[1])


def frame(record: Framed, place: int, durable: int) -> bytes:
    """What stands in front of a record that is written at `place` of a segment of which so much is on the disk."""
    head, octets, checksum = record
    length = len(head) + len(octets)
    own = crc32(_BOUND.pack(head[:RUN_OCTETS], place, length, durable, checksum))
    return _FRAME.pack(_MARK, length, durable, checksum, own)


@dataclass(slots=True)
class Contents:
    """What a segment has."""

    records: list[Record]
    lost_octets: int
    """That were on the disk once, and cannot be read or are not there."""


class _Frame(NamedTuple):
    start: int
    length: int
    durable: int
    checksum: int
    run: bytes


def read_segment(octets: bytes) -> Contents:
    """All that checks, and how much there was besides."""
    records: list[Record] = []
    head = octets[: len(MAGIC)]
    damaged = _Damaged()
    is_head_damaged = not MAGIC.startswith(head)
    if is_head_damaged:
        damaged.add(0, len(MAGIC))
    position, run = len(MAGIC), b""
    while (found := _next_frame(octets, position, run)) is not None:
        if found.start > position:
            damaged.add(position, found.start)
        damaged.prove(found.durable)
        run = found.run
        start = found.start + _FRAME.size
        position = start + found.length
        rest = octets[start:position]
        if len(rest) < found.length or crc32(rest) != found.checksum:
            damaged.add(found.start, min(position, len(octets)))
        else:
            records.append(_parse(rest))
    if is_head_damaged and not run and head.strip(b"\0"):  # all of it may have been there
        return Contents([], len(octets.rstrip(b"\0")))
    return Contents(records, damaged.lost_octets)


def read_file(path: Path) -> Contents:
    """The same of a file. Room was made for it before anything was written, so one that has less was cut, and what it
    lacks may have had records; one without any of its own was just being made. Blocks. Raises OSError."""
    octets = path.read_bytes()
    contents = read_segment(octets)
    missing = -len(octets) % ALLOCATION_OCTETS
    if missing and octets.removeprefix(MAGIC).strip(b"\0"):
        contents.lost_octets += missing
    return contents


class _Damaged:
    """Stretches of a segment that do not check."""

    def __init__(self) -> None:
        self._unproven: list[tuple[int, int]] = []
        self.lost_octets = 0

    def add(self, start: int, end: int) -> None:
        self._unproven.append((start, end))

    def prove(self, durable: int) -> None:
        """So much of the segment was on the disk, says a record."""
        while self._unproven and self._unproven[0][0] < durable:
            start, end = self._unproven.pop(0)
            self.lost_octets += end - start


def _next_frame(octets: bytes, position: int, run: bytes) -> _Frame | None:
    """The first frame from a position on that checks; b"" is any run."""
    end = len(octets) - _FRAME.size - RUN_OCTETS
    while 0 <= (start := octets.find(_MARK, position)) <= end:
        _, length, durable, checksum, own = _FRAME.unpack_from(octets, start)
        found = octets[start + _FRAME.size : start + _FRAME.size + RUN_OCTETS]
        bound = _BOUND.pack(found, start, length, durable, checksum)
        if length >= _NUMBERS.size and run in (b"", found) and crc32(bound) == own:
            return _Frame(start, length, durable, checksum, found)
        position = start + 1
    return None


def _parse(rest: bytes) -> Record:
    *numbers, words_size, key_size, prefix_size = _NUMBERS.unpack_from(rest)
    key_start = _NUMBERS.size + words_size
    prefix_start = key_start + key_size
    octets_start = prefix_start + prefix_size
    values: tuple[Any, ...] = (
        *numbers,
        tuple(rest[_NUMBERS.size : key_start].split()),
        rest[key_start:prefix_start].decode(),
        rest[prefix_start:octets_start],
        rest[octets_start:],
    )
    return Record(*values)


class JournalFile(Protocol):
    """What a segment needs of a file; tests have one that loses what was not synced."""

    @property
    def descriptor(self) -> int | None:
        """For those who can have it synced otherwise; None: `sync` is the only way."""

    def allocate(self, size: int) -> None:
        """Take room up to `size` octets. Raises OSError."""

    def write(self, offset: int, pieces: Sequence[Octets]) -> None:
        """One behind the other. Raises OSError."""

    def sync(self) -> None: ...

    def close(self) -> None: ...


class _File:
    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    @property
    def descriptor(self) -> int | None:
        return self._descriptor

    def allocate(self, size: int) -> None:
        present = os.fstat(self._descriptor).st_size
        try:
            os.posix_fallocate(self._descriptor, 0, size)
        except OSError:
            os.ftruncate(self._descriptor, present)  # else it would look like one that was cut
            raise

    def write(self, offset: int, pieces: Sequence[Octets]) -> None:
        for start in range(0, len(pieces), MOST_PIECES):
            part = pieces[start : start + MOST_PIECES]
            written, size = os.pwritev(self._descriptor, part, offset), sum(map(len, part))
            while written < size:  # the disk took less than was asked for
                rest = memoryview(b"".join(part))[written:]
                written += os.pwrite(self._descriptor, rest, offset + written)
            offset += size

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class JournalFiles(Protocol):
    """The folder's files, for a journal."""

    def open(self, path: Path) -> JournalFile:
        """A new file."""

    def remove(self, path: Path) -> None:
        """Durably."""


class RealFiles:
    """Files of the operating system."""

    def open(self, path: Path) -> JournalFile:
        return _File(path)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


@dataclass(slots=True)
class Segment:
    """A segment that is full: which accounts must be synced before it may go."""

    path: Path
    accounts: set[int]
    last_sequence: int = 0
    """The highest that it may have."""


class Journal:
    """The journal of one worker. `reserve`, then `write` (blocks, for a thread)."""

    def __init__(
        self, folder: Path, worker: str, files: JournalFiles, left: Sequence[Path] = ()
    ) -> None:
        """`left` by the start of the server: no other segment gets their names, though they may be gone by now."""
        self._folder = folder
        self.worker = worker
        self.run = int.from_bytes(os.urandom(7), "big") + 1
        """Of this process, and of no other."""
        self._sequence = 0
        self._files = files
        self._number = max((_number_of(path) for path in (*segments(folder), *left)), default=0)
        self._file: JournalFile | None = None
        self._segment: Segment | None = None
        self._offset = 0
        self._allocated = 0
        self._told_again = 0.0
        """When the log shall hear once more that the journal cannot be written (monotonic)."""
        folder.mkdir(mode=0o700, exist_ok=True)

    @property
    def used_octets(self) -> int:
        """How long the present segment is."""
        return self._offset

    def reserve(self, octets: int) -> None:
        """Make sure that so many octets can be written. Raises Unavailable (DiskFull where that is why): nothing has
        changed then."""
        try:
            if self._file is None:
                self._start_segment()
            assert self._file is not None
            wanted = self._offset + octets
            if wanted > self._allocated:
                size = -(-wanted // ALLOCATION_OCTETS) * ALLOCATION_OCTETS
                self._file.allocate(size)
                self._allocated = size
        except OSError as error:
            raise self._why_not(error) from error

    def _why_not(self, error: OSError) -> Unavailable:
        if error.errno in NO_ROOM:
            return DiskFull()
        now = time.monotonic()
        if now >= self._told_again:
            self._told_again = now + TOLD_AGAIN_S
            log.error("no mail is taken: the journal cannot be written: %s", error)
        return Unavailable("mail cannot be stored now", "UNAVAILABLE")

    @property
    def last_sequence(self) -> int:
        """Of the message that was taken last."""
        return self._sequence

    def next_sequence(self) -> int:
        """For a message that is taken."""
        self._sequence += 1
        return self._sequence

    def _start_segment(self) -> None:
        self._number += 1
        path = self._folder / f"{self.worker}-{self._number:06d}.log"
        file = self._files.open(path)
        try:
            file.allocate(ALLOCATION_OCTETS)
            file.write(0, [MAGIC])
            file.sync()
            sync_folder(self._folder)
        except OSError:
            file.close()
            path.unlink(missing_ok=True)
            raise
        self._file = file
        self._segment = Segment(path, set())
        self._offset = len(MAGIC)
        self._allocated = ALLOCATION_OCTETS

    def write(self, records: list[Framed], accounts: set[int]) -> None:
        """Append records within what was reserved and make them durable. Blocks. An OSError is fatal: after
        a failed sync nobody knows what is on the disk."""
        self.write_unsynced(records, accounts)
        assert self._file is not None
        self._file.sync()

    @property
    def descriptor(self) -> int | None:
        """Of the present segment, for those who can have it synced otherwise."""
        return self._file.descriptor if self._file is not None else None

    def write_unsynced(self, records: list[Framed], accounts: set[int]) -> None:
        """The same, but the caller makes them durable."""
        assert self._file is not None
        assert self._segment is not None
        self._segment.accounts |= accounts
        pieces: list[Octets] = []
        place = durable = self._offset  # what was written before was synced before
        for record in records:
            head, octets, _ = record
            pieces += (frame(record, place, durable) + head, octets)
            place += framed_size(record)
        self._file.write(durable, pieces)
        self._offset = place

    def cut(self) -> Segment | None:
        """End the present segment, if any, and return it; the caller syncs its accounts, then calls `remove`."""
        if self._file is None:
            return None
        self._file.close()
        self._file = None
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.last_sequence = self._sequence
        return segment

    def remove(self, segment: Segment) -> None:
        """Delete a segment whose accounts are all synced."""
        self._files.remove(segment.path)


def worker_of(path: Path) -> str:
    """Whose segment it is."""
    return path.stem.rpartition("-")[0]


def _number_of(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def segments(folder: Path, worker: str = "*") -> list[Path]:
    """All segments of all workers, or of one, in order of name."""
    return sorted(folder.glob(f"{worker}-*.log")) if folder.is_dir() else []


@dataclass(slots=True)
class Named:
    """What a segment is about."""

    accounts: set[int]
    """Of its records."""
    taken: dict[int, list[Record]]
    """By account, what was only taken."""
    lost_octets: int


def named_by(path: Path) -> Named:
    """Reads all of a segment: blocks, for a thread. Raises OSError."""
    contents = read_file(path)
    taken: dict[int, list[Record]] = {}
    for record in contents.records:
        if not record.uid:
            taken.setdefault(record.account, []).append(record)
    return Named({record.account for record in contents.records}, taken, contents.lost_octets)


def run_of(path: Path) -> int:
    """Which run wrote a segment; 0 if it has no record, or is not there any more. Raises OSError."""
    try:
        with path.open("rb") as file:
            found = _next_frame(file.read(_FIRST_OCTETS), len(MAGIC), b"")
            if found is None:
                file.seek(0)
                found = _next_frame(file.read(), len(MAGIC), b"")
    except FileNotFoundError:
        return 0
    return int.from_bytes(found.run, "little") if found is not None else 0


def keep_aside(path: Path, lost_octets: int) -> None:
    """Give a damaged segment a second name in the folder `aside`, durably, before it goes; the log tells once. Blocks.
    Raises OSError."""
    folder = path.parent.parent / ASIDE
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
    kept = folder / f"{KEPT}{path.stem}-{path.stat().st_mtime_ns}.log"
    try:
        kept.hardlink_to(path)
    except FileExistsError:
        return
    sync_folder(folder)
    log.error(
        "%d octets of the journal are damaged or missing: mail that was acknowledged may be lost; the rest was read,"
        " and the damaged file is kept: %s",
        lost_octets,
        kept,
    )


def kept_aside(data_dir: Path) -> list[Path]:
    """Damaged segments that were kept."""
    return sorted((data_dir / ASIDE).glob(f"{KEPT}*.log"))
