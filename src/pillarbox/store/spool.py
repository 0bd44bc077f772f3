"""Where a message waits while it comes in: in memory while it is small, else in a temporary file.

In memory up to 64 KiB, up to 1 MiB while all spools of the process hold less than 128 MiB, then on disk; a parser
sees one buffer either way.
"""

import mmap
import tempfile
from pathlib import Path
from typing import IO

SMALL_OCTETS = 64 * 1024
LARGE_OCTETS = 1 << 20
TOTAL_OCTETS = 128 << 20


class SpoolRoom:
    """How much memory the spools of a process hold together, and the folder for those on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used = 0


class Spool:
    """Octets that are written once, then read. Close it in any case."""

    __slots__ = ("_chunks", "_file", "_held", "_map", "_room", "size")

    def __init__(self, room: SpoolRoom) -> None:
        self._room = room
        self._chunks: list[bytes] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self.size = 0
        """Octets written."""

    def write(self, chunk: bytes) -> None:
        """Add octets. Raises OSError when they must go to a disk that is full."""
        self.size += len(chunk)
        if self._file is not None:
            self._file.write(chunk)
            return
        self._chunks.append(chunk)
        self._held += len(chunk)
        self._room.used += len(chunk)
        if self.size > SMALL_OCTETS and (
            self.size > LARGE_OCTETS or self._room.used > TOTAL_OCTETS
        ):
            self._to_disk()

    def _to_disk(self) -> None:
        self._file = tempfile.TemporaryFile(dir=self._room.folder)  # noqa: SIM115 (closed by close)
        self._file.writelines(self._chunks)
        self._drop_memory()

    def _drop_memory(self) -> None:
        self._chunks.clear()
        self._room.used -= self._held
        self._held = 0

    def octets(self) -> bytes | memoryview:
        """All of it, valid until `close`. Raises OSError when the disk is full."""
        if self._file is None:
            if len(self._chunks) > 1:
                self._chunks = [b"".join(self._chunks)]
            return self._chunks[0] if self._chunks else b""
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)

    def close(self) -> None:
        """Give memory and disk back. What `octets` gave must not be used any more."""
        self._drop_memory()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._map = None  # unmapped when the last view of it is gone
