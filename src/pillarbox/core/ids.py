"""Identifiers that people see: the queue id in `250 2.0.0 Ok: queued as ID`, IMAP object ids (RFC 8474)."""

_ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXYZ"
"""No vowels: no words by accident; no lower case: easy to read out."""


_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)


def format_queue_id(epoch_us: int, entropy: int) -> str:
    """Time in microseconds and 20 random bits, 16 characters, sorted by time."""
    number = epoch_us << 20 | (entropy & 0xFFFFF)
    pairs = []
    while number:
        number, pair = divmod(number, len(_PAIRS))
        pairs.append(_PAIRS[pair])
    pairs.reverse()
    return "".join(pairs)


def time_of_queue_id(queue_id: str) -> int:
    """When a queue id was made, in microseconds since 1970. Raises ValueError for what is none.

    Example: time_of_queue_id(format_queue_id(1_700_000_000_000_000, 7)) -> 1_700_000_000_000_000.
    """
    number = 0
    for character in queue_id:
        number = number * len(_ALPHABET) + _ALPHABET.index(character)
    return number >> 20


def object_id(kind: str, account: int, number: int) -> bytes:
    """`kind` is "M" for a mailbox, "E" for a message's content, "T" for a thread (RFC 8474 §4, §5)."""
    return f"{kind}{account:x}-{number:x}".encode()
