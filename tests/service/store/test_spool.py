"""Spools: in memory while they are small, then on the disk, and gone when they are closed."""

import asyncio
import errno
import os
import tracemalloc
from pathlib import Path

import pytest

from pillarbox.store import spool as spool_module
from pillarbox.store.spool import Spool, SpoolRoom


@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
def test_what_was_written_is_read_in_one_piece(tmp_path: Path, size: int) -> None:
    async def scenario() -> None:
        room = SpoolRoom(tmp_path)
        spool = Spool(room)
        wanted = os.urandom(size)
        for start in range(0, size, 7001):
            if spool.write(wanted[start : start + 7001]):
                await spool.flush()
            assert room.used <= spool_module.LARGE_OCTETS + 7001
        await spool.flush()
        assert spool.size == size
        assert bytes(spool.octets()) == wanted
        spool.close()
        assert room.used == 0

    asyncio.run(scenario())


def test_single_octets_take_no_more_memory_than_they_are(tmp_path: Path) -> None:
    """In pieces of two octets a megabyte would be twenty."""

    async def scenario() -> None:
        spool = Spool(SpoolRoom(tmp_path))
        tracemalloc.start()
        for number in range(100_000):
            spool.write(b"%02d" % (number % 100))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 500_000
        await spool.flush()
        assert bytes(spool.octets()) == b"".join(b"%02d" % (n % 100) for n in range(100_000))
        spool.close()

    asyncio.run(scenario())


def test_memory_for_all_is_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        room = SpoolRoom(tmp_path, most_octets=200_000)
        spools = [Spool(room) for _ in range(10)]
        for spool in spools:
            for _ in range(10):
                if spool.write(b"x" * 10_000):
                    await spool.flush()
        assert room.used <= 200_000 + len(spools) * spool_module.SMALL_OCTETS
        for spool in spools:
            await spool.flush()
            assert bytes(spool.octets()) == b"x" * 100_000
            spool.close()
        assert room.used == 0

    asyncio.run(scenario())


def test_a_full_disk_is_told_where_it_is_met(tmp_path: Path) -> None:
    async def scenario() -> None:
        spool = Spool(SpoolRoom(tmp_path / "missing"))
        assert spool.write(b"x" * 2_000_000)
        with pytest.raises(OSError):
            await spool.flush()
        spool.close()

    asyncio.run(scenario())


def test_a_full_disk_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_spool: Spool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spool, "_write_out", full)

    async def scenario() -> None:
        room = SpoolRoom(tmp_path)
        for _ in range(2):
            spool = Spool(room)
            assert spool.write(b"x" * 2_000_000)
            with pytest.raises(OSError, match="No space left"):
                await spool.flush()
            spool.close()

    asyncio.run(scenario())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"make room where {tmp_path} is" in record.getMessage()


def test_a_folder_that_cannot_be_written_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        room = SpoolRoom(tmp_path / "gone")
        for _ in range(2):
            spool = Spool(room)
            assert spool.write(b"x" * 2_000_000)
            with pytest.raises(FileNotFoundError):
                await spool.flush()
            spool.close()

    asyncio.run(scenario())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"they cannot be spooled: {tmp_path}/gone: No such file" in record.getMessage()
