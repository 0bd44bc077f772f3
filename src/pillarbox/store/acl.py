"""What others may do with the mailboxes of an account (RFC 4314). Durable by `store.write`.

Others are kept by the number of their account, which is never given again: whoever gets the address of an account that
was removed gets none of its rights. The owner has every right and no entry. An entry goes with its mailbox: a rename
keeps it, `delete_all` removes it, and a new mailbox gets those of the one above it.
"""

from dataclasses import dataclass

from pillarbox.core.errors import Refused
from pillarbox.core.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, SYSTEM_MASK
from pillarbox.store import keywords, mailboxes, messages
from pillarbox.store.flags import change_flags
from pillarbox.store.tx import Tx

RIGHTS = "lrswipkxtea"
"""All that there are, in the order in which they are kept and told (RFC 4314 §2.1)."""

ANYONE = 0
"""In place of an account: all of them."""

MOST_ENTRIES = 100
"""Of one mailbox."""
SHARED_A_SLICE = 1000
"""Mailboxes that are read in one go: a few milliseconds."""

_FLAGS = {"s": SEEN, "t": DELETED, "w": ANSWERED | FLAGGED | DRAFT}


@dataclass(slots=True)
class Shared:
    """A mailbox of an account, as another one may use it."""

    mailbox: int
    name: tuple[str, ...]
    rights: str


def in_order(rights: str) -> str:
    """Each right once: `"rl"` -> `"lr"`."""
    return "".join(right for right in RIGHTS if right in rights)


def flags_of(rights: str) -> int:
    """Which system flags may be changed (RFC 4314 §4); with "w" keywords may be, too."""
    mask = 0
    for right, flags in _FLAGS.items():
        if right in rights:
            mask |= flags
    return mask


def store_allowed(
    tx: Tx, where: tuple[int, messages.Ranges], rights: str, system: int, names: tuple[bytes, ...]
) -> int:
    """Let flags be just these, but for those that the rights do not cover: they stay. `where` is a mailbox and UIDs.
    Returns the last ModSeq, 0 where nothing changed."""
    mask = flags_of(rights)
    others: list[bytes] = []
    if "w" in rights:
        kept = {name.lower() for name in names}
        others = [name for name in keywords.all_names(tx) if name.lower() not in kept]
    else:
        names = ()
    removed = change_flags(tx, *where, "-", mask & ~system, others).modseq
    return change_flags(tx, *where, "+", mask & system, names).modseq or removed


def clear_forbidden(tx: Tx, mailbox: int, uids: tuple[int, int], rights: str) -> None:
    """Take the flags that the rights do not cover from messages that were copied (RFC 4314 §4)."""
    forbidden = SYSTEM_MASK & ~flags_of(rights)
    names = [] if "w" in rights else keywords.all_names(tx)
    if forbidden or names:
        change_flags(tx, mailbox, [uids], "-", forbidden, names)


def rights_of(tx: Tx, mailbox: int, grantee: int) -> str:
    """What another account may do: what it was given together with what anyone was."""
    rows = tx.rows(
        "SELECT rights FROM acl WHERE account = ? AND mailbox = ? AND grantee IN (?, ?)",
        (tx.account, mailbox, grantee, ANYONE),
    )
    return in_order("".join(row[0] for row in rows))


def entries(tx: Tx, mailbox: int) -> list[tuple[int, str]]:
    """Grantees and their rights."""
    rows = tx.rows(
        "SELECT grantee, rights FROM acl WHERE account = ? AND mailbox = ? ORDER BY grantee",
        (tx.account, mailbox),
    )
    return [(grantee, rights) for grantee, rights in rows]


def change(tx: Tx, mailbox: int, grantee: int, mode: str, rights: str) -> None:
    """Give rights ("+"), take them ("-"), or let them be just these ("="). Raises Refused LIMIT."""
    key = (tx.account, mailbox, grantee)
    row = tx.row("SELECT rights FROM acl WHERE account = ? AND mailbox = ? AND grantee = ?", key)
    old = row[0] if row else ""
    if mode == "+":
        rights = old + rights
    elif mode == "-":
        rights = "".join(set(old).difference(rights))
    rights = in_order(rights)
    mailboxes.next_modseq(tx)
    tx.changed.add(mailbox)  # sessions of others look whether they may still be there
    if not rights:
        tx.execute("DELETE FROM acl WHERE account = ? AND mailbox = ? AND grantee = ?", key)
        return
    tx.execute("INSERT OR REPLACE INTO acl VALUES (?, ?, ?, ?)", (*key, rights))
    count = tx.row(
        "SELECT count(*) FROM acl WHERE account = ? AND mailbox = ?", (tx.account, mailbox)
    )
    if count and count[0] > MOST_ENTRIES:
        raise Refused(f"a mailbox is shared with at most {MOST_ENTRIES} others", "LIMIT")


def has_any(tx: Tx, grantee: int) -> bool:
    """Whether any mailbox has an entry of a grantee (in its own name, not as anyone)."""
    found = tx.row(
        "SELECT 1 FROM acl WHERE account = ? AND grantee = ? LIMIT 1", (tx.account, grantee)
    )
    return found is not None


def shared_with(tx: Tx, grantee: int, after: int = 0) -> list[Shared]:
    """The mailboxes in which another account may do something, by number from above `after` on: at most SHARED_A_SLICE,
    and more only where it is that many."""
    rows = tx.rows(
        "SELECT a.mailbox, b.name, group_concat(a.rights, '') FROM acl AS a"
        " JOIN mailbox AS b ON b.account = a.account AND b.mailbox = a.mailbox"
        " WHERE a.account = ? AND a.mailbox > ? AND a.grantee IN (?, ?)"
        " GROUP BY a.mailbox ORDER BY a.mailbox LIMIT ?",
        (tx.account, after, grantee, ANYONE, SHARED_A_SLICE),
    )
    return [Shared(row[0], mailboxes.split_name(row[1]), in_order(row[2])) for row in rows]
