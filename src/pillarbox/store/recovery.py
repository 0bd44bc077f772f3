"""What is done after an unclean stop: the journals are replayed, and numbers that may have been seen are skipped.

A commit without a sync can be lost with the power, always together with all that came after it in the same file. Each
append that was acknowledged is in a journal with its UID and ModSeq; it is applied if its ModSeq is above the file's,
so a second replay changes nothing. What was only taken (`intake`) is there without numbers; the file says up to which
record it has that, and the rest is given numbers that nobody has seen. An append that was lost and not acknowledged
may have been seen by a session: its UID and ModSeq are never given again, since every file skips more numbers than
could have been waiting.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from pillarbox.core import flags as flag
from pillarbox.core.errors import Unavailable
from pillarbox.store import appending, database, journal, mailboxes
from pillarbox.store.accounts import AccountFile, Accounts, Filed
from pillarbox.store.appending import Added, Append, Appended
from pillarbox.store.directory import Directory
from pillarbox.store.intake import append_all, append_of, find_lacking
from pillarbox.store.retirement import checkpoint
from pillarbox.store.tx import Tx

UIDS_SKIPPED = 8192
"""More than the messages that sessions can see in one mailbox and that a power cut can take: appends that wait for the
journal (unit.MOST_UNITS_A_GROUP for each worker), and what was taken and is in a file that was not synced since
(MOST_UNSYNCED)."""

MOST_UNSYNCED = 2048
"""Of all workers together, but for the last batch of each (intake.MOST_MESSAGES)."""

log = logging.getLogger("pillarbox.store")

Progress = Callable[[int, int], None]

AllFiled = list[tuple[int, list[Append], list[Appended]]]
"""Accounts, and what was appended to each, with its numbers."""


def put_in_order(tx: Tx, generation: int) -> None:
    """Skip numbers in every mailbox and drop half-written bodies, once for each unclean stop."""
    for (content,) in tx.rows("SELECT content FROM staged WHERE account = ?", (tx.account,)):
        appending.discard_staged(tx, content)
    row = tx.row(
        "UPDATE account_state SET generation = ?, modseq = modseq + ?, next_content = next_content + ?"
        " WHERE account = ? RETURNING modseq",
        (generation, UIDS_SKIPPED, UIDS_SKIPPED, tx.account),
    )
    assert row is not None
    modseq = row[0]
    for mailbox, uidnext in tx.rows(
        "SELECT mailbox, uidnext FROM mailbox WHERE account = ?", (tx.account,)
    ):
        # A client may hold a message with one of these UIDs: it learns that it vanished (RFC 7162 §3.2.10).
        mailboxes.record_change(
            tx, mailbox, modseq, [(uidnext, uidnext + UIDS_SKIPPED - 1)], mailboxes.EXPUNGED
        )
        tx.execute(
            "UPDATE mailbox SET uidnext = uidnext + ?, modseq = ? WHERE account = ? AND mailbox = ?",
            (UIDS_SKIPPED, modseq, tx.account, mailbox),
        )


def apply_record(tx: Tx, record: journal.Record) -> bool:
    """Do one append again if the file lacks it; False if it has it, or its mailbox is gone."""
    state = tx.row(
        "SELECT modseq, next_content FROM account_state WHERE account = ?", (tx.account,)
    )
    assert state is not None
    if record.modseq <= state[0]:
        return False
    item = append_of(record)
    row = tx.row(
        "UPDATE mailbox SET uidnext = max(uidnext, ?), messages = messages + 1, unseen = unseen + ?,"
        " deleted = deleted + ?, octets = octets + ?, modseq = ?"
        " WHERE account = ? AND mailbox = ? AND uidvalidity = ? RETURNING 1",
        (
            record.uid + 1,
            0 if record.flags & flag.SEEN else 1,
            1 if record.flags & flag.DELETED else 0,
            item.size,
            record.modseq,
            tx.account,
            record.mailbox,
            record.uidvalidity,
        ),
    )
    if row is None:
        return False
    tx.execute(
        "UPDATE account_state SET modseq = ?, next_content = next_content + 1, messages = messages + 1,"
        " octets = octets + ? WHERE account = ?",
        (record.modseq, item.size, tx.account),
    )
    if item.delivery_key:
        tx.execute(
            "INSERT OR IGNORE INTO delivered VALUES (?, ?, ?)",
            (tx.account, item.delivery_key, record.savedate),
        )
    appending.insert_messages(
        tx, [Added(item, record.uid, record.modseq, state[1], record.savedate)]
    )
    return True


_Identity = tuple[int, int, int, int]
"""Of a record: run, account, UID and ModSeq. Only a copied segment has one that another has."""


@dataclass(slots=True)
class _Records:
    """Of one account: appends with their numbers, and what was taken, by run. A file's name says which worker that was,
    if nobody changed it; the run is in each record."""

    numbered: list[journal.Record] = field(default_factory=list)
    taken: dict[int, list[journal.Record]] = field(default_factory=lambda: defaultdict(list))
    workers: dict[int, str] = field(default_factory=dict)
    """By run."""


@dataclass(slots=True)
class Replayed:
    """What a replay did. `segments` may be removed once the new generation is saved."""

    missing: int = 0
    """Messages that their files lacked."""
    unusable: set[int] = field(default_factory=set)
    """Accounts whose file could not be used: they must not be opened before a replay works."""
    segments: list[Path] = field(default_factory=list)
    damaged: dict[Path, int] = field(default_factory=dict)
    """Segments with damage, and how many octets that is."""
    left: list[Path] = field(default_factory=list)
    """Segments that name one of those."""
    filed: AllFiled = field(default_factory=list)
    """What was only taken and has numbers now, by account, for the trace."""
    removed: dict[int, int] = field(default_factory=dict)
    """Accounts that are not there any more, and how many messages the journal has for them."""


def replay(
    accounts: Accounts,
    folder: Path,
    generation: int,
    now_s: int,
    progress: Progress | None = None,
    held: Collection[int] = (),
) -> Replayed:
    """Apply the journals of all workers, merged by ModSeq, and sync the files. Blocks.

    `generation`: that of this start. `accounts` must have been made with generation 0, so that numbers are skipped
    after the replay of those that have numbers, not before. `held`: accounts that are left alone, as if unusable.
    """
    result = Replayed()
    records: dict[int, _Records] = defaultdict(_Records)
    named_by: dict[Path, set[int]] = {}
    seen: set[_Identity] = set()
    for path in journal.segments(folder):
        named_by[path], lost_octets = _collect(path, records, seen)
        if lost_octets:
            result.damaged[path] = lost_octets
    for number, account in enumerate(sorted(records), 1):
        own = records[account]
        if account in held:
            result.unusable.add(account)
            continue
        try:
            if accounts.is_removed(account):
                result.removed[account] = len(own.numbered) + sum(map(len, own.taken.values()))
            else:
                file = accounts.open_blocking(account, now_s)
                missing, filed = _replay_into(file, own, generation, now_s)
                result.missing += missing
                result.filed += [(account, *each) for each in filed]
        except (apsw.Error, Unavailable) as error:
            log.error("the journal of account %d cannot be replayed: %s", account, error)
            result.unusable.add(account)
        except Exception:  # it must not keep the others waiting
            log.exception("account %d: a bug in the replay of its journal", account)
            result.unusable.add(account)
        if progress:
            progress(number, len(records))
    result.left = [path for path, names in named_by.items() if names & result.unusable]
    result.segments = [path for path in named_by if path not in result.left]
    return result


def replay_late(
    segments: Sequence[Path], generation: int, file: AccountFile, now_s: int
) -> list[Filed]:
    """The same for one account that was unusable, while the server runs: what had no numbers, with those that it got.
    `segments` are those that the start left, and no others: what running workers have taken is not lacking. Blocks.
    Raises apsw.Error, Unavailable."""
    file.lock()
    try:
        database.migrate(file.writer, "account")
    finally:
        file.unlock()
    with file.writer:  # a file that takes nothing says so before all segments are read
        file.writer.execute("UPDATE account_state SET generation = generation")
    records: dict[int, _Records] = defaultdict(_Records)
    seen: set[_Identity] = set()
    try:
        for path in segments:
            with suppress(FileNotFoundError):  # all of it is in the files by now
                _collect(path, records, seen, only=file.account)
        missing, filed = _replay_into(file, records[file.account], generation, now_s)
    except (apsw.Error, Unavailable):
        raise
    except Exception as error:
        log.exception("account %d: a bug in the replay of its journal", file.account)
        text = "the mail file could not be recovered; ask the administrator"
        raise Unavailable(text, "CONTACTADMIN") from error
    log.info("account %d: its journal is replayed now, %d messages", file.account, missing)
    return filed


def _collect(
    path: Path, records: dict[int, _Records], seen: set[_Identity], only: int = 0
) -> tuple[set[int], int]:
    """Add a segment's records, or those of one account only, without what was `seen` in another one; the accounts that
    it names, and how many octets of it are lost. Raises OSError."""
    worker, names, doubles = journal.worker_of(path), set(), 0
    contents = journal.read_file(path)
    for record in contents.records:
        names.add(record.account)
        if only and record.account != only:
            continue
        identity = (record.run, record.account, record.uid, record.modseq)
        if identity in seen:
            doubles += 1
            continue
        seen.add(identity)
        if record.uid:
            records[record.account].numbered.append(record)
        else:
            records[record.account].taken[record.run].append(record)
            records[record.account].workers[record.run] = worker
    if doubles:
        log.warning(
            "the journal %s has %d messages that another file of the journal has, too: one is a copy; they count once",
            path.name,
            doubles,
        )
    return names, contents.lost_octets


def _replay_into(
    file: AccountFile, records: _Records, generation: int, now_s: int
) -> tuple[int, list[Filed]]:
    """How many messages a file lacked, and what of them got numbers."""
    filed: list[Filed] = []
    records.numbered.sort(key=lambda record: record.modseq)
    file.lock()
    try:
        tx = file.write_tx(now_s)
        with file.writer:
            missing = sum(apply_record(tx, record) for record in records.numbered)
            lacking = [
                (records.workers[run], run, batch)
                for run, taken in records.taken.items()
                if (batch := find_lacking(tx, run, taken))
            ]
            if lacking:
                put_in_order(tx, generation)
            for worker, run, batch in lacking:
                done = append_all(tx, worker, run, batch)
                filed.append(([taken.item for taken in batch], done))
                missing += len(batch)
        checkpoint(file.path, file.vfs)
    finally:
        file.unlock()
    return missing, filed


def recover(
    data_dir: Path, lock: int, directory: Directory, now_s: int, vfs: str | None
) -> tuple[int, Replayed]:
    """Replay what an unclean stop left in the journal. `lock` is that of the folder. The new generation is saved before
    the journal goes. Raises Unavailable."""
    folder = data_dir / "journal"
    generation = directory.generation()
    pool = Accounts(data_dir / "accounts", 0, vfs, put_in_order, root=lock)
    pool.knows = directory.has_account
    try:
        if journal.segments(folder):
            database.ensure_writable(folder)  # else each start would skip numbers
        replayed = replay(pool, folder, generation + 1, now_s)
        for account, count in replayed.removed.items():
            log.info(
                "account %d was removed, and with it %d messages in the journal", account, count
            )
        if replayed.segments or replayed.unusable:
            generation += 1
            directory.save_generation(generation)
            _remove_replayed(replayed)
            database.sync_folder(folder)
    except OSError as error:
        raise Unavailable(
            f"{error.filename or folder} cannot be used: {error.strerror or error}"
        ) from error
    finally:
        pool.close()
    return generation, replayed


def _remove_replayed(replayed: Replayed) -> None:
    """Raises OSError."""
    for path, lost_octets in replayed.damaged.items():
        try:
            journal.keep_aside(path, lost_octets)
        except OSError as error:
            log.error("the damaged journal %s stays: it cannot be kept aside: %s", path.name, error)
            replayed.segments = [each for each in replayed.segments if each != path]
    for path in replayed.segments:
        path.unlink()
