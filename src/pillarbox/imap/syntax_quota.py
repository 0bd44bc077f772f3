"""GETQUOTA and SETQUOTA (RFC 9208 §7); GETQUOTAROOT takes a mailbox."""

from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor

_MOST = (1 << 63) - 1


@dataclass(slots=True)
class QuotaRoot:
    """`limits` is what SETQUOTA asks for, by resource in upper case."""

    name: bytes
    limits: tuple[tuple[str, int], ...] = ()


def parse_get_quota(cursor: Cursor) -> QuotaRoot:
    cursor.space()
    return QuotaRoot(cursor.astring("a quota root"))


def parse_set_quota(cursor: Cursor) -> QuotaRoot:
    cursor.space()
    name = cursor.astring("a quota root")
    cursor.space()
    if cursor.skip(b"()"):
        return QuotaRoot(name)
    limits = cursor.parenthesised(lambda: _limit(cursor), "a list of limits")
    return QuotaRoot(name, tuple(limits))


def _limit(cursor: Cursor) -> tuple[str, int]:
    resource = cursor.word("a resource").decode("ascii")
    cursor.space()
    digits = cursor.atom("a limit")
    if not digits.isdigit() or len(digits) > 19 or int(digits) > _MOST:
        raise RemoteError("Expected a limit below 2^63")
    return resource, int(digits)
