"""`AsyncMailServer`: a `MailServer` for coroutines, none of whose waits holds up the event loop of the test."""

import asyncio
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from inspect import signature
from pathlib import Path
from types import TracebackType
from typing import Any

from pillarbox.testing.faults import Faults
from pillarbox.testing.server import MailServer


class AsyncMailServer:
    """Use it in an `async with`. `sync` is the server itself, for all else that never waits."""

    def __init__(self, server: MailServer | None = None, **options: Any) -> None:
        """`options` as for `MailServer`, which raises what it raises for wrong ones. With a server that runs, closing
        that is left to whoever made it, and there is nothing to choose."""
        if server is not None and not isinstance(server, MailServer):
            raise TypeError(f"server={server!r}: give a MailServer that runs, or none")
        if server is not None and options:
            raise TypeError(f"{', '.join(options)}: the server runs already")
        signature(MailServer).bind(**options)
        self._options = options
        self._server = server
        self._is_own = server is None

    @property
    def sync(self) -> MailServer:
        if self._server is None:
            raise RuntimeError("the server is started by `async with`")
        return self._server

    @property
    def host(self) -> str:
        return self.sync.host

    @property
    def ports(self) -> dict[str, int]:
        return self.sync.ports

    @property
    def accounts(self) -> dict[str, str]:
        """As `MailServer.accounts`."""
        return self.sync.accounts

    @property
    def ca_file(self) -> Path:
        """As `MailServer.ca_file`."""
        return self.sync.ca_file

    @property
    def faults(self) -> Faults:
        """As `MailServer.faults`."""
        return self.sync.faults

    @property
    def elsewhere(self) -> Faults:
        """As `MailServer.elsewhere`."""
        return self.sync.elsewhere

    def client_context(self) -> ssl.SSLContext:
        """As `MailServer.client_context`."""
        return self.sync.client_context()

    async def outbox(self) -> list[EmailMessage]:
        """As `MailServer.outbox`."""
        return await asyncio.to_thread(lambda: self.sync.outbox)

    async def clear(self) -> None:
        """As `MailServer.clear`."""
        await asyncio.to_thread(self.sync.clear)

    async def wait_for(
        self,
        predicate: Callable[[EmailMessage], bool] | None = None,
        *,
        subject: str | None = None,
        to: str | None = None,
        timeout: float = 10.0,
    ) -> EmailMessage:
        """As `MailServer.wait_for`."""
        return await asyncio.to_thread(
            self.sync.wait_for, predicate, subject=subject, to=to, timeout=timeout
        )

    async def advance(self, **duration: float) -> None:
        """As `MailServer.advance`."""
        await asyncio.to_thread(self.sync.advance, **duration)

    async def settle(self, timeout: float = 10.0) -> None:
        """As `MailServer.settle`."""
        await asyncio.to_thread(self.sync.settle, timeout)

    async def __aenter__(self) -> "AsyncMailServer":
        if self._server is None:
            self._server = await asyncio.to_thread(MailServer, **self._options)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_own:
            await asyncio.to_thread(self.sync.close)
