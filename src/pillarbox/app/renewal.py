"""Keeps the certificate by ACME: sees when it is due, and lets a program of its own order it. One worker does it."""

import asyncio
import contextlib
import datetime
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from pillarbox.certs.present import Certificates
from pillarbox.certs.renewal import is_due, note_failure, pause_s, read_failures
from pillarbox.config.schema import Config

LOOK_EVERY_S = 60.0
MOST_S = 900.0
"""An order that takes longer is given up."""

log = logging.getLogger("pillarbox.certs")


class Renewal:
    """One task, from `start` to `stop`."""

    def __init__(
        self, config: Config, certificates: Certificates, bound: Sequence[socket.socket] = ()
    ) -> None:
        """`bound`: where the order listens; else it binds sockets of its own."""
        self._bound = bound
        self._config = config
        self._certificates = certificates
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                if await asyncio.to_thread(self._is_time):
                    await self._order()
            except Exception:
                log.exception("a bug in the renewal of the certificate")
            await asyncio.sleep(LOOK_EVERY_S)

    def _is_time(self) -> bool:
        failures = read_failures(self._config)
        age_s = time.time() - failures.last
        # A clock that was set back must not stop it.
        is_waiting = 0 <= age_s < pause_s(failures)
        return not is_waiting and is_due(self._config, datetime.datetime.now(datetime.UTC))

    async def _order(self) -> None:
        log.info("ordering a certificate by ACME from %s", self._config.tls.acme_directory)
        descriptors = [sock.fileno() for sock in self._bound]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "pillarbox.certs.order", *map(str, descriptors)),
            pass_fds=descriptors,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(MOST_S):
                _, said = await process.communicate(msgspec.json.encode(self._config))
        except TimeoutError:
            reason = "no certificate by ACME: the order took too long"
            await asyncio.to_thread(note_failure, self._config, reason, time.time())
            said = reason.encode()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            for sock in self._bound:
                with contextlib.suppress(OSError):  # it does not listen
                    sock.shutdown(socket.SHUT_RDWR)
        if process.returncode == 0:
            await asyncio.to_thread(self._certificates.look)
            return
        lines = said.decode("utf-8", "replace").strip().splitlines()
        failures = await asyncio.to_thread(read_failures, self._config)
        log.error(
            "%s; the next attempt is in %d minutes",
            lines[-1] if lines else f"no certificate by ACME: code {process.returncode}",
            pause_s(failures) // 60,
        )
