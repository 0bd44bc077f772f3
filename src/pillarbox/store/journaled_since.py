"""What the journals have for an account, and a file of it that was in no use has not: from a backup, or set aside.

The file in use gave numbers that this one gave, too, or skipped (`recovery.put_in_order`, in a backup), and may have
been made anew since, with other UIDVALIDITYs. So ModSeqs do not tell what a file has; the UIDs that it gave do. A
record whose message is not in it goes in as new mail, into its mailbox, or INBOX where that is not there. Then the file
says that it has all of the journals: nothing of them goes in again.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

from pillarbox.core import flags as flag
from pillarbox.store import appending, mailboxes
from pillarbox.store.appending import Added, Append, Appended
from pillarbox.store.intake import append_of, last_put
from pillarbox.store.journal import Record
from pillarbox.store.journaled import Journaled, note_taken
from pillarbox.store.recovery import UIDS_SKIPPED
from pillarbox.store.texts import read_text
from pillarbox.store.tx import Tx

Place = tuple[int, int]
"""Mailbox and UID."""


class _File:
    """What the file has, as it was."""

    def __init__(self, tx: Tx, records: list[Record], *, is_own: bool) -> None:
        """Not `is_own`: it was that of another account, so none of its numbers are those of the records."""
        self._tx = tx
        self._is_own = is_own
        row = tx.row("SELECT max(next_mailbox) FROM account_state", ())
        self._next_mailbox = int(row[0]) if row else 0
        self._uidvalidities = dict(tx.rows("SELECT mailbox, uidvalidity FROM mailbox", ()))
        self._uidnexts = dict(tx.rows("SELECT mailbox, uidnext FROM mailbox", ()))
        self._skips: defaultdict[int, list[Place]] = defaultdict(list)
        """By mailbox: first and last of UIDs that were given to nothing."""
        for mailbox, first, last in tx.rows(
            "SELECT mailbox, first_uid, last_uid FROM change WHERE kind = ? AND last_uid - first_uid = ?",
            (mailboxes.EXPUNGED, UIDS_SKIPPED - 1),
        ):
            self._skips[mailbox].append((first, last))
        wanted = {_figures(record) for record in records}
        self._alike: defaultdict[tuple[int, int, int], dict[Place, int]] = defaultdict(dict)
        rows = tx.rows(
            "SELECT mailbox, uid, content, size, internaldate, savedate FROM message", ()
        )
        for mailbox, uid, content, *figures in rows:
            key = (figures[0], figures[1], figures[2])
            if key in wanted:
                self._alike[key][mailbox, uid] = content

    def mailbox_for(self, record: Record) -> int:
        """Where a message goes that is not there."""
        is_there = self._is_own and record.mailbox in self._uidvalidities
        return record.mailbox if is_there else mailboxes.INBOX

    def keeps_uid(self, record: Record) -> bool:
        """Whether the UID of a record is one of the mailbox that it goes to, and free."""
        return (
            self._is_own
            and record.uid > 0
            and self._uidvalidities.get(record.mailbox) == record.uidvalidity
            and not self._tx.row(
                "SELECT 1 FROM message WHERE account = ? AND mailbox = ? AND uid = ?",
                (self._tx.account, record.mailbox, record.uid),
            )
        )

    def had(self, record: Record) -> bool:
        """Whether it got the message of a record, by what it says itself; it may have been deleted since."""
        if not self._is_own:
            return False
        if record.delivery_key and self._tx.row(
            "SELECT 1 FROM delivered WHERE account = ? AND key = ?",
            (self._tx.account, record.delivery_key),
        ):
            return True
        if not record.uid:
            return record.modseq <= last_put(self._tx, record.run)
        if record.mailbox not in self._uidvalidities:
            return record.mailbox < self._next_mailbox  # it was deleted with its mailbox
        return (
            self._uidvalidities[record.mailbox] == record.uidvalidity
            and record.uid < self._uidnexts[record.mailbox]
            and not any(first <= record.uid <= last for first, last in self._skips[record.mailbox])
        )

    def claim(self, record: Record, *, is_had: bool) -> bool:
        """Whether the message of a record is there, in its place or, not `is_had`, in another: where it was put by an
        earlier call. It is that of no other record then."""
        alike = self._alike[_figures(record)]
        own = (record.mailbox, record.uid)
        for place in [own] if is_had else list(alike):
            content = alike.get(place)
            if content is not None and (
                is_had or read_text(self._tx, content) == record.prefix + record.octets
            ):
                del alike[place]
                return True
        return False


def _figures(record: Record) -> tuple[int, int, int]:
    return (len(record.prefix) + len(record.octets), record.internaldate, record.savedate)


@dataclass(slots=True)
class Put:
    """What went in."""

    messages: int = 0
    filed: list[tuple[Append, Appended]] = field(default_factory=list)
    """Of these, what had been taken only, with the numbers that it has in this file."""


def put_since(tx: Tx, journaled: Journaled, *, is_own: bool) -> Put:
    """Add messages that the file has not. Not `is_own`: it was that of another account."""
    put = Put()
    records = [record for _, record in journaled.records]
    if not records:
        return put
    file = _File(tx, records, is_own=is_own)
    had = [file.had(record) for record in records]
    for record, is_had in zip(records, had, strict=True):
        if is_had:
            file.claim(record, is_had=True)
    missing = [
        record
        for record, is_had in zip(records, had, strict=True)
        if not is_had and not file.claim(record, is_had=False)
    ]
    tx.execute(
        "UPDATE account_state SET modseq = max(modseq, ?) WHERE account = ?",
        (max((record.modseq for record in records if record.uid), default=0), tx.account),
    )
    for record in missing:
        item, done = _add(tx, record, file.mailbox_for(record), keeps_uid=file.keeps_uid(record))
        put.messages += 1
        if not record.uid:
            put.filed.append((item, done))
    note_taken(tx, journaled)
    return put


def _add(tx: Tx, record: Record, mailbox: int, *, keeps_uid: bool) -> tuple[Append, Appended]:
    item = replace(append_of(record), mailbox=mailbox)
    modseq, content = mailboxes.next_modseq(tx), appending.next_content(tx)
    row = tx.row(
        "SELECT uidnext, uidvalidity FROM mailbox WHERE account = ? AND mailbox = ?",
        (tx.account, mailbox),
    )
    assert row is not None
    uid = record.uid if keeps_uid else row[0]
    savedate = record.savedate or tx.now_s
    appending.insert_messages(tx, [Added(item, uid, modseq, content, savedate)])
    tx.execute(
        "UPDATE mailbox SET uidnext = max(uidnext, ?), messages = messages + 1, unseen = unseen + ?,"
        " deleted = deleted + ?, octets = octets + ?, modseq = ? WHERE account = ? AND mailbox = ?",
        (
            uid + 1,
            int(not record.flags & flag.SEEN),
            int(bool(record.flags & flag.DELETED)),
            item.size,
            modseq,
            tx.account,
            mailbox,
        ),
    )
    tx.execute(
        "UPDATE account_state SET messages = messages + 1, octets = octets + ? WHERE account = ?",
        (item.size, tx.account),
    )
    if item.delivery_key:
        tx.execute(
            "INSERT OR IGNORE INTO delivered VALUES (?, ?, ?)",
            (tx.account, item.delivery_key, savedate),
        )
    return item, Appended(mailbox, row[1], uid, modseq)
