"""Interned sets of keywords: `flags >> 5` of a message row is a set's id, 0 for none (RFC 9051 §2.3.2)."""

from pillarbox.core.errors import Refused
from pillarbox.core.flags import KEYWORD_SHIFT, SYSTEM_FLAG_TEXT, SYSTEM_MASK
from pillarbox.store.tx import Tx

MOST_KEYWORDS = 256
"""Different keywords in an account."""
LONGEST_KEYWORD = 128
"""Octets."""


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
    seen: dict[bytes, bytes] = {}
    for (names,) in tx.rows("SELECT names FROM keyword_set WHERE account = ?", (tx.account,)):
        for name in names.encode("ascii").split():
            seen.setdefault(name.lower(), name)
    return sorted(seen.values())


def set_id(tx: Tx, names: list[bytes] | tuple[bytes, ...]) -> int:
    """The id of the set of these keywords, made if it is new; case-insensitive, first spelling kept.

    In a write only. Raises Refused LIMIT.
    """
    if not names:
        return 0
    spelling = {name.lower(): name for name in all_names(tx)}
    wanted: dict[bytes, bytes] = {}
    for name in names:
        if len(name) > LONGEST_KEYWORD:
            raise Refused(f"a keyword has at most {LONGEST_KEYWORD} characters", "LIMIT")
        lower = name.lower()
        if lower not in spelling:
            if len(spelling) >= MOST_KEYWORDS:
                raise Refused(f"an account has at most {MOST_KEYWORDS} keywords", "LIMIT")
            spelling[lower] = name
        wanted[lower] = spelling[lower]
    joined = b" ".join(sorted(wanted.values())).decode("ascii")
    row = tx.row("SELECT id FROM keyword_set WHERE names = ?", (joined,))
    if row is None:
        row = tx.row(
            "INSERT INTO keyword_set (account, names) VALUES (?, ?) RETURNING id",
            (tx.account, joined),
        )
        assert row is not None
    return int(row[0])


def format_flags(tx: Tx, flags: int) -> bytes:
    """Wire form without parentheses: b"\\\\Seen $Forwarded"."""
    if flags <= SYSTEM_MASK:
        return SYSTEM_FLAG_TEXT[flags]
    words = names_of(tx, flags)
    system = SYSTEM_FLAG_TEXT[flags & SYSTEM_MASK]
    return b" ".join((system, *words)) if system else b" ".join(words)
