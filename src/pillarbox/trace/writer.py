"""Takes what was recorded to the file, once a second, in a thread. A disk that is full or broken costs events only."""

import asyncio
import logging
import time

import apsw

from pillarbox.trace.file import TraceFile
from pillarbox.trace.recorder import Recorder

EVERY_S = 1.0
TIDY_EVERY_S = 3600.0

log = logging.getLogger("pillarbox.trace")


class TraceWriter:
    """One task, from `start` to `stop`."""

    def __init__(self, recorder: Recorder, file: TraceFile, every_s: float = EVERY_S) -> None:
        self._recorder = recorder
        self._file = file
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        self._fails = False  # and that was logged

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write what is left, and close the file."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self.flush()
        await asyncio.to_thread(self._file.close)

    async def _run(self) -> None:
        tidied: float | None = None
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.flush()
                if tidied is None or time.monotonic() > tidied + TIDY_EVERY_S:
                    tidied = time.monotonic()
                    await self._tidy()
            except Exception:
                log.exception("a bug in the writer of the trace")

    async def _tidy(self) -> None:
        try:
            await asyncio.to_thread(self._file.tidy, self._recorder.now())
        except (apsw.Error, OSError) as error:
            log.warning("%s cannot be tidied: %s", self._file.path, error)

    async def flush(self) -> None:
        """Write what waits; what cannot be written is lost, and counted."""
        recorder = self._recorder
        if not recorder.is_behind:
            return
        lines, count = recorder.take()
        try:
            await asyncio.to_thread(self._file.write, lines, recorder.now())
        except (apsw.Error, OSError) as error:
            recorder.lost(count)
            if not self._fails:
                log.warning("what happens is not recorded for now: %s: %s", self._file.path, error)
            self._fails = True
        else:
            if self._fails:
                log.info("what happens is recorded again")
            self._fails = False
