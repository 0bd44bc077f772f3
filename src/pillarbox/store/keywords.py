"""Interned sets of keywords: `flags >> 5` of a message row is a set's id, 0 for none (RFC 9051 §2.3.2)."""

from collections.abc import Sequence

from pillarbox.core.errors import Refused
from pillarbox.core.flags import KEYWORD_SHIFT, SYSTEM_FLAG_TEXT, SYSTEM_MASK
from pillarbox.store.tx import Tx

MOST_KEYWORDS = 256
"""Different keywords in an account."""
MOST_KEYWORDS_OF_GUESTS = 128
"""While there are fewer, others who may write into a mailbox can make new ones: so its owner always has as many again.
"""
LONGEST_KEYWORD = 128
"""Octets."""
MOST_SETS = 10_000
MOST_SETS_OCTETS = 4 << 20
"""Different sets of keywords in an account, and their names in all: once there are as many, no change may make more.
(One change makes a new set at most of each that there is.)"""
KNOWN_SETS = 512
"""Of an account, of which the names stay in memory."""
KEPT_SETS = 100
"""So many sets of keywords stay, used or not, while few keywords are in them."""


class Full(Refused):
    """There is no room for new keywords or sets of them, unless `forget_unused` makes some."""


def names_of(tx: Tx, flags: int) -> tuple[bytes, ...]:
    """The keywords of a flags value, sorted."""
    number = flags >> KEYWORD_SHIFT
    known = tx.keyword_names.get(number)
    if known is None:
        row = tx.row("SELECT names FROM keyword_set WHERE id = ?", (number,))
        known = tuple(row[0].encode("ascii").split()) if row else ()
        if len(tx.keyword_names) >= KNOWN_SETS:
            tx.keyword_names.clear()
        tx.keyword_names[number] = known
    return known


def all_names(tx: Tx) -> list[bytes]:
    """Every keyword in use in the account, each spelled as first seen, sorted."""
    return sorted(_spellings(tx).values())


def _spellings(tx: Tx) -> dict[bytes, bytes]:
    """All keywords of the account by their small letters."""
    rows = tx.rows("SELECT lower, name FROM keyword WHERE account = ?", (tx.account,))
    return {lower.encode("ascii"): name.encode("ascii") for lower, name in rows}


def has_room(tx: Tx, *, is_guest: bool = False) -> bool:
    """Whether a new keyword can be made now; if not, `forget_unused` may help."""
    (count,) = tx.row("SELECT count(*) FROM keyword WHERE account = ?", (tx.account,)) or (0,)
    return bool(count < _most(is_guest))


def ensure_room(tx: Tx, names: Sequence[bytes], *, is_guest: bool = False) -> None:
    """Before new messages or changes of flags; what is replayed was acknowledged, and needs no room. `is_guest`: the
    account belongs to somebody else. Raises Full, and Refused LIMIT."""
    if not names:
        return
    if any(len(name) > LONGEST_KEYWORD for name in names):
        raise Refused(f"a keyword has at most {LONGEST_KEYWORD} characters", "LIMIT")
    known, most = _known(tx), _most(is_guest)
    new = {name.lower() for name in names} - known.keys()
    if new and len(known) + len(new) > most:
        raise Full(f"an account has at most {most} keywords", "LIMIT")
    ensure_room_for_sets(tx)


def ensure_room_for_sets(tx: Tx) -> None:
    """Before keywords are taken away, too. Raises Full."""
    count, octets = tx.row(
        "SELECT count(*), coalesce(sum(octet_length(names)), 0) FROM keyword_set WHERE account = ?",
        (tx.account,),
    ) or (0, 0)
    if count >= MOST_SETS or octets >= MOST_SETS_OCTETS:
        raise Full(
            "the messages of this account have too many different sets of keywords;"
            " take all keywords from some",
            "LIMIT",
        )


def _most(is_guest: bool) -> int:
    return MOST_KEYWORDS_OF_GUESTS if is_guest else MOST_KEYWORDS


def _known(tx: Tx) -> dict[bytes, bytes]:
    if tx.spellings is None:
        tx.spellings = _spellings(tx)
    return tx.spellings


def set_id(tx: Tx, names: list[bytes] | tuple[bytes, ...]) -> int:
    """The id of the set of these keywords, made if it is new; case-insensitive, first spelling kept.

    In a write only, behind `ensure_room`.
    """
    if not names:
        return 0
    spellings = _known(tx)
    wanted: dict[bytes, bytes] = {}
    for name in names:
        lower = name.lower()
        if lower not in spellings:
            spellings[lower] = name
            tx.execute(
                "INSERT INTO keyword VALUES (?, ?, ?)",
                (tx.account, lower.decode("ascii"), name.decode("ascii")),
            )
        wanted[lower] = spellings[lower]
    joined = b" ".join(sorted(wanted.values())).decode("ascii")
    row = tx.row("SELECT id FROM keyword_set WHERE names = ?", (joined,))
    if row is None:
        row = tx.row(
            "INSERT INTO keyword_set (account, names) VALUES (?, ?) RETURNING id",
            (tx.account, joined),
        )
        assert row is not None
    return int(row[0])


def forget_some(tx: Tx) -> None:
    """`forget_unused`, where there is much to forget."""
    (count,) = tx.row("SELECT count(*) FROM keyword_set WHERE account = ?", (tx.account,)) or (0,)
    if count > KEPT_SETS or not has_room(tx, is_guest=True):
        forget_unused(tx)


def forget_unused(tx: Tx) -> None:
    """Sets that no message has go, and the keywords that are in no other. Looks at all messages: for a thread. The last
    set stays, though without its keywords, so that no id is given twice: what is known of sets stays true."""
    values = (tx.account, KEYWORD_SHIFT)
    tx.execute(
        "DELETE FROM keyword_set WHERE account = ?1 AND id < (SELECT max(id) FROM keyword_set)"
        " AND id NOT IN (SELECT flags >> ?2 FROM message WHERE account = ?1)",
        values,
    )
    row = tx.row(
        "UPDATE keyword_set SET names = '' WHERE account = ?1 AND id = (SELECT max(id) FROM keyword_set)"
        " AND NOT EXISTS (SELECT 1 FROM message WHERE account = ?1 AND flags >> ?2 = keyword_set.id)"
        " RETURNING id",
        values,
    )
    if row is not None:
        tx.keyword_names.pop(row[0], None)
    tx.spellings = None
    names_left = tx.execute("SELECT names FROM keyword_set WHERE account = ?", (tx.account,))
    used = {word for (names,) in names_left for word in names.lower().split()}
    tx.connection.executemany(
        "DELETE FROM keyword WHERE account = ? AND lower = ?",
        [
            (tx.account, lower.decode("ascii"))
            for lower in _spellings(tx)
            if lower.decode("ascii") not in used
        ],
    )


def format_flags(tx: Tx, flags: int) -> bytes:
    """Wire form without parentheses: b"\\\\Seen $Forwarded"."""
    if flags <= SYSTEM_MASK:
        return SYSTEM_FLAG_TEXT[flags]
    words = names_of(tx, flags)
    system = SYSTEM_FLAG_TEXT[flags & SYSTEM_MASK]
    return b" ".join((system, *words)) if system else b" ".join(words)
