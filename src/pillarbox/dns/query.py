"""Questions to the DNS and their answers as values (RFC 1035 §3).

Pure code that needs the DNS is a generator: it yields a list of queries, which may be asked at the same time, and is
sent the list of answers in the same order. Whoever drives it does the asking, or looks into a table in tests.
"""

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar


class RecordType(Enum):
    """With the numbers of RFC 1035 §3.2.2 and RFC 3596 §2.1."""

    A = 1
    MX = 15
    TXT = 16
    AAAA = 28


@dataclass(slots=True, frozen=True)
class Query:
    """`name` is lower case, in A-labels, without final dot."""

    name: str
    type: RecordType


class Status(Enum):
    """How an answer came out."""

    OK = "ok"
    """The name exists; without records it has none of this type."""
    NO_SUCH_NAME = "no such name"
    """NXDOMAIN."""
    FAILED = "failed"
    """SERVFAIL, time-out, or anything else that may be better later."""


@dataclass(slots=True, frozen=True)
class Mx:
    """RFC 1035 §3.3.9."""

    preference: int
    host: str
    """Like `Query.name`; "" is the root, which stands in a null MX (RFC 7505)."""


Record = Mx | str | bytes
"""An MX; an address as text for A and AAAA; the joined strings of a TXT (RFC 7208 §3.3)."""


@dataclass(slots=True, frozen=True)
class Answer:
    """CNAMEs are followed by whoever answers: `name` is the end of the chain."""

    status: Status
    name: str
    records: tuple[Record, ...] = ()
    ttl_s: int = 0
    """How long the answer holds: the least TTL of the chain, or that of its absence (RFC 2308 §5)."""


Result = TypeVar("Result")
Asking = Generator[list[Query], list[Answer], Result]
"""Yields what it wants to know, returns its result."""
