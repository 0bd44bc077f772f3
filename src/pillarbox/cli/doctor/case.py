"""What the checks are given, and how they wait for others."""

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
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
    # asyncio joins those of several addresses.
    return re.sub(r"\[Errno \d+\] ", "", str(failure.strerror or failure))


async def in_thread(work: Callable[[], T], timeout_s: float) -> T:
    """What `work` returns or raises; TimeoutError when it takes longer, and then it may go on by itself: a disk that
    hangs must not keep the command."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # from here on, nobody who gives up disturbs the thread

    def run() -> None:
        try:
            result.set_result(work())
        except Exception as error:  # it is raised where it is waited for
            result.set_exception(error)

    threading.Thread(target=run, name="doctor", daemon=True).start()
    async with asyncio.timeout(timeout_s):
        return await asyncio.wrap_future(result)
