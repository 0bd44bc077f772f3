"""What the checks are given, and how they wait for others."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography import x509

from pillarbox.certs.report import Entry
from pillarbox.cli.doctor.lookup import Lookup
from pillarbox.config.schema import Config
from pillarbox.core.address import canonical_domain
from pillarbox.store.dkim_keys import DkimKey

T = TypeVar("T")

WAIT_S = 5.0
"""For each connection, and each answer of a server."""


@dataclass(slots=True)
class Case:
    """The server and the domains that are looked at."""

    config: Config
    domains: dict[str, list[DkimKey]]
    """Canonical, with their keys."""
    lookup: Lookup
    certificates: list[Entry] = field(default_factory=list)
    chains: list[list[x509.Certificate]] = field(default_factory=list)
    """What stands in their files, the host's own first."""
    now: float = field(default_factory=time.time)

    @property
    def host(self) -> str:
        return canonical_domain(self.config.hostname)


def words_of(failure: OSError) -> str:
    """Why a connection failed. Example: ConnectionRefusedError -> "Connection refused"."""
    if failure.errno is not None and failure.errno > 0:
        return os.strerror(failure.errno)
    return str(failure.strerror or failure)


async def in_thread(work: Callable[[], T], timeout_s: float) -> T:
    """What `work` returns or raises; TimeoutError when it takes longer, and then it may go on by itself: a disk that
    hangs must not keep the command."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except Exception as raised:  # it is raised where it is waited for
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, name="doctor", daemon=True).start()
    async with asyncio.timeout(timeout_s):
        return await result
