"""Mail that was taken and is not yet in its account files: durable in the journal, acknowledged, and held in memory for
about a second, so that an account gets many messages in one transaction.

Nobody sees that: who reads or writes an account's file gets all into it that was taken before. A message has no UID
until then. `taken`, in the file, says up to which record of this worker's journal the file has them; `recovery`
appends those behind it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pillarbox.store import appending
from pillarbox.store.appending import Append, Appended
from pillarbox.store.content import make_content
from pillarbox.store.journal import Record
from pillarbox.store.quota import Usage
from pillarbox.store.tx import Tx

WAIT_S = 1.0
"""How long a message may stay out of its file."""

RETRY_S = 5.0
"""After a file took nothing (a full disk)."""

MOST_MESSAGES = 32
MOST_OCTETS = 256 * 1024
"""What goes into a file at a time: the event loop waits for it, some 3 ms."""

MOST_OCTETS_HELD = 32 << 20
"""In memory, of all accounts together; beyond that the oldest go into their files at once."""

MOST_OCTETS_TAKEN = 2 * MOST_OCTETS_HELD
"""Likewise; beyond that nothing more is taken, so senders wait until files have theirs."""

_QUEUE_ID = re.compile(rb"\bid ([0-9A-Z]{16})\b")
"""In a Received field: `core.ids.format_queue_id`."""


@dataclass(slots=True)
class Taken:
    """A message for an account's file. `sequence` is its place in the run of the journal, from 1."""

    item: Append
    sequence: int


@dataclass(slots=True)
class _Account:
    """What one file lacks, in order, and when (monotonic, seconds) the next of it shall go there."""

    due: float
    taken: list[Taken] = field(default_factory=list)
    has_failed: bool = False


class Intake:
    """What the account files of this process lack. `worker` and `run` are the journal's."""

    def __init__(
        self,
        worker: str,
        run: int,
        earlier_runs: Iterable[int],
        mark_behind: Callable[[int, int], None],
    ) -> None:
        """`earlier_runs` of this worker have segments yet, so what files say of them stays. `mark_behind` hears of an
        account that something waits for (+1), and that nothing does any more (-1)."""
        self.worker = worker
        self.run = run
        self._earlier_runs = list(earlier_runs)
        self._mark_behind = mark_behind
        self._begun: set[int] = set()
        """Accounts whose file has something of this run."""
        self._accounts: dict[int, _Account] = {}
        """In the order in which they came."""
        self._octets = 0

    def __bool__(self) -> bool:
        return bool(self._accounts)

    def __iter__(self) -> Iterator[int]:
        """The accounts that something waits for."""
        return iter(list(self._accounts))

    def is_behind(self, account: int) -> bool:
        """Whether the account's file lacks something."""
        return account in self._accounts

    def may_take(self, account: int) -> bool:
        """Whether more may be held for an account: there is not too much yet, and its file took what it was given."""
        return self._octets < MOST_OCTETS_TAKEN and not self.has_failed(account)

    def has_failed(self, account: int) -> bool:
        """Whether the account's file did not take what it was given last."""
        known = self._accounts.get(account)
        return known is not None and known.has_failed

    def held(self, account: int) -> Usage:
        """What the file lacks, counted."""
        known = self._accounts.get(account)
        if known is None:
            return Usage(0, 0)
        return Usage(sum(taken.item.size for taken in known.taken), len(known.taken))

    def first_sequence(self, account: int) -> int | None:
        """Of what the file lacks."""
        known = self._accounts.get(account)
        return known.taken[0].sequence if known is not None else None

    def add(self, account: int, taken: Taken, now: float) -> bool:
        """Hold a message; True: there is enough for the account's file to be written now."""
        known = self._accounts.get(account)
        if known is None:
            known = self._accounts[account] = _Account(now + WAIT_S)
            self._mark_behind(account, 1)
        known.taken.append(taken)
        self._octets += taken.item.size
        return len(known.taken) >= MOST_MESSAGES

    def due(self, now: float) -> list[int]:
        """The accounts whose time has come, and the oldest where too much is held."""
        found = []
        octets = self._octets
        for account, known in self._accounts.items():
            if known.due <= now or (octets > MOST_OCTETS_HELD and not known.has_failed):
                found.append(account)
                octets -= sum(taken.item.size for taken in known.taken)
        return found

    def batch(self, account: int) -> list[Taken]:
        """The first of what the file lacks, as much as goes into it at a time; they stay until `put`."""
        batch: list[Taken] = []
        octets = 0
        for taken in self._accounts[account].taken[:MOST_MESSAGES]:
            octets += taken.item.size
            if batch and octets > MOST_OCTETS:
                break
            batch.append(taken)
        return batch

    def put(self, account: int, batch: list[Taken], now: float) -> None:
        """A batch is in the file."""
        known = self._accounts[account]
        del known.taken[: len(batch)]
        known.has_failed = False
        known.due = now
        self._octets -= sum(taken.item.size for taken in batch)
        self._begun.add(account)
        if not known.taken:
            del self._accounts[account]
            self._mark_behind(account, -1)

    def failed(self, account: int, now: float) -> None:
        """A batch could not be put into the file."""
        known = self._accounts[account]
        known.has_failed = True
        known.due = now + RETRY_S

    def forget(self, account: int) -> None:
        """The account was removed."""
        known = self._accounts.pop(account, None)
        if known is not None:
            self._mark_behind(account, -1)
            self._octets -= sum(taken.item.size for taken in known.taken)

    def append_batch(self, tx: Tx, batch: list[Taken]) -> list[Appended]:
        """Put a batch into the file, in its transaction."""
        done = append_all(tx, self.worker, self.run, batch)
        if tx.account not in self._begun:
            runs = [self.run, *self._earlier_runs]
            marks = ",".join("?" * len(runs))
            tx.execute(
                f"DELETE FROM taken WHERE account = ? AND worker = ? AND run NOT IN ({marks})",
                (tx.account, self.worker, *runs),
            )
        return done


def append_all(tx: Tx, worker: str, run: int, batch: Sequence[Taken]) -> list[Appended]:
    """Add messages to the file and note that it has them."""
    done = appending.append_all(tx, [taken.item for taken in batch], {})
    tx.execute(
        "INSERT INTO taken VALUES (?, ?, ?, ?)"
        " ON CONFLICT (account, worker, run) DO UPDATE SET sequence = excluded.sequence",
        (tx.account, worker, run, batch[-1].sequence),
    )
    return done


def last_put(tx: Tx, run: int) -> int:
    """The highest sequence of a run that the file has, whatever worker is said to have run it (a segment may have been
    renamed); 0 for none."""
    row = tx.row("SELECT max(sequence) FROM taken WHERE account = ? AND run = ?", (tx.account, run))
    return row[0] or 0 if row is not None else 0


def find_lacking(tx: Tx, run: int, records: Iterable[Record]) -> list[Taken]:
    """Of what a run took (records of the journal), what is not in the file, in order."""
    last = last_put(tx, run)
    return [
        Taken(append_of(record), record.modseq)
        for record in sorted(records, key=lambda record: record.modseq)
        if record.modseq > last
    ]


def append_lacking(tx: Tx, worker: str, records: list[Record]) -> int:
    """Append what of one run is not in the file; returns how many messages that were."""
    if not records:
        return 0
    run = records[0].run
    batch = find_lacking(tx, run, records)
    if batch:
        append_all(tx, worker, run, batch)
    return len(batch)


def queue_id_of(record: Record) -> str:
    """Of mail that came by a delivery, from the field that we put in front of it; "" for other."""
    match = _QUEUE_ID.search(record.prefix)
    return match[1].decode() if match else ""


def append_of(record: Record) -> Append:
    """What a record of the journal adds."""
    return Append(
        record.mailbox,
        make_content(record.octets),
        record.internaldate,
        record.flags,
        record.keywords,
        record.prefix,
        record.delivery_key,
        queue_id=queue_id_of(record),
    )
