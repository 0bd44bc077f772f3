"""What the journals have for an account whose file is repaired, put into the new file.

What a file says of how much it has of the journals (its ModSeq, its row in `taken`) may be lost or wrong with the rest,
and what it had may be lost all the same. So a record goes in by whether its message is there: in its place, or its
octets in the file, as those of a message that came at the same time, or that was deleted; each text is there for one
record. Then the file says that it has all of the journals: nothing of them goes in again.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from pillarbox.store import appending, changes, journal, mailboxes
from pillarbox.store.appending import Added, Append, Appended
from pillarbox.store.intake import append_of, last_put
from pillarbox.store.journal import Record
from pillarbox.store.messages import MOST_UIDS
from pillarbox.store.recovery import UIDS_SKIPPED
from pillarbox.store.texts import read_text, write_text
from pillarbox.store.tx import Tx

UNKNOWN_MODSEQ = 1
"""Of a message of which only its place is known, without the date it came. No other has it: it went to a mailbox."""

Figures = tuple[int, int]
"""What tells of a message without its text: the date it came, and its size."""


@dataclass(slots=True)
class Journaled:
    """The records of one account, each once, and the worker whose journal has them."""

    records: list[tuple[str, Record]] = field(default_factory=list)

    @property
    def numbered(self) -> list[Record]:
        """Those whose messages have numbers; the others were only taken."""
        return [record for _, record in self.records if record.uid]


def read_journals(folder: Path, account: int) -> Journaled:
    """From the segments of all workers. Raises OSError."""
    found: dict[tuple[object, ...], tuple[str, Record]] = {}
    for path in journal.segments(folder):
        worker = journal.worker_of(path)
        for record in journal.read_file(path).records:
            if record.account == account:
                key = (record.uid, record.mailbox, record.uidvalidity)
                found[key if record.uid else (0, record.run, record.modseq)] = worker, record
    # What was only taken comes behind what had numbers.
    return Journaled(sorted(found.values(), key=lambda each: (not each[1].uid, each[1].modseq)))


@dataclass(slots=True)
class Lost:
    """A message whose text is lost."""

    envelope: bytes | None
    """None: that is lost, too."""
    mailboxes: list[int] = field(default_factory=list)
    """Its own, and those of its copies: one for each row."""


@dataclass(slots=True)
class Known:
    """What is known of the file beside the rows that were saved."""

    unread: Collection[str]
    """Tables of which rows may be missing."""
    expunges: dict[int, changes.Ranges]
    """UIDs that were expunged, by mailbox."""
    modseq: int
    """The highest that it had given, as far as can be read; it had all up to that."""
    has_modseq: bool
    """There was no higher one."""
    has_all: bool
    """All messages that were not deleted have their rows with the date they came and their size, if not their texts."""
    has_all_texts: bool
    """But for those of mail that was deleted long ago."""
    lost: dict[Figures, list[Lost]]
    """Messages that it had, and whose text it has no more."""


@dataclass(slots=True)
class Put:
    """What went in."""

    filed: list[tuple[Append, Appended]] = field(default_factory=list)
    """What was only taken, with the numbers that it has now."""
    placed: int = 0
    """All in their mailboxes, these too."""
    homeless: list[Append] = field(default_factory=list)
    """Messages whose mailbox is lost: they are not in yet."""
    back: Counter[int] = field(default_factory=Counter)
    """By mailbox: of the messages that the file had."""
    may_be_old: bool = False
    """Some may be of mail that was deleted."""


def give_texts(tx: Tx, records: Iterable[Record], whole: set[int]) -> None:
    """To messages that are there but for their text, or with another one. `whole`: the contents with all their octets,
    to which those are added."""
    for record in records:
        octets = record.prefix + record.octets
        if _give_unknown(tx, record, octets, whole):
            continue
        figures = (tx.account, len(octets), record.internaldate)
        row = tx.row(
            "SELECT content FROM message WHERE account = ? AND size = ? AND internaldate = ?"
            " AND mailbox = ? AND uid = ?",
            (*figures, record.mailbox, record.uid),
        )
        if row is None or (row[0] in whole and read_text(tx, row[0]) == octets):
            continue
        # Not under the number that it has: if that is damaged, it is another message's.
        content = appending.next_content(tx)
        write_text(tx, content, octets)
        tx.execute(
            "UPDATE message SET content = ? WHERE account = ? AND size = ? AND internaldate = ?"
            " AND content = ?",  # copies of it, too
            (content, *figures, row[0]),
        )
        whole.add(content)


def _give_unknown(tx: Tx, record: Record, octets: bytes, whole: set[int]) -> bool:
    """To the message with the record's UID, if that is all that is known of it."""
    row = tx.row(
        "SELECT m.content FROM message AS m JOIN mailbox AS b USING (account, mailbox) WHERE m.account = ?"
        " AND mailbox = ? AND uid = ? AND uidvalidity = ? AND m.modseq = ?",
        (tx.account, record.mailbox, record.uid, record.uidvalidity, UNKNOWN_MODSEQ),
    )
    if row is None or row[0] in whole:
        return False
    content = appending.next_content(tx)
    write_text(tx, content, octets)
    tx.execute(
        "UPDATE message SET content = ?, size = ?, internaldate = ?"
        " WHERE account = ? AND content = ? AND modseq = ?",
        (content, len(octets), record.internaldate, tx.account, row[0], UNKNOWN_MODSEQ),
    )
    whole.add(content)
    return True


def raise_numbers(tx: Tx, records: Collection[Record]) -> None:
    """Above all that are in the file and in the journals, and that may have been given besides."""
    tx.execute(
        "UPDATE account_state SET modseq = max(modseq, ?)",
        (max((record.modseq for record in records), default=0),),
    )
    tx.execute(
        "UPDATE mailbox SET uidnext = max(uidnext, 1 + (SELECT coalesce(max(uid), 0)"
        " FROM message AS m WHERE m.account = mailbox.account AND m.mailbox = mailbox.mailbox))",
        (),
    )
    highest: defaultdict[int, int] = defaultdict(int)
    for record in records:
        highest[record.mailbox] = max(highest[record.mailbox], record.uid)
    for mailbox, uid in highest.items():
        tx.execute(
            "UPDATE mailbox SET uidnext = max(uidnext, ?) WHERE account = ? AND mailbox = ?",
            (uid + 1, tx.account, mailbox),
        )
    # What had numbers since, in a log that is lost, is not in the journal if it was only taken.
    tx.execute("UPDATE mailbox SET uidnext = uidnext + ?", (UIDS_SKIPPED,))


def put_missing(tx: Tx, journaled: Journaled, whole: set[int], known: Known) -> Put:
    """Add messages that the file has not. `whole`: the contents with all their octets."""
    result = Put()
    missing = _not_there(tx, journaled, whole, known)
    claims = _claim_rows(missing, known, result)
    for number, record in enumerate(missing):
        if number in claims:
            for target, is_sure in claims[number]:
                result.may_be_old |= not is_sure
                _add(tx, record, target, result, is_back=is_sure)
        else:
            _put(tx, record, known, result)
    for _, record in journaled.records:
        if record.delivery_key:
            tx.execute(
                "INSERT OR IGNORE INTO delivered VALUES (?, ?, ?)",
                (tx.account, record.delivery_key, record.savedate or tx.now_s),
            )
    note_taken(tx, journaled)
    return result


def note_taken(tx: Tx, journaled: Journaled) -> None:
    """The file has all that was taken, as far as the journals go."""
    for worker, record in journaled.records:
        if not record.uid:
            tx.execute(
                "INSERT INTO taken VALUES (?, ?, ?, ?) ON CONFLICT (account, worker, run)"
                " DO UPDATE SET sequence = max(sequence, excluded.sequence)",
                (tx.account, worker, record.run, record.modseq),
            )


def _not_there(tx: Tx, journaled: Journaled, whole: set[int], known: Known) -> list[Record]:
    """Records whose text is nowhere in the file, or there for another message."""
    sizes = {len(record.prefix) + len(record.octets) for _, record in journaled.records}
    contents: defaultdict[bytes, list[int]] = defaultdict(list)
    for content, size in tx.rows("SELECT content, size FROM rendered ORDER BY content DESC", ()):
        if size in sizes and content in whole:
            contents[_digest(read_text(tx, content))].append(content)
    left = []
    for _, record in journaled.records:  # first those whose own text is sure
        row = tx.row(
            "SELECT content FROM message WHERE account = ? AND mailbox = ? AND uid = ?",
            (tx.account, record.mailbox, record.uid),
        )
        digest = _digest(record.prefix + record.octets)
        if row is not None and row[0] in contents[digest]:
            contents[digest].remove(row[0])
        else:
            left.append((digest, record))
    missing = []
    for digest, record in reversed(left):  # the latest has the latest
        had = _had(tx, record, known) if contents[digest] else None
        own = next((each for each in contents[digest] if _may_be(tx, each, record, had)), None)
        if own is not None:
            contents[digest].remove(own)
        else:
            missing.append(record)
    return missing[::-1]


def _may_be(tx: Tx, content: int, record: Record, had: bool | None) -> bool:
    """Whether a content that has the text of a record, but not its place, may be its message. The file says that it
    `had` that or not. The same text may have come before: a message too many is better than one that is lost."""
    if record.uid and had is False:
        return False
    dates = tx.rows("SELECT internaldate, modseq FROM message WHERE content = ?", (content,))
    if not dates:  # it was deleted, or its row is lost
        return had is not False
    return any(date == record.internaldate or modseq == UNKNOWN_MODSEQ for date, modseq in dates)


def _put(tx: Tx, record: Record, known: Known, result: Put) -> None:
    """A message whose text is not there, and no row that could be its own: unless it was deleted."""
    had, is_expunged = _had(tx, record, known), _is_expunged(record, known)
    if (had or is_expunged) and (known.has_all or known.has_all_texts):
        return
    is_there = tx.row("SELECT 1 FROM mailbox WHERE mailbox = ?", (record.mailbox,))
    if not is_there and "mailbox" not in known.unread:
        return  # it was deleted with its mailbox
    if had is not False and not known.has_all_texts:
        has_expunges = record.uid and "change" not in known.unread and not is_expunged and is_there
        result.may_be_old |= not has_expunges
    if is_expunged:  # that may have been a move
        result.homeless.append(replace(append_of(record), delivery_key=""))
        return
    _add(tx, record, record.mailbox, result, is_back=had is True)


def _add(tx: Tx, record: Record, mailbox: int, result: Put, *, is_back: bool) -> None:
    """Put a message into a mailbox if it takes it. `is_back`: the file had it there."""
    item = append_of(record)
    box = tx.row(
        "SELECT uidvalidity, uidnext FROM mailbox WHERE account = ? AND mailbox = ?",
        (tx.account, mailbox),
    )
    if box is None or box[1] > MOST_UIDS:
        result.homeless.append(replace(item, delivery_key=""))
        return
    done = _insert(tx, record, replace(item, mailbox=mailbox), *box)
    result.placed += 1
    result.back[mailbox] += is_back
    if not record.uid:
        result.filed.append((item, done))


def _claim_rows(
    records: list[Record], known: Known, result: Put
) -> dict[int, list[tuple[int, bool]]]:
    """By the index of a record: the mailboxes of its message and of its copies, if it has rows without a text, perhaps
    not the one that it came to; False: these may be another message's."""
    claims: dict[int, list[tuple[int, bool]]] = {}
    asking: defaultdict[Figures, list[int]] = defaultdict(list)
    for number, record in enumerate(records):
        figures = (record.internaldate, len(record.prefix) + len(record.octets))
        lost = known.lost.get(figures, [])
        envelope = append_of(record).content.rendered.envelope if lost else None
        own = [each for each in lost if each.envelope is not None and each.envelope == envelope]
        if own:
            claims[number] = [(mailbox, True) for mailbox in _take(lost, own, record)]
        elif lost:
            asking[figures].append(number)
    for figures, numbers in asking.items():
        lost = [each for each in known.lost[figures] if each.envelope is None]
        if len(numbers) <= len(lost):
            for number in numbers:
                rows = _take(lost, lost, records[number])
                claims[number] = [(mailbox, True) for mailbox in rows]
        elif lost:
            # Some were deleted, and nothing says which: each goes wherever one of them is missing.
            places: Counter[int] = Counter()
            for each in lost:
                result.back.update(each.mailboxes)
                places |= Counter(each.mailboxes)
            for number in numbers:
                claims[number] = [(mailbox, False) for mailbox in sorted(places.elements())]
    return claims


def _take(lost: list[Lost], fitting: list[Lost], record: Record) -> list[int]:
    """The rows of one of the fitting messages, first of one in the record's mailbox. No other record gets it."""
    own = next((each for each in fitting if record.mailbox in each.mailboxes), fitting[0])
    # Not by its value: another one may have the same.
    del lost[next(place for place, each in enumerate(lost) if each is own)]
    return own.mailboxes


def _had(tx: Tx, record: Record, known: Known) -> bool | None:
    """Whether the file had it once, by what it says itself; None: that is lost."""
    if record.delivery_key and tx.row(
        "SELECT 1 FROM delivered WHERE account = ? AND key = ?",
        (tx.account, record.delivery_key),
    ):
        return True
    if record.uid:
        if record.modseq <= known.modseq:
            return True
        return False if known.has_modseq else None
    if record.modseq <= last_put(tx, record.run):
        return True
    return None if "taken" in known.unread else False


def _is_expunged(record: Record, known: Known) -> bool:
    ranges = known.expunges.get(record.mailbox, [])
    place = bisect_right(ranges, (record.uid, 1 << 63)) - 1
    return bool(record.uid) and place >= 0 and ranges[place][1] >= record.uid


def _insert(tx: Tx, record: Record, item: Append, uidvalidity: int, uidnext: int) -> Appended:
    """With the UID that it had, if its mailbox has nothing else there."""
    uid = uidnext
    if (
        record.uid
        and (record.mailbox, record.uidvalidity) == (item.mailbox, uidvalidity)
        and not tx.row(
            "SELECT 1 FROM message WHERE account = ? AND mailbox = ? AND uid = ?",
            (tx.account, record.mailbox, record.uid),
        )
    ):
        uid = record.uid
    modseq, content = mailboxes.next_modseq(tx), appending.next_content(tx)
    savedate = record.savedate or tx.now_s
    appending.insert_messages(tx, [Added(item, uid, modseq, content, savedate)])
    tx.execute(
        "UPDATE mailbox SET uidnext = max(uidnext, ?), modseq = ? WHERE account = ? AND mailbox = ?",
        (uid + 1, modseq, tx.account, item.mailbox),
    )
    return Appended(item.mailbox, uidvalidity, uid, modseq)


def _digest(octets: bytes) -> bytes:
    return blake2b(octets, digest_size=16).digest()
