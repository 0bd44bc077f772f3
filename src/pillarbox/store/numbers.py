"""What the numbers in an account's file can be.

SQLite has no checksums: one bit of a page that fell over makes any number of one, and what grows beyond 63 bits becomes
a float. Such a number must go no further than its file: others are packed with it, in the journal (`journal`) and in
hints to other workers, and what cannot be packed would end the work for all accounts.
"""

from pillarbox.core.errors import Unavailable
from pillarbox.store.database import DAMAGED_CODE

HIGHEST_UID = HIGHEST_UIDVALIDITY = (1 << 32) - 1  # RFC 9051 §2.3.1.1
HIGHEST_UIDNEXT = HIGHEST_UID + 1
HIGHEST_MODSEQ = 1 << 62
"""RFC 7162 §3.1 allows twice as much; sums stay whole numbers."""
HIGHEST_MAILBOX = (1 << 32) - 1
HIGHEST_GENERATION = 1 << 32
HIGHEST_CONTENT = 1 << 40
"""Of our own: more than can be given."""

BELIEVED_UIDVALIDITY = HIGHEST_UIDVALIDITY - (1 << 24)
BELIEVED_MODSEQ = HIGHEST_MODSEQ - (1 << 40)
BELIEVED_CONTENT = HIGHEST_CONTENT - (1 << 32)
BELIEVED_MAILBOX = HIGHEST_MAILBOX - (1 << 28)
"""What a file that may be damaged can say that it has given: above that there would be too little room for more."""


def can_be(value: object, highest: int) -> bool:
    """Whether it is a whole number from 1 to `highest`."""
    return type(value) is int and 0 < value <= highest


def possible(value: object, highest: int) -> int:
    """The same number if it can be, else 0."""
    return value if type(value) is int and 0 < value <= highest else 0


def ensure_can_be(value: object, highest: int) -> None:
    """Raises Unavailable: the file is damaged."""
    if not can_be(value, highest):
        raise Unavailable(
            "the mail file is damaged; ask the administrator",
            DAMAGED_CODE,
            f"there is {value!r} where a number from 1 to {highest} must be",
        )
