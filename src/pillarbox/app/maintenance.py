"""What a running server does by itself: parting from removed accounts, giving space back, renewing certificates,
telling accounts that they are nearly full, and publishing what it does."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pillarbox.certs.present import Certificates
from pillarbox.core.errors import Failure
from pillarbox.delivery.quota import warn
from pillarbox.net.admission import Admission
from pillarbox.store.logins import Logins
from pillarbox.store.store import Store

DIRECTORY_EVERY_S = 1.0
LOGINS_EVERY_S = 1.0
QUOTAS_EVERY_S = 5.0
CERTIFICATES_EVERY_S = 5.0
FILES_EVERY_S = 30.0
HOUSEKEEPING_EVERY_S = 3600.0

log = logging.getLogger("pillarbox.app")


class Maintenance:
    """Some tasks, from `start` to `stop`."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        certificates: Certificates,
        hostname: str,
        publish: Callable[[], None],
        logins: Logins,
        *,
        has_duty: bool,
    ) -> None:
        """`publish` is called every second; with `has_duty` this worker keeps house for all."""
        self._store = store
        self._hostname = hostname
        self._publish = publish
        self._logins = logins
        self._has_duty = has_duty
        self._admission = admission
        self._certificates = certificates
        self._directory_version = store.directory.file.data_version()
        self._leaving = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(_repeat(DIRECTORY_EVERY_S, self._look_at_directory)),
            asyncio.create_task(_repeat(LOGINS_EVERY_S, self._write_logins)),
            asyncio.create_task(_repeat(QUOTAS_EVERY_S, self._warn_of_quotas)),
            asyncio.create_task(_repeat(CERTIFICATES_EVERY_S, self._look_at_certificates)),
            asyncio.create_task(_repeat(FILES_EVERY_S, self._close_files)),
            asyncio.create_task(_repeat(HOUSEKEEPING_EVERY_S, self._keep_house)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def refresh(self) -> None:
        """Look at the certificates now, and say what is wrong with them."""
        self._tasks.append(asyncio.create_task(self._refresh()))

    async def _refresh(self) -> None:
        try:
            await asyncio.to_thread(self._certificates.refresh)
        except Exception:
            log.exception("a bug in maintenance")

    async def _look_at_certificates(self) -> None:
        await asyncio.to_thread(self._certificates.look)

    async def _look_at_directory(self) -> None:
        """Accounts that were disabled or removed lose their sessions, removed ones their files."""
        self._publish()
        version = self._store.directory.file.data_version()
        if version == self._directory_version and not self._leaving:
            return
        self._directory_version = version
        self._leaving = False
        for connection in list(self._admission.connections):
            if connection.peer[0] in self._admission.banned:
                connection.abort()
            elif self._is_over(connection.account, connection.supporter):
                connection.stop()
                self._leaving = True
        self._store.forget_removed_accounts()

    def _is_over(self, account: int, supporter: int) -> bool:
        """Whether a session in an account, by a supporter (0: by its owner), may not go on."""
        directory = self._store.directory
        for number in (account, supporter):
            found = directory.account_by_id(number) if number else None
            if number and (found is None or not found.enabled):
                return True
        return bool(supporter) and not directory.credentials.is_supporter(supporter)

    async def _write_logins(self) -> None:
        if self._logins.is_behind:
            await asyncio.to_thread(self._logins.flush)
            for account in self._logins.removed():
                await asyncio.to_thread(self._logins.forget, account)

    async def _warn_of_quotas(self) -> None:
        if self._store.grown:
            await warn(self._store, self._hostname)

    async def _close_files(self) -> None:
        self._store.close_unused()

    async def _keep_house(self) -> None:
        await asyncio.to_thread(self._certificates.refresh)
        if not self._has_duty:
            return
        for account in self._store.directory.accounts():
            reclaimed = await self._store.reclaim(account.id)
            self._store.index.keep_up(account.id)
            if reclaimed:
                log.info("%s: %d expunged messages are gone for good", account.address, reclaimed)


async def _repeat(every_s: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await work()
        except Failure as error:
            log.warning("maintenance: %s", error.told)
        except Exception:
            log.exception("a bug in maintenance")
