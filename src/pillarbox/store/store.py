"""The store of one server, as its sessions see it. See the package for the rules."""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw

from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.tally import Tally
from pillarbox.store import (
    acl,
    appending,
    database,
    journal,
    keywords,
    made,
    mailboxes,
    maildrop,
    owned,
    quota,
    reclaim,
    recovery,
    replacing,
    search_index,
)
from pillarbox.store.accounts import AccountFile, Accounts, account_path, lock_path
from pillarbox.store.appending import Append, Appended
from pillarbox.store.commit import Committer
from pillarbox.store.content import LARGEST_INLINE, PIECE_OCTETS
from pillarbox.store.damage import Damage
from pillarbox.store.directory import Directory, set_share
from pillarbox.store.journal import Framed, Journal, JournalFiles, RealFiles, format_record
from pillarbox.store.lately import FullDisk
from pillarbox.store.notify import Listener, Notifier, Relay
from pillarbox.store.pending import Pending
from pillarbox.store.place import ALONE, RESTORING, UNFINISHED, Place, lock_folder
from pillarbox.store.quota import Usage
from pillarbox.store.read_ahead import ReadAhead
from pillarbox.store.retirement import Left
from pillarbox.store.search_index import SearchIndex
from pillarbox.store.told import tell_filed
from pillarbox.store.tx import Tx
from pillarbox.store.unit import Unit, nothing
from pillarbox.trace.recorder import Recorder

T = TypeVar("T")

log = logging.getLogger("pillarbox.store")

CACHES_OCTETS = 512 << 20
"""Of what SQLite keeps in memory, for all workers together: without a bound, thousands of open files would take
gigabytes."""

LARGEST_JOURNALLED = 512 * 1024
"""Octets of a message that still goes through the journal: the event loop writes it within a millisecond. Larger ones
are written once, at FULL."""


class Store:
    """Mail, directory and queue of one server. Made by `Store.open`, used on one event loop."""

    def __init__(
        self,
        data_dir: Path,
        *,
        clock: Callable[[], float] = time.time,
        vfs: str | None = None,
        journal_files: JournalFiles | None = None,
        on_fatal: Callable[[BaseException], None] = lambda _error: None,
        place: Place = ALONE,
        relay: Relay | None = None,
        tally: Tally | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Open; the first of the workers recovers from an unclean stop before. `relay` tells the others of changes;
        `recorder` hears what becomes of messages.
        Blocks. Raises Refused if another server uses `data_dir` and Unavailable if its files cannot be used."""
        self.data_dir = data_dir
        self.clock = clock
        self.tally = tally or Tally()
        self.recorder = recorder or Recorder()
        """For all who work with the store."""
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        database.bound_caches(CACHES_OCTETS // place.workers)
        self._lock = lock_folder(data_dir) if place.lock is None else place.lock
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="compute")
        try:
            self.directory = Directory(data_dir / "directory.db", clock=clock, vfs=vfs)
            self.pending = Pending(data_dir / "queue.db", clock=clock, vfs=vfs)
            if place.is_first:
                owned.ensure_allowed(data_dir)
                made.ensure_not_all_missing(data_dir)
            folder = data_dir / "accounts"
            journal_folder = data_dir / "journal"
            _make_folders(folder, journal_folder)
            if place.is_first:
                made.mark_all(data_dir, self._lock, self.directory.has_account)
            self.recovered_messages = 0
            """How many acknowledged messages the start found in the journal only."""
            self.unusable = set(place.unusable)
            """Accounts whose journal the start could not replay: that is tried again when one of them is opened."""
            self.left = [journal_folder / name for name in place.left]
            """The segments that stay for them."""
            if place.is_first:
                # Of a whole restore that came to its end, and was killed then: another one must not take it for half
                # done; of one of single accounts, or a repair, that was killed. None runs: we have the lock.
                for name in (RESTORING, UNFINISHED):
                    shutil.rmtree(data_dir / name, ignore_errors=True)
                replacing.finish(data_dir, self.directory)
                generation, replayed = recovery.recover(
                    data_dir, self._lock, self.directory, int(clock()), vfs
                )
                self.recovered_messages = replayed.missing
                self.unusable |= replayed.unusable
                self.left = replayed.left
                for account, items, done in replayed.filed:
                    tell_filed(self.recorder, account, items, done)
            else:
                generation = self.directory.generation()
            own = journal.segments(journal_folder, str(place.number))
            left = Left([path for path in own if path not in self.left], self.left, place.has_duty)
            self._accounts = Accounts(
                folder,
                generation,
                vfs,
                recovery.put_in_order,
                worker=place.number,
                root=self._lock,
            )
            self._accounts.unusable = self.unusable
            self._accounts.knows = self.directory.has_account
            self._accounts.replay = partial(recovery.replay_late, self.left, generation)
            self._accounts.tell_filed = lambda account, filed: tell_filed(
                self.recorder, account, *filed
            )
            self._notifier = Notifier(relay)
            self._relay = relay
            self._staged: dict[int, frozenset[int]] = {}
            """By account: bodies that were half written when space was last given back."""
            self.grown: set[int] = set()
            """Accounts with a quota that got mail, until somebody looks at them."""
            self._damage = Damage(
                self._address_of,
                clock,
                FullDisk(data_dir),
                partial(made.find_why_all_missing, data_dir, self._lock),
            )
            self.read_ahead = ReadAhead(self._accounts)
            self.index = SearchIndex(self._accounts.path, self.read)
            self._journal = Journal(
                journal_folder, str(place.number), journal_files or RealFiles(), self.left
            )
            self._committer = Committer(
                self._accounts,
                self._journal,
                clock,
                self._notifier.notify,
                self._notifier.has_listeners,
                on_fatal,
                left,
                relay.mark_behind if relay is not None else _mark_nothing,
                recovery.MOST_UNSYNCED // place.workers,
                self.tally.commits,
                self.recorder,
                self._damage.tell,
            )
        except BaseException:
            os.close(self._lock)
            raise

    async def put_left(self) -> None:
        """Let everybody see what an earlier process of this worker had taken, and wait for that (not for long);
        begin to make it durable other than by its journal, and try again what the start could not replay."""
        await self._committer.put_left()

    def close_unused(self) -> None:
        """Give back the memory of account files, and of search indexes, that nobody has used since the last but one
        call."""
        self._accounts.close_unused()
        self.index.close_unused()

    async def close(self) -> None:
        """Finish what waits and close all files; the next start then needs no recovery."""
        await self.index.close()
        await self._committer.close()
        self._computing.shutdown(cancel_futures=True)
        self.read_ahead.close()
        self._accounts.close()
        self.pending.close()
        self.directory.close()
        os.close(self._lock)

    async def read(self, account: int, work: Callable[[Tx], T]) -> T:
        """Run `work` in one read transaction; bounded by the caller (256 rows or 1 MiB). Suspends only before it, where
        the account's file has to be opened, or to be given what was taken for it, here or by another worker.

        Raises what `work` raises, and Unavailable.
        """
        try:
            if self._committer.intake.is_behind(account):
                await self._committer.catch_up(account)
            if self._relay is not None and self._relay.is_behind(account):
                await self._relay.catch_up(account)
            file = self._accounts.get(account) or await self._open(account)
            return self._read_file(file, work)
        except Unavailable as failure:
            self._damage.tell(account, failure)
            raise

    async def usage(self, account: int) -> Usage:
        """What the account keeps, what was taken for it included: that stays where it is, since this is asked for each
        message where there are quotas. Raises Unavailable."""
        if self._relay is not None and self._relay.is_behind(account):
            await self._relay.catch_up(account)
        file = await self._open(account)
        if file.busy:  # perhaps some is being put in
            return await self.read(account, quota.usage)
        used, held = self._read_file(file, quota.usage), self._committer.intake.held(account)
        return Usage(used.octets + held.octets, used.messages + held.messages)

    async def _open(self, account: int) -> AccountFile:
        """The account's file, for use at once, without waiting. Raises Unavailable."""
        file = self._accounts.get(account)
        if file is None:
            file = await self._accounts.open(account, int(self.clock()))
            file.pins -= 1
        return file

    def _read_file(self, file: AccountFile, work: Callable[[Tx], T]) -> T:
        try:
            tx = file.read_tx(int(self.clock()))
            tx.execute("BEGIN")
            try:
                return work(tx)
            finally:
                tx.execute("COMMIT")
        except apsw.Error as error:
            raise database.unavailable(error) from error

    def is_removed(self, error: BaseException) -> bool:
        """Whether an account's file is missing because there is no such account any more: then that is no damage, and
        its sessions are about to end (`forget_removed_accounts`). Raises Unavailable."""
        return isinstance(error, database.Missing) and not self.directory.has_account(error.account)

    def _address_of(self, account: int) -> str | None:
        known = self.directory.account_by_id(account)
        return None if known is None else known.address

    async def compute(self, work: Callable[[], T]) -> T:
        """Run what would keep others waiting, such as parsing more than `content.LARGEST_INLINE`, in the one thread for
        it: a second one would get nothing done sooner, only keep the event loop from running."""
        return await asyncio.get_running_loop().run_in_executor(self._computing, work)

    async def compute_sized(self, octets: int, work: Callable[[], T]) -> T:
        """Run what looks at so many octets: at once where they are few, else as `compute` does."""
        return work() if octets <= LARGEST_INLINE else await self.compute(work)

    async def write(self, account: int, work: Callable[[Tx], T], *, is_short: bool = False) -> T:
        """Run `work` in a write transaction; it is durable when this returns. It may run twice. `is_short`: it takes
        less than a millisecond.

        Raises what `work` raises, and Unavailable. If the caller is cancelled, the commit still happens.
        """
        if self._relay is not None and self._relay.is_behind(account):
            await self._relay.catch_up(account)
        return await self._with_room(
            account, lambda: self._write_synced(account, work, 0, is_short=is_short)
        )

    async def _with_room(self, account: int, attempt: Callable[[], Awaitable[T]]) -> T:
        """Where it fails for want of room for keywords, it is tried again once those that no message has are forgotten.
        That is durable first: what is appended then may be replayed from the journal."""
        with suppress(keywords.Full):
            return await attempt()
        await self._write_synced(account, keywords.forget_unused, 0)
        return await attempt()

    async def catch_up(self, account: int) -> None:
        """Put into an account's file what this worker took for it."""
        await self._committer.catch_up(account)

    async def _write_synced(
        self, account: int, work: Callable[[Tx], T], octets: int, *, is_short: bool = False
    ) -> T:
        # One batch of what was taken goes in front in any case, but not all.
        if self._committer.intake.is_behind(account):
            await self._committer.catch_up(account)
        return await self._submit(account, work, None, octets, is_short=is_short)

    def _submit(
        self,
        account: int,
        work: Callable[[Tx], T],
        journalled: Callable[[T], Framed | None] | None,
        octets: int,
        *,
        is_short: bool = False,
    ) -> "asyncio.Future[T]":
        """Who awaits it keeps it in no name: an exception in it would know the frame that has it, and so keep all that
        stands there, a session and its connection, until Python looks for cycles."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._committer.submit(account, Unit(work, journalled, 0, future, octets, is_short))
        return future

    async def share(self, account: int, mailbox: int, grantee: int, mode: str, rights: str) -> None:
        """Change what another account may do with a mailbox, see `acl.change`; durable when this returns.

        The directory says whose files to look into for what is shared. It says so before the file does, and for as
        long: whoever takes the last right away looks again afterwards, whoever gives one notes it again.

        Raises Refused NONEXISTENT or LIMIT, and Unavailable.
        """

        def work(tx: Tx) -> bool:
            mailboxes.by_id(tx, mailbox)
            acl.change(tx, mailbox, grantee, mode, rights)
            return acl.has_any(tx, grantee)

        if mode != "-" and rights:
            await self._note_share(account, grantee, shares=True)
        if await self.write(account, work):
            await self._note_share(account, grantee, shares=True)
        else:
            await self._note_share(account, grantee, shares=False)
            if await self.read(account, lambda tx: acl.has_any(tx, grantee)):
                await self._note_share(account, grantee, shares=True)
        # Who is shared with may not have looked into this account yet. (0: anyone)
        self._notifier.notify(grantee, {0})

    async def _note_share(self, account: int, grantee: int, *, shares: bool) -> None:
        if self.directory.shares(account, grantee) != shares:
            path = self.data_dir / "directory.db"
            await asyncio.to_thread(set_share, path, account, grantee, shares=shares)

    async def append(self, account: int, item: Append) -> Appended:
        """Add a message to a mailbox; it is durable when this returns.

        Raises Refused TRYCREATE or LIMIT, and Unavailable.
        """
        if item.keywords:
            return await self._with_room(account, lambda: self._append(account, item))
        return await self._append(account, item)

    async def _append(self, account: int, item: Append) -> Appended:
        if item.size > LARGEST_JOURNALLED:
            return await self._append_large(account, item)
        if self._committer.intake.is_behind(account):
            await self._committer.catch_up(account)
        return await self.append_soon(account, item)

    def append_soon(self, account: int, item: Append) -> "asyncio.Future[Appended]":
        """`append` for a caller that does several at once: they become durable together."""
        if item.size > LARGEST_JOURNALLED:
            return asyncio.ensure_future(self._append_large(account, item))
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        future.add_done_callback(self._count_stored)
        clock, run = self.clock, self._journal.run

        def journalled(given: Appended) -> Framed | None:
            return format_record(run, account, item, given, int(clock())) if given.uid else None

        unit = Unit(
            lambda tx: appending.append(tx, item), journalled, item.size + 512, future, item.size
        )
        self._committer.submit(account, unit)
        return future

    async def deliver(self, account: int, item: Append) -> Appended | None:
        """Add a message to INBOX for somebody who needs no numbers; it is durable when this returns. None: it has none
        yet, and the trace is told when it has.

        Raises as `append` does.
        """
        done: Appended | None = await self.deliver_soon(account, item)
        return done

    def deliver_soon(self, account: int, item: Append) -> "asyncio.Future[Any]":
        """`deliver` for a caller that does several at once."""
        # What lies in a temporary file of the session's is not there any more when the account's file gets it.
        if item.size <= LARGEST_JOURNALLED and isinstance(item.content.octets, bytes):
            taken = self._committer.take(account, item)
            if taken is not None:
                taken.add_done_callback(self._count_stored)
                return taken
        return self.append_soon(account, item)

    def _count_stored(self, done: "asyncio.Future[Any]") -> None:
        """One that could not be stored, or was there before (no UID), is none; what was taken has no numbers yet."""
        if not done.cancelled() and done.exception() is None:
            given: Appended | None = done.result()
            self.tally.stored += given is None or given.uid > 0

    async def append_all(
        self,
        account: int,
        items: Sequence[Append],
        work: Callable[[Tx], object] = lambda _tx: None,
    ) -> list[Appended]:
        """Add messages all at once or not at all, and run `work` behind them in the same transaction; all is durable
        when this returns.

        Raises as `append` does, and what `work` raises.
        """
        return await self._with_room(account, lambda: self._append_all(account, items, work))

    async def _append_all(
        self, account: int, items: Sequence[Append], work: Callable[[Tx], object]
    ) -> list[Appended]:
        staged: dict[int, int] = {}

        def append_staged(tx: Tx) -> list[Appended]:
            done = appending.append_all(tx, items, staged)
            work(tx)
            return done

        try:
            for number, item in enumerate(items):
                if item.content.body_size > 2 * PIECE_OCTETS:
                    staged[number] = await self._write_soon(account, appending.stage)
                    await self._write_pieces(account, item, staged[number])
            octets = sum(min(item.size, PIECE_OCTETS) for item in items)
            given = await self._write_synced(account, append_staged, octets)
            self.tally.stored += sum(each.uid > 0 for each in given)
            return given
        except (Refused, Unavailable, asyncio.CancelledError):
            for content in staged.values():
                self._discard(account, content)
            raise

    async def _write_pieces(self, account: int, item: Append, content: int) -> None:
        """The pieces of a staged body but the first."""
        for piece in range(1, item.content.pieces):
            await self._write_soon(
                account,
                partial(
                    appending.insert_body_piece, content=item.content, number=content, piece=piece
                ),
                PIECE_OCTETS,
            )

    def _discard(self, account: int, content: int) -> None:
        """Give up a staged body, without waiting for it."""
        future = asyncio.get_running_loop().create_future()
        unit = Unit(lambda tx: appending.discard_staged(tx, content), nothing, 0, future)
        self._committer.submit(account, unit)

    async def _append_large(self, account: int, item: Append) -> Appended:
        """As `append`, and counted."""
        given = await self._write_large(account, item)
        self.tally.stored += given.uid > 0
        return given

    async def _write_large(self, account: int, item: Append) -> Appended:
        """Bodies of more than a piece are written piece by piece, so that the loop and other writers go on."""
        if item.content.body_size <= 2 * PIECE_OCTETS:
            return await self._write_synced(
                account, lambda tx: appending.append(tx, item), item.size
            )
        content = await self._write_soon(account, appending.stage)
        try:
            await self._write_pieces(account, item, content)
            return await self._write_synced(
                account, lambda tx: appending.append(tx, item, content), PIECE_OCTETS
            )
        except (Refused, Unavailable, asyncio.CancelledError):
            self._discard(account, content)
            raise

    async def _write_soon(self, account: int, work: Callable[[Tx], T], octets: int = 0) -> T:
        """A write that a later `write` to the same account makes durable."""
        return await self._submit(account, work, nothing, octets)

    async def write_lazily(self, account: int, work: Callable[[Tx], T]) -> T:
        """A write that may be lost with the power; for what nobody was promised (the mark of \\Recent)."""
        return await self._write_soon(account, work)

    def hinted(self, account: int, mailboxes: set[int]) -> None:
        """Another worker changed these."""
        self._notifier.deliver_soon(account, mailboxes)

    def subscribe(self, account: int, listener: Listener) -> Callable[[], None]:
        """Get hints about an account's mailboxes; returns the function that ends it."""
        return self._notifier.subscribe(account, listener)

    def lock_maildrop(self, account: int) -> int | None:
        """Take the maildrop of an account whose file was opened for one POP3 session: the descriptor that holds it
        until it is closed, or None where another session has it. Raises Unavailable."""
        return maildrop.try_lock(self.data_dir / "accounts", account)

    async def reclaim(self, account: int) -> int:
        """Give back the space of messages that were expunged long ago; returns how many there were. A body that is half
        written at two calls is one that a killed worker left, for these come hours apart: it goes, too.

        Raises Unavailable.
        """
        path = self._accounts.path(account)
        if not path.exists():
            return 0
        now_s = int(self.clock())
        contents, staged = await asyncio.to_thread(_find_reclaimable, account, path, now_s)
        dead = staged & self._staged.pop(account, frozenset())
        if staged:
            self._staged[account] = staged - dead
        for content in dead:
            await self._write_soon(
                account,
                partial(appending.discard_staged, content=content),
            )
        for start in range(0, len(contents), reclaim.SLICE):
            part = contents[start : start + reclaim.SLICE]
            await self._write_soon(account, lambda tx, part=part: reclaim.reclaim(tx, part))  # type: ignore[misc]
        await self._write_soon(account, reclaim.forget_old)
        return len(contents)

    def forget_removed_accounts(self) -> None:
        """Close and delete the files of accounts that the directory no longer has. Raises Unavailable."""
        intake = self._committer.intake
        # A file that was deleted meanwhile may be closed, and mail for it be waiting.
        for account in {*self._accounts.open_accounts(), *intake}:
            if self.directory.account_by_id(account) is None:
                intake.forget(account)
                self._accounts.forget(account)
                self.index.forget(account)
                remove_account_files(self.data_dir, account)


def _make_folders(*folders: Path) -> None:
    """Of a new data folder, durably: what is synced in them later must be found after a power cut."""
    made = [folder for folder in folders if not folder.exists()]
    for folder in made:
        folder.mkdir(mode=0o700, exist_ok=True)
    for parent in {folder.parent for folder in made}:
        database.sync_folder(parent)


def _mark_nothing(_account: int, _change: int) -> None:
    """Nobody else is there to see it."""


def _find_reclaimable(account: int, path: Path, now_s: int) -> tuple[list[int], frozenset[int]]:
    """Contents whose time is over, and those that are half written. Grows with the account: blocks, for a thread."""
    try:
        connection = database.connect(path)
        try:
            tx = Tx(account, connection, {}, now_s)
            return reclaim.find_reclaimable(tx), appending.staged(tx)
        finally:
            connection.close()
    except apsw.Error as error:
        raise database.unavailable(error, path) from error


def remove_account_files(data_dir: Path, account: int) -> None:
    """Delete the files of an account."""
    folder = data_dir / "accounts"
    path = account_path(folder, account)
    search_index.remove(path)
    others = (
        Path(f"{path}-wal"),
        Path(f"{path}-shm"),
        lock_path(path),
        maildrop.lock_path(folder, account),
    )
    made.forget(path)
    for name in (path, *others):
        name.unlink(missing_ok=True)
