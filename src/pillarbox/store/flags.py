"""Flags of messages, always set-wise. Durable by `store.write`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pillarbox.core import flags as flag
from pillarbox.store import keywords, mailboxes
from pillarbox.store.messages import Ranges
from pillarbox.store.tx import Tx


@dataclass(slots=True)
class Flagged:
    """What a change of flags did. `modseq` is the new ModSeq, 0 where nothing changed."""

    modseq: int = 0
    found: int = 0
    """Messages that there are."""
    changed: int = 0
    values: set[int] = field(default_factory=set)
    """Their flags now."""


def change_flags(
    tx: Tx, mailbox: int, ranges: Ranges, mode: str, system: int, names: Sequence[bytes]
) -> Flagged:
    """Set flags ("+", "-" or "=") on the messages in `ranges`.

    `system` are bits, `names` keywords. Messages that have the wanted flags already keep their ModSeq. Raises Refused
    LIMIT where there are too many keywords.
    """
    if mode != "-":
        keywords.ensure_room(tx, names)
    elif names:
        keywords.ensure_room_for_sets(tx)
    account = tx.account
    where = " WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ?"
    done = Flagged()
    unseen = deleted = 0
    targets: dict[int, int] = {}
    changed: list[tuple[int, int]] = []
    for uids in ranges:
        scope = (account, mailbox, *uids)
        touched = False
        for old, count in _flags_in(tx, where, scope):
            if old not in targets:
                targets[old] = _new_flags(tx, old, mode, system, names)
            new = targets[old]
            done.found += count
            if new == old:
                continue
            done.modseq = done.modseq or mailboxes.next_modseq(tx)
            # ModSeq tells rows done in this loop from those that had these flags before.
            tx.execute(
                f"UPDATE message SET flags = ?, modseq = ?{where} AND flags = ? AND modseq < ?",
                (new, done.modseq, *scope, old, done.modseq),
            )
            touched = True
            done.changed += count
            unseen += count * (bool(old & flag.SEEN) - bool(new & flag.SEEN))
            deleted += count * (bool(new & flag.DELETED) - bool(old & flag.DELETED))
        if touched:
            changed.append(uids)
    done.values.update(targets.values())
    if done.modseq:
        tx.execute(
            "UPDATE mailbox SET unseen = unseen + ?, deleted = deleted + ?, modseq = ?"
            " WHERE account = ? AND mailbox = ?",
            (unseen, deleted, done.modseq, account, mailbox),
        )
        mailboxes.record_change(tx, mailbox, done.modseq, changed, mailboxes.FLAGS_CHANGED)
        tx.changed.add(mailbox)
    return done


def _flags_in(tx: Tx, where: str, scope: tuple[int, int, int, int]) -> Iterable[tuple[int, int]]:
    """The flags of some messages, with how many have them. Mostly that is one value, which is found without a sort."""
    row = tx.row(f"SELECT min(flags), max(flags), count(*) FROM message{where}", scope)
    assert row is not None
    least, most, count = row
    if least == most:
        return [(least, count)] if count else ()
    return tx.rows(f"SELECT flags, count(*) FROM message{where} GROUP BY flags", scope)


def _new_flags(tx: Tx, old: int, mode: str, system: int, names: Sequence[bytes]) -> int:
    if mode == "=":
        return system | keywords.set_id(tx, tuple(names)) << flag.KEYWORD_SHIFT
    bits: int = old & flag.SYSTEM_MASK
    bits = bits | system if mode == "+" else bits & ~system
    if not names:
        return (old & ~flag.SYSTEM_MASK) | bits
    present = list(keywords.names_of(tx, old))
    lower = {name.lower() for name in names}
    rest = [name for name in present if name.lower() not in lower]
    wanted = present + list(names) if mode == "+" else rest
    return keywords.set_id(tx, wanted) << flag.KEYWORD_SHIFT | bits
