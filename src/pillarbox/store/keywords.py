"""Interned sets of keywords: `flags >> 5` of a message row is a set's id, 0 for none (RFC 9051 §2.3.2)."""

from pillarbox.core.errors import Refused
from pillarbox.core.flags import KEYWORD_SHIFT, SYSTEM_FLAG_TEXT, SYSTEM_MASK
from pillarbox.store.tx import Tx

MOST_KEYWORDS = 256
"""Different keywords in an account."""
LONGEST_KEYWORD = 128
"""Octets."""
KEPT_SETS = 100
"""So many sets of keywords stay, used or not."""


def names_of(tx: Tx, flags: int) -> tuple[bytes, ...]:
    """The keywords of a flags value, sorted."""
    number = flags >> KEYWORD_SHIFT
    known = tx.keyword_names.get(number)
    if known is None:
        row = tx.row("SELECT names FROM keyword_set WHERE id = ?", (number,))
        known = tuple(row[0].encode("ascii").split()) if row else ()
        tx.keyword_names[number] = known
    return known


def all_names(tx: Tx) -> list[bytes]:
    """Every keyword in use in the account, each spelled as first seen, sorted."""
    return sorted(_spellings(tx).values())


def _spellings(tx: Tx) -> dict[bytes, bytes]:
    """All keywords of the account by their small letters."""
    rows = tx.rows("SELECT lower, name FROM keyword WHERE account = ?", (tx.account,))
    return {lower.encode("ascii"): name.encode("ascii") for lower, name in rows}


def set_id(tx: Tx, names: list[bytes] | tuple[bytes, ...]) -> int:
    """The id of the set of these keywords, made if it is new; case-insensitive, first spelling kept.

    In a write only. Raises Refused LIMIT.
    """
    if not names:
        return 0
    if tx.spellings is None:
        tx.spellings = _spellings(tx)
    spellings = tx.spellings
    wanted: dict[bytes, bytes] = {}
    for name in names:
        if len(name) > LONGEST_KEYWORD:
            raise Refused(f"a keyword has at most {LONGEST_KEYWORD} characters", "LIMIT")
        lower = name.lower()
        if lower not in spellings:
            if len(spellings) >= MOST_KEYWORDS:
                raise Refused(f"an account has at most {MOST_KEYWORDS} keywords", "LIMIT")
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


def forget_unused(tx: Tx) -> None:
    """Where there are many sets, those that no message has go, and the keywords that are in no other. Looks at all
    messages: for a thread. The last set stays, so that no id is given twice: what is known of sets stays true."""
    (count,) = tx.row("SELECT count(*) FROM keyword_set WHERE account = ?", (tx.account,)) or (0,)
    if count <= KEPT_SETS:
        return
    tx.execute(
        "DELETE FROM keyword_set WHERE account = ?1 AND id < (SELECT max(id) FROM keyword_set)"
        " AND id NOT IN (SELECT flags >> ?2 FROM message WHERE account = ?1)",
        (tx.account, KEYWORD_SHIFT),
    )
    rows = tx.execute("SELECT names FROM keyword_set WHERE account = ?", (tx.account,))
    used = {word for (names,) in rows for word in names.lower().split()}
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
