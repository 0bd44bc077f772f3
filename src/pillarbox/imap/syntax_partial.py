"""PARTIAL: a range of results or of messages (RFC 9394 §4)."""

import re
from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.seqset import MAX_NUMBER

_PARTIAL = re.compile(rb"(-?)([1-9][0-9]{0,9}):(-?)([1-9][0-9]{0,9})")


@dataclass(slots=True, frozen=True)
class Partial:
    """Results from `first` to `last`, 1 being the first one, or the last one if `from_end`. `text` is as written."""

    first: int
    last: int
    from_end: bool
    text: bytes

    def slice_of(self, length: int) -> slice:
        """Where in a sequence of this length they are."""
        first, last = min(self.first - 1, length), min(self.last, length)
        return slice(length - last, length - first) if self.from_end else slice(first, last)


def parse_partial(cursor: Cursor) -> Partial:
    match = cursor.take(_PARTIAL, "a range like 1:500 or -1:-500")
    first, last = sorted((int(match[2]), int(match[4])))
    if match[1] != match[3] or last > MAX_NUMBER:
        raise RemoteError("Expected a range like 1:500 or -1:-500")
    return Partial(first, last, match[1] == b"-", match[0])
