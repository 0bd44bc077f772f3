"""Message flags as one integer (RFC 9051 §2.3.2).

Bits 0 to 4 are the system flags that a store keeps; the bits above are the number of an interned set
of keywords (`store.keywords`), 0 for none. `\\Recent` is not a flag here: it is a mark of the mailbox.
"""

ANSWERED = 1
FLAGGED = 2
DELETED = 4
SEEN = 8
DRAFT = 16

SYSTEM_MASK = 31
KEYWORD_SHIFT = 5

SYSTEM_FLAGS: dict[bytes, int] = {
    b"\\Answered": ANSWERED,
    b"\\Flagged": FLAGGED,
    b"\\Deleted": DELETED,
    b"\\Seen": SEEN,
    b"\\Draft": DRAFT,
}

SYSTEM_FLAG_BY_LOWER: dict[bytes, int] = {name.lower(): bit for name, bit in SYSTEM_FLAGS.items()}

SYSTEM_FLAG_TEXT: tuple[bytes, ...] = tuple(
    b" ".join(name for name, bit in SYSTEM_FLAGS.items() if bits & bit)
    for bits in range(SYSTEM_MASK + 1)
)
"""Wire form for each combination of system flags, without parentheses."""
