"""The redo journal of a worker: appends that were acknowledged but may still be missing from their account files.

Account files are committed without a sync; what makes an append durable is its record here and one fdatasync for all
that waits. Segments are `journal/WORKER-NNNNNN.log`. A segment is removed once every account file that it names is
synced; a clean stop removes all, so a segment found at start means an unclean stop (`recovery`).

A record: length and CRC-32 of the rest (4 octets each), the fixed numbers, the variable texts, header fields put in
front, message. The first record that does not check ends a segment: it was never acknowledged. What was taken and not
yet put into its file (`intake`) has a UID of 0, and for a ModSeq its sequence in the run, one process of the worker.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zlib import crc32

from pillarbox.core.errors import DiskFull
from pillarbox.store.appending import Append, Appended
from pillarbox.store.database import sync_folder

SEGMENT_OCTETS = 64 << 20
"""A segment that is this long is followed by a new one."""

ALLOCATION_OCTETS = 8 << 20
"""Room is taken in steps of this, so that a full disk shows before anything was changed."""

MOST_PIECES = 1000
"""That one system call writes (Linux: IOV_MAX is 1024)."""

MAGIC = b"pillarbox journal 2\n"

_FRAME = struct.Struct("<II")
_NUMBERS = struct.Struct("<QQIIIQqQIHHI")
# run, account, mailbox, uidvalidity, uid, modseq, internaldate, savedate, flags, then the lengths of
# keywords, delivery key and prefix


Octets = bytes | memoryview

Framed = tuple[bytes, Octets]
"""A record as it is written: all that stands in front of the message, and the message."""


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
    checksum = crc32(octets, crc32(head))
    return _FRAME.pack(len(head) + len(octets), checksum) + head, octets


def framed_size(record: Framed) -> int:
    """Octets of a record."""
    return len(record[0]) + len(record[1])


def read_records(octets: bytes) -> Iterator[Record]:
    """The records of a segment, up to the first that does not check."""
    if not octets.startswith(MAGIC):
        return
    position = len(MAGIC)
    while position + _FRAME.size <= len(octets):
        length, checksum = _FRAME.unpack_from(octets, position)
        position += _FRAME.size
        rest = octets[position : position + length]
        if length < _NUMBERS.size or len(rest) < length or crc32(rest) != checksum:
            return
        position += length
        (
            run,
            account,
            mailbox,
            uidvalidity,
            uid,
            modseq,
            internaldate,
            savedate,
            flags,
            words_size,
            key_size,
            prefix_size,
        ) = _NUMBERS.unpack_from(rest)
        key_start = _NUMBERS.size + words_size
        prefix_start = key_start + key_size
        octets_start = prefix_start + prefix_size
        yield Record(
            run,
            account,
            mailbox,
            uidvalidity,
            uid,
            modseq,
            internaldate,
            savedate,
            flags,
            keywords=tuple(rest[_NUMBERS.size : key_start].split()),
            delivery_key=rest[key_start:prefix_start].decode(),
            prefix=rest[prefix_start:octets_start],
            octets=rest[octets_start:],
        )


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
        os.posix_fallocate(self._descriptor, 0, size)

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
        folder.mkdir(mode=0o700, exist_ok=True)

    @property
    def used_octets(self) -> int:
        """How long the present segment is."""
        return self._offset

    def reserve(self, octets: int) -> None:
        """Make sure that so many octets can be written. Raises DiskFull: nothing has changed then."""
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
            raise DiskFull from error

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
        pieces = [piece for record in records for piece in record]
        self._file.write(self._offset, pieces)
        self._offset += sum(map(len, pieces))

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


def named_by(path: Path) -> tuple[set[int], dict[int, list[Record]]]:
    """The accounts of a segment's records, and by account what was only taken. Reads all of it: blocks, for a thread.
    Raises OSError."""
    accounts: set[int] = set()
    taken: dict[int, list[Record]] = {}
    for record in read_records(path.read_bytes()):
        accounts.add(record.account)
        if not record.uid:
            taken.setdefault(record.account, []).append(record)
    return accounts, taken


def run_of(path: Path) -> int:
    """Which run wrote a segment; 0 if it has no record, or is not there any more. Raises OSError."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC) + _FRAME.size + 8)
    except FileNotFoundError:
        return 0
    run = head[len(MAGIC) + _FRAME.size :]
    return int.from_bytes(run, "little") if len(run) == 8 and head.startswith(MAGIC) else 0
