"""Mailboxes of an account: their names, counters, UIDVALIDITY and subscriptions (RFC 3501 §2.3.1, §5.1).

A name is a tuple of components, whatever separator clients see. INBOX is mailbox 1 for ever; its name in any case
is `("INBOX",)`. Durable by `store.write`.
"""

import re
from dataclasses import dataclass
from sys import intern

from pillarbox.core.errors import Refused
from pillarbox.store import metadata
from pillarbox.store.numbers import HIGHEST_MODSEQ, ensure_can_be
from pillarbox.store.tx import Tx

Name = tuple[str, ...]

INBOX = 1
INBOX_NAME: Name = ("INBOX",)

FIRST_MAILBOXES: tuple[tuple[str, str], ...] = (
    ("INBOX", ""),
    ("Sent", "\\Sent"),
    ("Drafts", "\\Drafts"),
    ("Trash", "\\Trash"),
    ("Junk", "\\Junk"),
    ("Archive", "\\Archive"),
)
"""What a new account has, with the special use of each (RFC 6154 §2)."""

MOST_MAILBOXES = 10_000
MOST_SUBSCRIPTIONS = 10_000
LONGEST_NAME = 1000
"""Characters of a whole name."""
DEEPEST_NAME = 64

SEPARATOR = "\x1f"
"""Of components in a column."""
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_COLUMNS = (
    "mailbox, name, uidvalidity, uidnext, recent_uid, messages, unseen, deleted, octets, modseq,"
    " change_floor, special_use"
)


@dataclass(slots=True)
class Mailbox:
    """A mailbox as it was when it was read."""

    id: int
    name: Name
    uidvalidity: int
    uidnext: int
    recent_uid: int
    """Messages from this UID on are \\Recent to the next session that selects for writing."""
    messages: int
    unseen: int
    deleted: int
    octets: int
    modseq: int
    """HIGHESTMODSEQ (RFC 7162 §3.1.2.1)."""
    change_floor: int
    special_use: str
    """RFC 6154's attributes with their backslashes, parted by spaces, or ''."""


def split_name(text: str) -> Name:
    """A name as it stands in a column. Who watches thousands of mailboxes of one account holds their names, so their
    components are held once."""
    return tuple(map(intern, text.split(SEPARATOR)))


def _mailbox(row: tuple[int, str, int, int, int, int, int, int, int, int, int, str]) -> Mailbox:
    return Mailbox(row[0], split_name(row[1]), *row[2:])


def normal_name(name: Name) -> Name:
    """INBOX in any case becomes "INBOX", at the top only (RFC 3501 §5.1).

    Raises Refused for names that cannot be made: empty components, control characters, too long or deep.
    """
    if not name or any(not component for component in name):
        raise Refused("a mailbox name must not be empty or have empty parts", "CANNOT")
    # RFC 6855 §3, RFC 9051 §5.1: none of these
    if any(_CONTROLS.search(component) for component in name):
        raise Refused("a mailbox name must not contain control characters", "CANNOT")
    if sum(map(len, name)) + len(name) > LONGEST_NAME or len(name) > DEEPEST_NAME:
        raise Refused("that mailbox name is too long or too deep", "CANNOT")
    if name[0].upper() == "INBOX":
        return ("INBOX", *name[1:])
    return name


def make_first(tx: Tx, generation: int) -> bool:
    """Give a new file its state row and first mailboxes; False if it has them already."""
    if tx.row("SELECT 1 FROM account_state WHERE account = ?", (tx.account,)):
        return False
    tx.execute(
        "INSERT INTO account_state VALUES (?, 1, 1, 1, ?, 0, 0, ?)",
        (tx.account, tx.now_s, generation),
    )
    for name, special_use in FIRST_MAILBOXES:
        create(tx, (name,), special_use)
        subscribe(tx, (name,))
    return True


def next_modseq(tx: Tx) -> int:
    """Raise the account's ModSeq by one and return it. Raises Unavailable where it cannot be."""
    row = tx.row(
        "UPDATE account_state SET modseq = modseq + 1 WHERE account = ? RETURNING modseq",
        (tx.account,),
    )
    assert row is not None
    ensure_can_be(row[0], HIGHEST_MODSEQ)
    return int(row[0])


def raise_modseq(tx: Tx, mailbox: int) -> None:
    """Something of the mailbox itself changed: an annotation (RFC 7162 §3.2)."""
    tx.execute(
        "UPDATE mailbox SET modseq = ? WHERE account = ? AND mailbox = ?",
        (next_modseq(tx), tx.account, mailbox),
    )
    tx.changed.add(mailbox)


def note_account_changed(tx: Tx) -> None:
    """Something changed that belongs to no single mailbox: subscriptions, annotations of the account. Hints tell of
    it under a number that no mailbox has."""
    next_modseq(tx)
    tx.changed.add(metadata.ACCOUNT)


def all_mailboxes(tx: Tx) -> list[Mailbox]:
    """All, sorted by name with INBOX first."""
    rows = tx.rows(f"SELECT {_COLUMNS} FROM mailbox WHERE account = ?", (tx.account,))
    found = [_mailbox(row) for row in rows]
    found.sort(key=lambda mailbox: (mailbox.id != INBOX, mailbox.name))
    return found


def special_uses(tx: Tx) -> list[tuple[Name, str]]:
    """Name and special use of each, sorted by name."""
    rows = tx.rows(
        "SELECT name, special_use FROM mailbox WHERE account = ? ORDER BY name", (tx.account,)
    )
    return [(split_name(name), special_use) for name, special_use in rows]


def find(tx: Tx, name: Name) -> Mailbox | None:
    """By name, INBOX in any case."""
    if name[0].upper() == "INBOX":
        name = ("INBOX", *name[1:])
    row = tx.row(
        f"SELECT {_COLUMNS} FROM mailbox WHERE account = ? AND name = ?",
        (tx.account, SEPARATOR.join(name)),
    )
    return _mailbox(row) if row else None


def get(tx: Tx, name: Name) -> Mailbox:
    """By name. Raises Refused NONEXISTENT."""
    mailbox = find(tx, name)
    if mailbox is None:
        raise Refused("there is no such mailbox", "NONEXISTENT")
    return mailbox


def by_id(tx: Tx, mailbox: int) -> Mailbox:
    """By number. Raises Refused NONEXISTENT when it was deleted."""
    row = tx.row(
        f"SELECT {_COLUMNS} FROM mailbox WHERE account = ? AND mailbox = ?", (tx.account, mailbox)
    )
    if row is None:
        raise Refused("the mailbox was deleted", "NONEXISTENT")
    return _mailbox(row)


def stands_at(tx: Tx, mailbox: int, modseq: int, uidnext: int) -> bool:
    """Whether it is there, and nothing came or changed above a ModSeq."""
    row = tx.row(
        "SELECT modseq, uidnext FROM mailbox WHERE account = ? AND mailbox = ?",
        (tx.account, mailbox),
    )
    return row is not None and row[0] <= modseq and row[1] == uidnext


def has_children(tx: Tx, name: Name) -> bool:
    """Whether there is a mailbox below `name`."""
    prefix = SEPARATOR.join(name)
    return bool(
        tx.row(
            "SELECT 1 FROM mailbox WHERE account = ? AND name > ? AND name < ? LIMIT 1",
            (tx.account, prefix + SEPARATOR, prefix + chr(ord(SEPARATOR) + 1)),
        )
    )


def create(tx: Tx, name: Name, special_use: str = "") -> Mailbox:
    """Make a mailbox, and those above it that are missing (RFC 3501 §6.3.3).

    Raises Refused ALREADYEXISTS, CANNOT, LIMIT.
    """
    name = normal_name(name)
    if find(tx, name) is not None:
        raise Refused("that mailbox exists already", "ALREADYEXISTS")
    row = tx.row("SELECT count(*) FROM mailbox WHERE account = ?", (tx.account,))
    if row and row[0] + len(name) > MOST_MAILBOXES:
        raise Refused(f"an account has at most {MOST_MAILBOXES} mailboxes", "LIMIT")
    for depth in range(1, len(name)):
        if find(tx, name[:depth]) is None:
            _insert(tx, name[:depth], "")
    _insert(tx, name, special_use)
    return get(tx, name)


def _insert(tx: Tx, name: Name, special_use: str) -> None:
    """UIDVALIDITY grows with time and is never given twice, even if a name is used again (RFC 3501 §2.3.1.1)."""
    state = tx.row(
        "UPDATE account_state SET next_mailbox = next_mailbox + 1, modseq = modseq + 1,"
        " uidvalidity = max(uidvalidity + 1, ?) WHERE account = ?"
        " RETURNING next_mailbox - 1, uidvalidity, modseq",
        (tx.now_s, tx.account),
    )
    assert state is not None
    number, uidvalidity, modseq = state
    tx.execute(
        "INSERT INTO mailbox VALUES (?, ?, ?, ?, 1, 1, 0, 0, 0, 0, ?, ?, ?)",
        (tx.account, number, SEPARATOR.join(name), uidvalidity, modseq, modseq, special_use),
    )
    tx.changed.add(number)
    if len(name) > 1:  # RFC 4314 §4: SHOULD inherit the ACL of the one above it
        tx.execute(
            "INSERT INTO acl SELECT a.account, ?, a.grantee, a.rights FROM acl AS a"
            " JOIN mailbox AS b ON b.account = a.account AND b.mailbox = a.mailbox"
            " WHERE b.account = ? AND b.name = ?",
            (number, tx.account, SEPARATOR.join(name[:-1])),
        )


def delete(tx: Tx, name: Name) -> None:
    """Delete a mailbox with its messages. If there are others below it, its name stays as a mere parent, which
    a LIST shows with \\Noselect (RFC 3501 §6.3.4).

    Raises Refused NONEXISTENT, CANNOT for INBOX, HASCHILDREN for a name that is a mere parent.
    """
    mailbox = _get_or_parent(tx, name)
    if mailbox is None:
        raise Refused("there are mailboxes below that name; delete them first", "HASCHILDREN")
    if mailbox.id == INBOX:
        raise Refused("INBOX cannot be deleted", "CANNOT")
    tx.execute(
        "INSERT OR REPLACE INTO expunged SELECT account, content, ? FROM message"
        " WHERE account = ? AND mailbox = ?",
        (tx.now_s, tx.account, mailbox.id),
    )
    metadata.delete_all(tx, mailbox.id)
    for table in ("message", "change", "acl", "mailbox"):  # RFC 4314 §4: the ACL goes with it
        tx.execute(
            f"DELETE FROM {table} WHERE account = ? AND mailbox = ?", (tx.account, mailbox.id)
        )
    tx.execute(
        "UPDATE account_state SET modseq = modseq + 1, messages = messages - ?, octets = octets - ?"
        " WHERE account = ?",
        (mailbox.messages, mailbox.octets, tx.account),
    )
    tx.changed.add(mailbox.id)


def _get_or_parent(tx: Tx, name: Name) -> Mailbox | None:
    """The mailbox, or None where the name is only a parent of others. Raises Refused NONEXISTENT."""
    mailbox = find(tx, name)
    if mailbox is None and not has_children(tx, name):
        raise Refused("there is no such mailbox", "NONEXISTENT")
    return mailbox


def rename(tx: Tx, name: Name, new_name: Name) -> None:
    """Rename a mailbox and all below it; INBOX's messages move into a new mailbox (RFC 3501 §6.3.5).

    Raises Refused NONEXISTENT, ALREADYEXISTS, CANNOT.
    """
    mailbox = _get_or_parent(tx, name)
    new_name = normal_name(new_name)
    if find(tx, new_name) is not None:
        raise Refused("that mailbox exists already", "ALREADYEXISTS")
    if mailbox is not None and mailbox.id == INBOX:
        _move_inbox(tx, mailbox, new_name)
        return
    old = mailbox.name if mailbox else name
    if new_name[: len(old)] == old:
        raise Refused("a mailbox cannot be moved below itself", "CANNOT")
    for depth in range(1, len(new_name)):
        if find(tx, new_name[:depth]) is None:
            _insert(tx, new_name[:depth], "")
    for other in all_mailboxes(tx):
        if other.name[: len(old)] == old:
            moved = normal_name(new_name + other.name[len(old) :])
            if find(tx, moved) is not None:
                raise Refused("a mailbox below that name exists already", "ALREADYEXISTS")
            tx.execute(
                "UPDATE mailbox SET name = ? WHERE account = ? AND mailbox = ?",
                (SEPARATOR.join(moved), tx.account, other.id),
            )
            tx.changed.add(other.id)
    next_modseq(tx)


def _move_inbox(tx: Tx, inbox: Mailbox, new_name: Name) -> None:
    target = create(tx, new_name)
    metadata.copy_all(tx, inbox.id, target.id)
    modseq = next_modseq(tx)
    tx.execute(
        "UPDATE message SET mailbox = ?, modseq = ? WHERE account = ? AND mailbox = ?",
        (target.id, modseq, tx.account, INBOX),
    )
    tx.execute(
        "UPDATE mailbox SET uidnext = ?, recent_uid = ?, messages = ?, unseen = ?, deleted = ?, octets = ?,"
        " modseq = ? WHERE account = ? AND mailbox = ?",
        (
            inbox.uidnext,
            inbox.recent_uid,
            inbox.messages,
            inbox.unseen,
            inbox.deleted,
            inbox.octets,
            modseq,
            tx.account,
            target.id,
        ),
    )
    tx.execute(
        "UPDATE mailbox SET messages = 0, unseen = 0, deleted = 0, octets = 0, modseq = ?"
        " WHERE account = ? AND mailbox = ?",
        (modseq, tx.account, INBOX),
    )
    if inbox.uidnext > 1:
        record_change(tx, INBOX, modseq, [(1, inbox.uidnext - 1)], EXPUNGED)
    tx.changed.update((INBOX, target.id))


FLAGS_CHANGED = 1
EXPUNGED = 2


def record_change(
    tx: Tx, mailbox: int, modseq: int, ranges: list[tuple[int, int]], kind: int
) -> None:
    """Note for other sessions and for QRESYNC what changed; `ranges` are inclusive UIDs."""
    tx.connection.executemany(
        "INSERT OR REPLACE INTO change VALUES (?, ?, ?, ?, ?, ?)",
        [(tx.account, mailbox, modseq, first, last, kind) for first, last in ranges],
    )


def claim_recent(tx: Tx, mailbox: int) -> int:
    """Take the \\Recent messages for one session: returns the first UID of them and moves the mark behind all."""
    row = tx.row(
        "SELECT recent_uid, uidnext FROM mailbox WHERE account = ? AND mailbox = ?",
        (tx.account, mailbox),
    )
    if row is None:
        raise Refused("the mailbox was deleted", "NONEXISTENT")
    if row[0] < row[1]:
        tx.execute(
            "UPDATE mailbox SET recent_uid = uidnext WHERE account = ? AND mailbox = ?",
            (tx.account, mailbox),
        )
    return int(row[0])


def count_recent(tx: Tx, mailbox: Mailbox) -> int:
    """How many messages are \\Recent to the next session."""
    row = tx.row(
        "SELECT count(*) FROM message WHERE account = ? AND mailbox = ? AND uid >= ?",
        (tx.account, mailbox.id, mailbox.recent_uid),
    )
    return int(row[0]) if row else 0


def set_special_use(tx: Tx, mailbox: int, special_use: str) -> None:
    """Give a mailbox a special use, or '' to take it away."""
    tx.execute(
        "UPDATE mailbox SET special_use = ? WHERE account = ? AND mailbox = ?",
        (special_use, tx.account, mailbox),
    )
    tx.changed.add(mailbox)


def subscribe(tx: Tx, name: Name) -> None:
    """Subscribe to a name, which need not exist (RFC 3501 §6.3.6). Raises Refused CANNOT, LIMIT."""
    row = tx.row("SELECT count(*) FROM subscription WHERE account = ?", (tx.account,))
    if row and row[0] >= MOST_SUBSCRIPTIONS:
        raise Refused(f"an account has at most {MOST_SUBSCRIPTIONS} subscriptions", "LIMIT")
    tx.execute(
        "INSERT OR IGNORE INTO subscription VALUES (?, ?)",
        (tx.account, SEPARATOR.join(normal_name(name))),
    )
    note_account_changed(tx)


def unsubscribe(tx: Tx, name: Name) -> bool:
    """False if there was no subscription."""
    joined = SEPARATOR.join(normal_name(name))
    found = tx.row(
        "SELECT 1 FROM subscription WHERE account = ? AND name = ?", (tx.account, joined)
    )
    tx.execute("DELETE FROM subscription WHERE account = ? AND name = ?", (tx.account, joined))
    if found is not None:
        note_account_changed(tx)
    return found is not None


def subscriptions(tx: Tx) -> list[Name]:
    """Sorted; names without a mailbox included."""
    rows = tx.rows("SELECT name FROM subscription WHERE account = ? ORDER BY name", (tx.account,))
    return [split_name(row[0]) for row in rows]
