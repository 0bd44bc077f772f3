"""The search index of each account: which messages may have a text in them, by trigrams of their folded text.

`<id>.idx` beside the account's file is derived data: whatever happens to it, searches stay right, for the messages that
it finds are read, and those that it does not know yet are, too. It is made from an account's first search for text on,
in small batches in a thread of its own, never on the way of a delivery. It holds the contents (`store.content`) up to a
number; the index of another generation of the account's file is begun anew, since numbers may have been given again.

Large messages are not indexed but always looked at. Texts of less than three characters have no trigram.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

import apsw

from pillarbox.core.errors import Failure
from pillarbox.core.memory import give_back
from pillarbox.mime.searched import index_text
from pillarbox.store import database, messages
from pillarbox.store.content import PIECE_OCTETS
from pillarbox.store.tx import Tx

T = TypeVar("T")

BATCH_MESSAGES = 256
BATCH_OCTETS = 512 * 1024
"""Of messages that are indexed in one go: some 100 ms in the thread."""
BATCHES_TO_MERGE = 16
"""So many in a row, and what FTS5 made of them is merged: each look-up goes through all that it has made."""
MERGED_PAGES = 200
"""In one go: some 25 ms in the thread."""
LARGEST_INDEXED = PIECE_OCTETS
"""Octets of a body: what is in its first piece."""
MOST_TRIGRAMS = 32
"""Of texts that are asked for; the rest is seen when the messages are read."""
PROBED_ROWS = 16
"""By the first of a trigram's contents is judged how many it has."""
AS_RARE = 64
"""Trigrams that have so many times the contents of the rarest are not looked up: to go through theirs takes longer
than to read the messages that they would leave out."""
MOST_PROBED = 1024
"""Trigrams of an index of which it is remembered how rare they are: people type a word letter by letter, and search for
it again."""
MOST_FOUND_AT_ONCE = 256
MOST_LOOKED_AT_ONCE = 250_000
"""Contents that a look-up may find on the event loop, where all of its trigrams were looked up before, so that they are
in memory; and, as that is a guess, the contents of the index times its trigrams and ROW_TRIGRAMS: some 5 ms where all
of them are in all contents. To the thread and back takes as long as most look-ups."""
ROW_TRIGRAMS = 8
"""What is found costs as much as to look for so many trigrams."""
MOST_OPEN = 32
CACHE_KIB = 4096
"""Of an index, in memory."""
WORTH_GIVING_BACK_OCTETS = 8 << 20
"""So much has to be freed for the C library to be told: meanwhile nobody else gets memory, for some 0.13 ms for each
MiB that there is."""
FEWEST_MESSAGES = 200
"""With fewer messages in it, an account needs no index."""
BUSY_TIMEOUT_MS = 2000
BEGIN_S = 1.0
"""After a search that wants an index: it is not made while those who search are still reading everything."""

log = logging.getLogger("pillarbox.store")

VERSION = 2
"""`user_version`: of what a message's text is made, and how it is folded (`mime.searched.index_text`). An index of
another version is emptied."""

_SCHEMA = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(text, content='', detail=none, columnsize=0,"
    " tokenize='trigram case_sensitive 1')",
    "CREATE TABLE IF NOT EXISTS large (content INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS state (generation INTEGER NOT NULL, up_to INTEGER NOT NULL)",
    "INSERT INTO state SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM state)",
)
_EMPTY = ("INSERT INTO texts (texts) VALUES ('delete-all')", "DELETE FROM large")


class Reader(Protocol):
    """`Store.read`."""

    def __call__(self, account: int, work: Callable[[Tx], T]) -> Awaitable[T]: ...


@dataclass(slots=True)
class Hits:
    """What the index says of a text: contents above `up_to` are not in it yet."""

    up_to: int
    contents: frozenset[int]
    unknown: int
    """How many those are at most."""

    def may_have(self, content: int) -> bool:
        return content > self.up_to or content in self.contents


@dataclass(slots=True)
class _Batch:
    """Messages to index, `large` not among them, and up to which content that is all."""

    generation: int
    behind: int
    up_to: int
    octets: list[tuple[int, bytes]] = field(default_factory=list)
    large: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Index:
    """An index that is open."""

    connection: apsw.Connection
    used: int
    """In which round."""
    shares: dict[str, float] = field(default_factory=dict)
    """In how many of its contents each of some trigrams is, as a share of all: guessed by the first of them, and as it
    was when somebody asked."""


class SearchIndex:
    """The indexes of all accounts of one process, on one event loop."""

    def __init__(self, path_of: Callable[[int], Path], read: Reader) -> None:
        """`path_of` gives an account's file."""
        self._path_of = path_of
        self._read = read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._in_use = Lock()
        """What is open is used with it only: in the thread, and on the loop while the thread does nothing."""
        self._open: OrderedDict[int, _Index] = OrderedDict()
        self._round = 0
        self._due: OrderedDict[int, None] = OrderedDict()
        """Accounts to index, one after the other."""
        self._later: OrderedDict[int, float] = OrderedDict()
        """Accounts to index BEGIN_S behind a search, and from when on (of the loop's clock), the first one first."""
        self._more = asyncio.Event()
        """For a task that has nothing to do before then."""
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._run(self._close_all)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        def run() -> T:
            with self._in_use:
                return work()

        return self._thread.submit(run)

    # Searching

    async def is_wanted(self, account: int) -> bool:
        """Whether there is an index of the account; it is made, or brought up to date, in a moment if the account has
        some mail."""
        exists = self._exists(account)
        if account in self._due or account in self._later:
            return exists
        if exists or await self._read(account, _count_messages) >= FEWEST_MESSAGES:
            self._later[account] = asyncio.get_running_loop().time() + BEGIN_S
            self._go_on()
        return exists

    def keep_up(self, account: int) -> None:
        """Bring the index up to date, if the account has one."""
        if self._exists(account):
            self.catch_up(account)

    def _exists(self, account: int) -> bool:
        return account in self._open or path_of_index(self._path_of(account)).exists()

    async def find(self, account: int, *wanted: str) -> Hits | None:
        """Which contents may have all of the folded texts; None: any."""
        trigrams = _trigrams(wanted)
        if not trigrams:
            return None
        if not self._exists(account):
            return None
        numbers = await self._read(account, _numbers)
        find = partial(self._find, account, numbers, trigrams)
        try:
            if self._in_use.acquire(blocking=False):
                try:
                    if self._is_quick(account, numbers, trigrams):
                        return find()
                finally:
                    self._in_use.release()
            return await self._run(find)
        except apsw.Error as error:
            path = path_of_index(self._path_of(account))
            if database.is_damage(error):
                log.warning("%s: %s; it is made anew", path, error)
                await self._run(partial(self._discard, account))
                self.catch_up(account)
            else:
                log.warning("%s: %s; it is not used", path, error)
            return None

    def _is_quick(self, account: int, numbers: tuple[int, int], trigrams: list[str]) -> bool:
        index, next_content = self._open.get(account), numbers[1]
        if index is None or next_content * (ROW_TRIGRAMS + len(trigrams)) > MOST_LOOKED_AT_ONCE:
            return False
        shares = [index.shares.get(trigram) for trigram in trigrams]
        known = [share for share in shares if share is not None]
        return len(known) == len(trigrams) and min(known) * next_content <= MOST_FOUND_AT_ONCE

    def _find(self, account: int, numbers: tuple[int, int], trigrams: list[str]) -> Hits | None:
        generation, next_content = numbers
        connection = self._connect(account)
        shares = self._open[account].shares
        with connection:
            found_generation, up_to = _state(connection)
            if found_generation != generation:
                return None
            contents = {content for (content,) in connection.execute("SELECT content FROM large")}
            contents.update(_matching(connection, _rare(connection, trigrams, up_to, shares)))
        return Hits(up_to, frozenset(contents), max(0, next_content - 1 - up_to))

    # Building

    def catch_up(self, account: int) -> None:
        """Index what is not yet indexed, some time soon."""
        if account not in self._later:
            self._due[account] = None
        self._go_on()

    def _go_on(self) -> None:
        self._more.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._build())

    async def finished(self) -> None:
        """Wait until nothing is left to index."""
        if self._task is not None:
            await self._task

    async def _build(self) -> None:
        while self._due or self._later:
            account = await self._next_account()
            if account is None:
                continue
            try:
                await self._build_one(account)
            except (Failure, apsw.Error, OSError) as error:
                log.warning("account %d: its search index cannot be made: %s", account, error)
            except Exception:
                log.exception("account %d: a bug in its search index", account)

    async def _next_account(self) -> int | None:
        """One that is due; None, after a while: look again. Those whose time has not come hold up nobody."""
        now = asyncio.get_running_loop().time()
        while self._later and next(iter(self._later.values())) <= now:
            account, _ = self._later.popitem(last=False)
            self._due[account] = None
        if self._due:
            return self._due.popitem(last=False)[0]
        self._more.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(next(iter(self._later.values())) - now):
                await self._more.wait()
        return None

    async def _build_one(self, account: int) -> None:
        batches = 0
        while True:
            # In this order: what another process has indexed meanwhile is there for the read.
            known = await self._run(lambda: self._up_to(account))
            now = await self._read(account, _numbers)
            behind = await self._run(partial(self._begin, account, now, known))
            batch = await self._read(account, partial(_next_batch, behind=behind))
            if batch is None:
                break
            await self._run_by_halves(partial(self._add, account, batch))
            batches += 1
        if batches >= BATCHES_TO_MERGE:
            # The negative one begins it (SQLite's FTS5, "The 'merge' Command").
            await self._run_by_halves(partial(self._merge, account, -MERGED_PAGES))
            while await self._run_by_halves(partial(self._merge, account, MERGED_PAGES)):
                pass

    async def _run_by_halves(self, work: Callable[[], T]) -> T:
        """Others have the processor half of the time."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        result = await self._run(work)
        await asyncio.sleep(loop.time() - started)
        return result

    def _begin(self, account: int, numbers: tuple[int, int], known: int) -> int:
        """Up to which content there is an index. One that knew contents (`known`, seen before the rest) which are yet
        to come is not of this file."""
        generation, next_content = numbers
        connection = self._connect(account)
        with _immediate(connection):
            found_generation, up_to = _state(connection)
            if found_generation == generation and known < next_content:
                return up_to
            _run_all(connection, _EMPTY)
            connection.execute("UPDATE state SET generation = ?, up_to = 0", (generation,))
        return 0

    def _up_to(self, account: int) -> int:
        # The account may have been removed meanwhile: no index is left behind.
        return _state(self._connect(account))[1] if self._exists(account) else 0

    def _add(self, account: int, batch: _Batch) -> None:
        rows = [(content, _clean(index_text(octets))) for content, octets in batch.octets]
        connection = self._connect(account)
        with _immediate(connection):
            if _state(connection) != (batch.generation, batch.behind):
                return  # another process was faster
            connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", rows)
            connection.executemany(
                "INSERT INTO large VALUES (?)", [(content,) for content in batch.large]
            )
            connection.execute("UPDATE state SET up_to = ?", (batch.up_to,))

    def _merge(self, account: int, pages: int) -> bool:
        """Whether there was something to merge."""
        if not self._exists(account):
            return False
        connection = self._connect(account)
        before = connection.total_changes()
        with _immediate(connection):
            connection.execute("INSERT INTO texts (texts, rank) VALUES ('merge', ?)", (pages,))
        return connection.total_changes() - before > 1

    # Files, with _in_use

    def _connect(self, account: int) -> apsw.Connection:
        index = self._open.get(account)
        if index is not None:
            self._open.move_to_end(account)
            index.used = self._round
            return index.connection
        path = path_of_index(self._path_of(account))
        try:
            connection = _open(path)
        except (apsw.CorruptError, apsw.NotADBError):
            log.warning("%s is damaged; it is made anew", path)
            remove(self._path_of(account))
            connection = _open(path)
        self._open[account] = _Index(connection, self._round)
        if len(self._open) > MOST_OPEN:
            self._close_oldest()
        return connection

    def _close_oldest(self) -> None:
        _, index = self._open.popitem(last=False)
        index.connection.close()

    def close_unused(self) -> None:
        """Close soon what nobody has used since the last but one call: each takes up to CACHE_KIB."""
        self._round += 1
        if self._open:
            self._submit(partial(self._close_older, self._round - 1))

    def _close_older(self, first: int) -> None:
        """Those that were last used before the round `first`."""
        before = database.octets_in_memory()
        while self._open and next(iter(self._open.values())).used < first:
            self._close_oldest()
        if before - database.octets_in_memory() > WORTH_GIVING_BACK_OCTETS:
            give_back()

    def _close_all(self) -> None:
        for index in self._open.values():
            index.connection.close()
        self._open.clear()

    def forget(self, account: int) -> None:
        """Close the index of an account that was removed, and delete it, soon."""
        self._due.pop(account, None)
        self._later.pop(account, None)

        self._submit(partial(self._discard, account))

    def _discard(self, account: int) -> None:
        """With _in_use."""
        index = self._open.pop(account, None)
        if index is not None:
            index.connection.close()
        remove(self._path_of(account))


def path_of_index(account_file: Path) -> Path:
    return account_file.with_suffix(".idx")


def remove(account_file: Path) -> None:
    """Delete the index that belongs to an account's file."""
    path = path_of_index(account_file)
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)


@contextmanager
def _immediate(connection: apsw.Connection) -> Iterator[None]:
    """A transaction that writes: several processes may index the same mail."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _open(path: Path) -> apsw.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        database.keep_plans(connection)
        connection.pragma("journal_mode", "wal")
        # After a power cut the state of some earlier moment is there, whole.
        connection.pragma("synchronous", "NORMAL")
        connection.pragma("cache_size", -CACHE_KIB)
        with _immediate(connection):
            _run_all(connection, _SCHEMA)
            if connection.pragma("user_version") != VERSION:
                _run_all(connection, _EMPTY)
                connection.execute("UPDATE state SET up_to = 0")
                connection.pragma("user_version", VERSION)
    except BaseException:
        connection.close()
        raise
    return connection


def _run_all(connection: apsw.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(statement)


def _state(connection: apsw.Connection) -> tuple[int, int]:
    """Generation, and the content up to which all is indexed."""
    for generation, up_to in connection.execute("SELECT generation, up_to FROM state"):
        if isinstance(generation, int) and isinstance(up_to, int):  # else it is damaged
            return generation, up_to
    return -1, 0


def _clean(text: str) -> str:
    """What SQLite can take, and what does not end its tokenizer."""
    text = text.replace("\0", "\1")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _trigrams(texts: Sequence[str]) -> list[str]:
    """MOST_TRIGRAMS of those of texts, each once. None where there are none."""
    trigrams = dict.fromkeys(
        text[place : place + 3]
        for text in texts
        for place in range(min(len(text) - 2, MOST_TRIGRAMS))
    )
    return list(trigrams)[:MOST_TRIGRAMS]


def _rare(
    connection: apsw.Connection, trigrams: list[str], up_to: int, shares: dict[str, float]
) -> list[str]:
    """The rarest of some trigrams, and those about AS_RARE; just one, if it is in no text. `shares` is what is known of
    some, and grows."""
    share_of: dict[str, float] = {}
    for trigram in trigrams:
        share = shares.get(trigram)
        if share is None:
            rows = _matching(connection, [trigram], PROBED_ROWS)
            if not rows:
                return [trigram]  # not remembered: new mail may have it
            is_probe = len(rows) == PROBED_ROWS
            share = len(rows) / (rows[-1] - rows[0] + 1 if is_probe else up_to)
            if len(shares) >= MOST_PROBED:
                shares.clear()
            shares[trigram] = share
        share_of[trigram] = share
    most = AS_RARE * min(share_of.values())
    return [trigram for trigram, share in share_of.items() if share <= most]


def _matching(connection: apsw.Connection, trigrams: list[str], most: int = -1) -> list[int]:
    """The contents that have all of the trigrams, ascending; the first ones, if `most` is not -1."""
    query = " ".join('"{}"'.format(trigram.replace('"', '""')) for trigram in trigrams)
    rows = connection.execute("SELECT rowid FROM texts WHERE texts MATCH ? LIMIT ?", (query, most))
    return [content for (content,) in rows]


def _count_messages(tx: Tx) -> int:
    row = tx.row("SELECT messages FROM account_state WHERE account = ?", (tx.account,))
    return int(row[0]) if row else 0


def _numbers(tx: Tx) -> tuple[int, int]:
    """The file's generation, and the next content."""
    row = tx.row(
        "SELECT generation, next_content FROM account_state WHERE account = ?", (tx.account,)
    )
    return row or (0, 0)


def _next_batch(tx: Tx, behind: int) -> _Batch | None:
    """The next contents above `behind`; None: there are no more. A body that is still being written has its number
    already: the index goes up to it at most."""
    row = tx.row("SELECT min(content) FROM staged WHERE account = ?", (tx.account,))
    below = row[0] if row and row[0] is not None else 1 << 62
    rows = tx.rows(
        "SELECT content, size, header_size FROM rendered WHERE content > ? AND content < ?"
        " ORDER BY content LIMIT ?",
        (behind, below, BATCH_MESSAGES),
    )
    if not rows:
        return None
    batch = _Batch(_numbers(tx)[0], behind, behind)
    room = BATCH_OCTETS
    for content, size, header_size in rows:
        if size - header_size > LARGEST_INDEXED or header_size > LARGEST_INDEXED:
            batch.large.append(content)
        else:
            if room < size and batch.octets:
                break
            room -= size
            octets = messages.whole(tx, content)
            if octets is not None:
                batch.octets.append((content, octets))
        batch.up_to = content
    return batch
