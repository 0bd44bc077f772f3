"""What happened in a mailbox since a ModSeq, for sessions that keep a view and for resynchronisation (RFC 7162)."""

from dataclasses import dataclass, field

from pillarbox.store import mailboxes, messages
from pillarbox.store.mailboxes import Mailbox
from pillarbox.store.tx import Tx


@dataclass(slots=True)
class Changes:
    """What a session lacks."""

    mailbox: Mailbox
    vanished: list[tuple[int, int]] = field(default_factory=list)
    """Inclusive UID ranges in which messages were expunged; may name UIDs that the session never saw."""
    flags: list[tuple[int, int, int]] = field(default_factory=list)
    """(uid, flags, modseq) of messages below `known_uidnext` whose flags changed."""
    new: list[tuple[int, int, int]] = field(default_factory=list)
    """(uid, flags, modseq) of messages from `known_uidnext` on, ascending."""


def since(tx: Tx, mailbox: int, modseq: int, known_uidnext: int) -> Changes | None:
    """What changed above `modseq`; None where nothing did. Raises Refused NONEXISTENT if it was deleted."""
    now = mailboxes.by_id(tx, mailbox)
    if now.modseq <= modseq and now.uidnext == known_uidnext:
        return None
    changes = Changes(now)
    flag_ranges: list[tuple[int, int]] = []
    if modseq < now.change_floor:
        flag_ranges = [(1, known_uidnext - 1)] if known_uidnext > 1 else []
    for first, last, kind in tx.rows(
        "SELECT first_uid, last_uid, kind FROM change WHERE account = ? AND mailbox = ? AND modseq > ?",
        (tx.account, mailbox, modseq),
    ):
        if kind == mailboxes.EXPUNGED:
            changes.vanished.append((first, last))
        elif modseq >= now.change_floor:
            flag_ranges.append((first, min(last, known_uidnext - 1)))
    for first, last in merge(flag_ranges):
        changes.flags += tx.rows(
            "SELECT uid, flags, modseq FROM message WHERE account = ? AND mailbox = ?"
            " AND uid BETWEEN ? AND ? AND modseq > ?",
            (tx.account, mailbox, first, last, modseq),
        )
    changes.vanished = merge(changes.vanished)
    if now.uidnext > known_uidnext:
        changes.new = messages.select(
            tx, mailbox, [(known_uidnext, now.uidnext)], ("uid", "flags", "modseq")
        )
    return changes


def merge(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Inclusive ranges in any order, sorted and joined where they meet; empty ones dropped."""
    merged: list[tuple[int, int]] = []
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
