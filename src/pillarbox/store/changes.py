"""What happened in a mailbox since a ModSeq, for sessions that keep a view and for resynchronisation (RFC 7162)."""

from collections.abc import Collection
from dataclasses import dataclass, field

from pillarbox.store import mailboxes
from pillarbox.store.mailboxes import Mailbox
from pillarbox.store.tx import Tx

MOST_ROWS = 2000
"""Rows of changes that are told apart; a session that is further behind looks at all that it knows."""

SCANNED_UIDS = 2000
SCANNED_RANGES = 500
"""What one look for changed flags goes through: a few milliseconds."""

Ranges = list[tuple[int, int]]
FlagRows = list[tuple[int, int, int]]
"""(uid, flags, modseq) of messages."""


@dataclass(slots=True)
class Changes:
    """What a session lacks, but for new messages: those from the UID on that it expects. Ranges are of UIDs, inclusive,
    ascending and disjoint."""

    mailbox: Mailbox
    vanished: Ranges = field(default_factory=list)
    """In which messages were expunged; may name UIDs that the session never saw."""
    flagged: Ranges = field(default_factory=list)
    """Known ones, among which `flags_since` finds those whose flags changed."""
    is_far: bool = False
    """Too much happened: `vanished` is empty, and what is gone must be found by looking for all that is known."""


def since(
    tx: Tx, mailbox: int, modseq: int, known_uidnext: int, own: Collection[int] = ()
) -> Changes | None:
    """What changed above `modseq`, flags by `own` ModSeqs left out; None where nothing did. In bounded time.

    Raises Refused NONEXISTENT if the mailbox was deleted.
    """
    if mailboxes.stands_at(tx, mailbox, modseq, known_uidnext):
        return None
    now = mailboxes.by_id(tx, mailbox)
    known = [(1, known_uidnext - 1)] if known_uidnext > 1 else []
    rows = tx.rows(
        "SELECT first_uid, last_uid, kind, modseq FROM change"
        " WHERE account = ? AND mailbox = ? AND modseq > ? LIMIT ?",
        (tx.account, mailbox, modseq, MOST_ROWS + 1),
    )
    if len(rows) > MOST_ROWS:
        return Changes(now, [], known, is_far=True)
    vanished: Ranges = []
    flagged = known if modseq < now.change_floor else []
    for first, last, kind, changed in rows:
        if kind == mailboxes.EXPUNGED:
            vanished.append((first, last))
        elif modseq >= now.change_floor and changed not in own:
            flagged.append((first, min(last, known_uidnext - 1)))
    return Changes(now, merge(vanished), merge(flagged))


def flags_since(tx: Tx, mailbox: int, ranges: Ranges, modseq: int) -> tuple[FlagRows, Ranges]:
    """Of the messages in these ranges of UIDs, those whose flags changed above `modseq`, and the ranges that are left
    for another look."""
    found: FlagRows = []
    room = SCANNED_UIDS
    for number, (first, last) in enumerate(ranges):
        if room <= 0 or number == SCANNED_RANGES:
            return found, ranges[number:]
        end = min(last, first + room - 1)
        found += tx.rows(
            "SELECT uid, flags, modseq FROM message WHERE account = ? AND mailbox = ?"
            " AND uid BETWEEN ? AND ? AND modseq > ?",
            (tx.account, mailbox, first, end, modseq),
        )
        room -= end - first + 1
        if end < last:
            return found, [(end + 1, last), *ranges[number + 1 :]]
    return found, []


Place = tuple[int, int]
"""A row of changes: its ModSeq and first UID."""


def vanished_since(
    tx: Tx, mailbox: int, modseq: int, behind: Place | None = None
) -> tuple[Ranges, Place | None]:
    """UIDs expunged above `modseq` in no order, in a slice, and where the next one begins (None: that was all)."""
    rows = tx.rows(
        "SELECT first_uid, last_uid, modseq FROM change WHERE account = ? AND mailbox = ?"
        " AND (modseq, first_uid) > (?, ?) AND kind = 2 ORDER BY modseq, first_uid LIMIT ?",
        (tx.account, mailbox, *(behind or (modseq, 1 << 32)), MOST_ROWS),
    )
    place = (rows[-1][2], rows[-1][0]) if len(rows) == MOST_ROWS else None
    return [(first, last) for first, last, _ in rows], place


def came_since(tx: Tx, mailbox: int, modseq: int, below: int) -> tuple[list[int], bool]:
    """UIDs below `below`, descending, down to the first message that did not change above `modseq`, in a slice, and
    whether there may be more. All that came above `modseq` is among them, for ModSeqs of new messages ascend."""
    found: list[int] = []
    rows = tx.execute(
        "SELECT uid, modseq FROM message WHERE account = ? AND mailbox = ? AND uid < ?"
        " ORDER BY uid DESC LIMIT ?",
        (tx.account, mailbox, below, SCANNED_UIDS),
    )
    for uid, changed in rows:
        if changed <= modseq:
            return found, False
        found.append(uid)
    return found, len(found) == SCANNED_UIDS


def flagged_since(
    tx: Tx, mailbox: int, modseq: int, behind: Place | None = None
) -> tuple[Ranges, Place | None]:
    """Ranges of UIDs among which are all whose flags changed above `modseq`, in a slice as `vanished_since`; all UIDs
    where that is not known any more."""
    if modseq < mailboxes.by_id(tx, mailbox).change_floor:
        return [(1, (1 << 32) - 1)], None
    rows = tx.rows(
        "SELECT first_uid, last_uid, modseq FROM change WHERE account = ? AND mailbox = ?"
        " AND (modseq, first_uid) > (?, ?) AND kind = 1 ORDER BY modseq, first_uid LIMIT ?",
        (tx.account, mailbox, *(behind or (modseq, 1 << 32)), MOST_ROWS),
    )
    place = (rows[-1][2], rows[-1][0]) if len(rows) == MOST_ROWS else None
    return [(first, last) for first, last, _ in rows], place


def merge(ranges: Ranges) -> Ranges:
    """Inclusive ranges in any order, sorted and joined where they meet; empty ones dropped."""
    merged: Ranges = []
    for first, last in sorted(ranges):
        if last < first:
            continue
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


FLAG_CHANGES_KEPT = 1000
"""Rows of flag changes that a mailbox keeps; a session that is further behind reads all flags anew."""


def trim(tx: Tx, mailbox: int) -> None:
    """Forget old flag changes, raising the mailbox's floor. Expunges stay."""
    row = tx.row(
        "SELECT modseq FROM change WHERE account = ? AND mailbox = ? AND kind = 1"
        " ORDER BY modseq DESC LIMIT 1 OFFSET ?",
        (tx.account, mailbox, FLAG_CHANGES_KEPT),
    )
    if row is None:
        return
    tx.execute(
        "DELETE FROM change WHERE account = ? AND mailbox = ? AND kind = 1 AND modseq <= ?",
        (tx.account, mailbox, row[0]),
    )
    tx.execute(
        "UPDATE mailbox SET change_floor = max(change_floor, ?) WHERE account = ? AND mailbox = ?",
        (row[0], tx.account, mailbox),
    )
