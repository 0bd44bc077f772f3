"""Local delivery: one copy each, durable or pending before the acknowledgement, never twice."""

import asyncio
import fcntl
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.delivery import deliver as deliver_module
from pillarbox.delivery import pending as pending_module
from pillarbox.delivery.aliases import Target
from pillarbox.delivery.deliver import Delivery, Wished, deliver
from pillarbox.delivery.pending import PendingWorker
from pillarbox.store import appending, messages
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.pending import PendingDelivery
from pillarbox.store.store import Store, remove_account_files

OCTETS = b"Subject: x\r\n\r\nHello\r\n"
LARGE = OCTETS + b"0123456789abcdef\r\n" * 40_000
"""Too large for the journal."""
DATE = pack_date(1_795_428_000)


def run(folder: Path, work: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        store = Store(folder)
        store.directory.add_domain("example.test")
        for name in ("a", "b", "c"):
            store.directory.add_account(f"{name}@example.test", "", "")
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(main())


def delivery(*accounts: int, octets: bytes = OCTETS, queue_id: str = "Q1") -> Delivery:
    targets = [Target(number, f"{' abc'[number]}@example.test") for number in accounts]
    return Delivery(
        queue_id, "s@example.net", b"Received: r\r\n", DATE, make_content(octets), targets
    )


async def inbox(store: Store, account: int) -> list[bytes]:
    def work(tx):
        rows = messages.select(tx, 1, [(1, messages.MOST_UIDS)], ("header", "content", "size"))
        return [header + messages.body(tx, content, 0, size) for header, content, size in rows]

    return await store.read(account, work)


async def arrived(store: Store, account: int, count: int) -> None:
    async with asyncio.timeout(5):
        while len(await inbox(store, account)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def nothing_pending(store: Store) -> None:
    async with asyncio.timeout(5):
        while store.pending.count():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def expected(name: str) -> bytes:
    fields = b"Return-Path: <s@example.net>\r\nDelivered-To: %b@example.test\r\nReceived: r\r\n"
    return fields % name.encode() + OCTETS


async def nothing_to_tell(delivery: PendingDelivery) -> None:
    raise AssertionError(f"nobody asked for {delivery.queue_id}")


class Broken:
    """Makes `store.deliver_soon` and `store.append_soon`, and all that uses them, fail for some accounts."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, **errors: Exception) -> None:
        self.errors = {" abc".index(name): error for name, error in errors.items()}
        for name in ("deliver_soon", "append_soon"):
            monkeypatch.setattr(store, name, self._breaking(getattr(store, name)))

    def _breaking(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def add(account: int, item: appending.Append) -> "asyncio.Future[Any]":
            if account not in self.errors:
                return real(account, item)
            failed = asyncio.get_running_loop().create_future()
            failed.set_exception(self.errors[account])
            return failed

        return add


def test_every_account_gets_one_copy_with_its_own_fields(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        assert await deliver(store, delivery(1, 2, 3)) == []
        for number, name in enumerate("abc", 1):
            assert await inbox(store, number) == [expected(name)]
        assert await deliver(store, delivery(1, queue_id="Q2")) == []
        assert len(await inbox(store, 1)) == 2

    run(tmp_path, work)


def test_large_messages_reach_all_accounts(tmp_path: Path) -> None:
    octets = OCTETS + b"0123456789abcdef\r\n" * 150_000

    async def work(store: Store) -> None:
        assert await deliver(store, delivery(1, 2, octets=octets)) == []
        for number in (1, 2):
            (stored,) = await inbox(store, number)
            assert stored.endswith(octets)

    run(tmp_path, work)


def test_who_cannot_be_written_now_is_pending_until_the_worker_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(store: Store) -> None:
        broken = Broken(store, monkeypatch, b=Unavailable("busy"), c=RuntimeError("bug"))
        assert len(await deliver(store, delivery(1, 2, 3))) == 2
        assert store.pending.count() == 2
        assert await inbox(store, 1) == [expected("a")]
        del broken.errors[3]
        worker = PendingWorker(store, nothing_to_tell, look_every_s=0.01)
        worker.start()
        await arrived(store, 3, 1)
        await asyncio.sleep(0.05)
        assert await inbox(store, 3) == [expected("c")]
        assert await inbox(store, 2) == []
        assert store.pending.count() == 1  # not due before a while
        await worker.stop()
        broken.errors.clear()
        again = PendingWorker(store, nothing_to_tell, look_every_s=0.01)
        again.start()  # a start tries everything
        await nothing_pending(store)
        assert await inbox(store, 2) == [expected("b")]
        await again.stop()

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("error", "raised"), [(DiskFull(), DiskFull), (Unavailable("x"), Unavailable)]
)
@pytest.mark.parametrize("accounts", [(1,), (1, 2)])
def test_if_nobody_can_be_written_the_sender_shall_try_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    raised: type[Exception],
    accounts: tuple[int, ...],
) -> None:
    async def work(store: Store) -> None:
        Broken(store, monkeypatch, a=error, b=error)
        with pytest.raises(Unavailable) as caught:
            await deliver(store, delivery(*accounts))
        assert type(caught.value) is raised
        assert store.pending.count() == 0

    run(tmp_path, work)


def test_an_account_that_stays_locked_is_left_to_the_pending_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_module, "LONGEST_WAIT_S", 0.5)
    monkeypatch.setattr(pending_module, "LONGEST_WAIT_S", 0.5)

    async def work(store: Store) -> None:
        await deliver(store, delivery(1, 2, queue_id="Q0"))
        lock = account_path(tmp_path / "accounts", 2).with_suffix(".lock").open("rb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            assert len(await deliver(store, delivery(1, 2, octets=LARGE))) == 1
            assert store.pending.count() == 1
        finally:
            lock.close()
        # What was given up may have been done meanwhile: the pending try must not add it again.
        await arrived(store, 2, 2)
        worker = PendingWorker(store, nothing_to_tell, look_every_s=0.01)
        worker.start()
        await nothing_pending(store)
        await worker.stop()
        assert len(await inbox(store, 1)) == len(await inbox(store, 2)) == 2

    run(tmp_path, work)


def test_accounts_that_are_all_locked_are_all_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_module, "LONGEST_WAIT_S", 0.5)

    async def work(store: Store) -> None:
        await deliver(store, delivery(1, 2, queue_id="Q0"))
        locks = [
            account_path(tmp_path / "accounts", number).with_suffix(".lock").open("rb")
            for number in (1, 2)
        ]
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            # Both may still be done: to ask the sender for another try would make two copies.
            assert len(await deliver(store, delivery(1, 2, octets=LARGE))) == 2
        finally:
            for lock in locks:
                lock.close()
        await arrived(store, 1, 2)
        await arrived(store, 2, 2)

    run(tmp_path, work)


@pytest.mark.parametrize("accounts", [(1,), (1, 2)])
@pytest.mark.parametrize("is_removed", [True, False])
def test_mail_for_a_removed_account_is_no_damage_and_may_come_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, accounts: tuple[int, ...], is_removed: bool
) -> None:
    """The address may have been given anew. Where a file is lost, mail waits as ever."""
    caplog.set_level("INFO")

    async def work(store: Store) -> None:
        for number in accounts:
            await store.append(number, Append(INBOX, make_content(OCTETS), DATE))
        for number in accounts:
            if is_removed:
                store.directory.remove_account(number)
                remove_account_files(tmp_path, number)
            else:
                account_path(tmp_path / "accounts", number).unlink()
        with pytest.raises(Unavailable) as failure:
            await deliver(store, delivery(*accounts, octets=LARGE))
        words = "the account was removed" if is_removed else "the mail file is missing"
        assert failure.value.text.startswith(words)

    run(tmp_path, work)
    told = {each.levelname for each in caplog.records if "id=Q1 to " in each.getMessage()}
    assert told == {"INFO" if is_removed else "WARNING"}
    assert ("is missing" in caplog.text) is not is_removed


def test_pending_mail_of_a_removed_account_is_given_up(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        store.pending.add("Q1", "s@x", DATE, OCTETS, [("b@example.test", 2, b"P: x\r\n")])
        store.directory.remove_account(2)
        worker = PendingWorker(store, nothing_to_tell)
        worker.start()
        await nothing_pending(store)
        await worker.stop()
        assert not account_path(tmp_path / "accounts", 2).exists()

    run(tmp_path, work)


def test_the_worker_survives_a_table_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(store: Store) -> None:
        store.pending.add("Q1", "s@x", DATE, OCTETS, [("b@example.test", 2, b"P: x\r\n")])
        real, calls = store.pending.due, []

        def due(limit: int):
            calls.append(limit)
            if len(calls) < 3:
                raise Unavailable("no") if len(calls) == 1 else ValueError("bug")
            return real(limit)

        monkeypatch.setattr(store.pending, "due", due)
        worker = PendingWorker(store, nothing_to_tell, look_every_s=0.01)
        worker.start()
        await nothing_pending(store)
        await worker.stop()

    run(tmp_path, work)


def test_who_asked_for_success_is_told_of_pending_mail_when_it_is_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 3461 §5.2.3: delivery is when the message is in the mailbox."""
    told: list[PendingDelivery] = []

    async def tell(each: PendingDelivery) -> None:
        assert store_of[0].pending.count() == 1  # struck off when the sender was told
        told.append(each)
        if len(told) == 1:
            raise Unavailable("no room")

    store_of: list[Store] = []

    async def work(store: Store) -> None:
        store_of.append(store)
        broken = Broken(store, monkeypatch, b=Unavailable("busy"))
        wishes = {1: [Wished("A@x", "")], 2: [Wished("B@x", "rfc822;b"), Wished("c@x", "")]}
        mail = replace(delivery(1, 2), envid="E+2B1", wishes=wishes)
        assert [target.account for target in await deliver(store, mail)] == [2]
        broken.errors.clear()
        for _ in range(2):  # the first report fails, and neither it nor the mail is lost or doubled
            worker = PendingWorker(store, tell, look_every_s=0.01)
            worker.start()
            async with asyncio.timeout(5):
                while store.pending.count() and len(told) % 2 == 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            await worker.stop()
        assert len(await inbox(store, 2)) == 1
        assert len(told) == 2
        assert (told[1].sender, told[1].envid) == ("s@example.net", "E+2B1")
        assert told[1].wishes == [("B@x", "rfc822;b"), ("c@x", "")]
        assert store.pending.count() == 0

    run(tmp_path, work)
