"""Where a message waits while it comes in: in memory while it is small, else in a temporary file.

In memory up to 64 KiB, up to 1 MiB while all spools of the server hold less than 128 MiB, then on disk; a parser
sees one buffer either way. All that touches the disk is done in threads, since other syncs can make it wait.
"""

import asyncio
import logging
import mmap
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from pillarbox.store.lately import TOLD_AGAIN_S, FullDisk, Lately
from pillarbox.store.owned import why_denied

SMALL_OCTETS = 64 * 1024
LARGE_OCTETS = 1 << 20
TOTAL_OCTETS = 128 << 20
MOST_PIECES = 512
"""Held one by one: a piece of a few octets takes twenty times as much memory."""
WRITTEN_OCTETS = 256 * 1024
"""What is written to the disk at a time."""


log = logging.getLogger("pillarbox.store")


class SpoolRoom:
    """How much memory the spools of a process hold together, and the folder for those on disk."""

    def __init__(self, folder: Path, most_octets: int = TOTAL_OCTETS) -> None:
        self.folder = folder
        self.most_octets = most_octets
        self.used = 0
        self._full = FullDisk(folder)
        self._told = Lately(TOLD_AGAIN_S)

    def tell(self, error: OSError) -> None:
        """A line in the log of what keeps us from writing there, if there was none lately."""
        if not self._full.tell(error) and self._told.may_tell(self.folder, time.monotonic()):
            denied = isinstance(error, PermissionError) and self.folder.exists()
            why = why_denied(self.folder) if denied else f"{self.folder}: {error.strerror}"
            log.warning("large messages are refused, for they cannot be spooled: %s", why)


HEAD_OCTETS = 32 << 10


class Spool:
    """Octets that are written once, then read. Close it in any case."""

    __slots__ = ("_chunks", "_file", "_held", "_map", "_on_disk", "_room", "size")

    def __init__(self, room: SpoolRoom) -> None:
        self._room = room
        self._chunks: list[bytes] = []
        self._held = 0
        self._on_disk = False
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self.size = 0
        """Octets written."""

    def write(self, chunk: bytes) -> bool:
        """Add octets. True: `flush` is due before there are more."""
        self.size += len(chunk)
        self._chunks.append(chunk)
        self._held += len(chunk)
        self._room.used += len(chunk)
        if len(self._chunks) > MOST_PIECES:
            self._chunks = [b"".join(self._chunks)]
        if self._on_disk:
            return self._held >= WRITTEN_OCTETS
        self._on_disk = self.size > SMALL_OCTETS and (
            self.size > LARGE_OCTETS or self._room.used > self._room.most_octets
        )
        return self._on_disk

    async def flush(self) -> None:
        """Write out what is not for memory; also due before `octets`. Raises OSError, mostly when the disk is full."""
        if self._on_disk and self._held:
            try:
                await asyncio.to_thread(self._write_out)
            except OSError as error:
                self._room.tell(error)
                raise
            self._drop_memory()

    def _write_out(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._room.folder)  # noqa: SIM115 (closed by close)
        for chunk in self._chunks:
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    def _drop_memory(self) -> None:
        self._chunks.clear()
        self._room.used -= self._held
        self._held = 0

    def octets(self) -> bytes | memoryview:
        """All of it, valid until `close`."""
        if self._file is None:
            if len(self._chunks) > 1:
                self._chunks = [b"".join(self._chunks)]
            return self._chunks[0] if self._chunks else b""
        if self._map is None:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)

    def head(self) -> bytes:
        """The first octets, some 32 KiB at least, if they are in memory; b"" after `close`."""
        found, size = [], 0
        for chunk in () if self._on_disk else self._chunks:
            found.append(chunk)
            size += len(chunk)
            if size >= HEAD_OCTETS:
                break
        return b"".join(found)

    def close(self) -> None:
        """Give memory and disk back. What `octets` gave must not be used any more."""
        self._drop_memory()
        file, self._file = self._file, None
        mapped, self._map = self._map, None
        if file is not None:
            asyncio.get_running_loop().run_in_executor(None, _let_go, file, mapped)


def _let_go(file: IO[bytes], mapped: mmap.mmap | None) -> None:
    """The disk has its room back once neither is held. Blocks."""
    file.close()
    if mapped is not None:
        with suppress(BufferError):  # somebody still has a view; the map goes with it
            mapped.close()
