"""A disk that forgets what was not synced: a SQLite VFS and journal files that log every write and sync.

The store runs on real files; from the log, the disk can be rebuilt as a power cut at any point could have left it.
"""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import apsw

SYNC_S = 0.002


@dataclass(slots=True)
class Event:
    """Something that happened to the disk, or (`note`) that the outside world saw."""

    kind: str
    path: Path | None = None
    offset: int = 0
    octets: bytes = b""
    note: object = None


@dataclass(slots=True)
class Disk:
    """The log. `syncs` False: syncs are taken for done but are not (as with synchronous OFF)."""

    root: Path
    events: list[Event] = field(default_factory=list)
    known: set[Path] = field(default_factory=set)
    syncs: bool = True

    def note(self, note: object) -> None:
        self.events.append(Event("note", note=note))

    def opened(self, path: Path) -> None:
        """A file that others made (and synced) before is durable as it is."""
        if path not in self.known:
            self.known.add(path)
            content = path.read_bytes() if path.exists() else b""
            self.events.append(Event("made", path, octets=content))

    def image(self, until: int, target: Path, luck: random.Random | None) -> None:
        """Write the disk as a cut before event `until` left it; `luck` lets some unsynced writes survive."""
        durable: dict[Path, bytearray] = {}
        pending: dict[Path, list[Event]] = {}
        for event in self.events[:until]:
            path = event.path
            if path is None:
                continue
            if event.kind == "made":
                durable[path] = bytearray(event.octets)
                pending[path] = []
            elif event.kind == "removed":
                durable.pop(path, None)
                pending.pop(path, None)
            elif event.kind == "sync":
                for change in pending[path]:
                    _apply(durable[path], change)
                pending[path] = []
            else:
                pending[path].append(event)
        for path, content in durable.items():
            if luck is not None:
                for change in pending[path]:
                    if luck.random() < 0.5:
                        _apply(content, change)
            place = target / path.relative_to(self.root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)


def _apply(content: bytearray, event: Event) -> None:
    if event.kind == "truncate":
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    if len(content) < event.offset:
        content.extend(bytes(event.offset - len(content)))
    content[event.offset : event.offset + len(event.octets)] = event.octets


class PowerVFS(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        self.disk = disk
        self.name = name
        super().__init__(name, base="", iVersion=3)

    def xOpen(self, name, flags):
        return PowerFile(self.disk, name, flags)

    def xDelete(self, name, syncdir):
        super().xDelete(name, syncdir)
        self.disk.known.discard(Path(name))
        self.disk.events.append(Event("removed", Path(name)))


class PowerFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name, flags) -> None:
        super().__init__("", name, flags)
        self.disk = disk
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.path = Path(text) if text else None
        if self.path is not None:
            disk.opened(self.path)

    def xWrite(self, data, offset):
        super().xWrite(data, offset)
        if self.path is not None:
            self.disk.events.append(Event("write", self.path, offset, bytes(data)))

    def xTruncate(self, size):
        super().xTruncate(size)
        if self.path is not None:
            self.disk.events.append(Event("truncate", self.path, size))

    def xSync(self, flags):
        if self.path is not None and self.disk.syncs:
            self.disk.events.append(Event("sync", self.path))


class PowerJournalFile:
    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self._file = path.open("xb", buffering=0)
        disk.known.add(path)
        disk.events.append(Event("made", path))

    @property
    def descriptor(self) -> None:
        """Only `sync` is seen here."""

    def allocate(self, size: int) -> None:
        os.ftruncate(self._file.fileno(), size)
        self._disk.events.append(Event("write", self._path, size - 1, b"\0"))

    def write(self, offset: int, pieces: Sequence[bytes]) -> None:
        octets = b"".join(pieces)
        os.pwrite(self._file.fileno(), octets, offset)  # for a worker that takes it over
        for piece in pieces:  # any of them may come to the disk without those before it
            self._disk.events.append(Event("write", self._path, offset, bytes(piece)))
            offset += len(piece)

    def sync(self) -> None:
        time.sleep(SYNC_S)  # time for others to look at what is committed but not yet durable
        if self._disk.syncs:
            self._disk.events.append(Event("sync", self._path))

    def close(self) -> None:
        self._file.close()


class PowerSyncs:
    """In place of `syncing.Syncs`: what the kernel syncs by a descriptor."""

    def __init__(self, disk: Disk, _executor: Executor) -> None:
        self._disk = disk

    def sync(self, descriptor: int) -> "asyncio.Future[None]":
        """Only what was written before it is durable; it takes a while until that is told."""
        if self._disk.syncs:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self._disk.events.append(Event("sync", path))
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        loop.call_later(SYNC_S, future.set_result, None)
        return future

    def close(self) -> None:
        pass


class PowerJournalFiles:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def open(self, path: Path) -> PowerJournalFile:
        return PowerJournalFile(self._disk, path)

    def remove(self, path: Path) -> None:
        path.unlink()
        self._disk.events.append(Event("removed", path))
