"""The packed part table: where BODY[1.2.MIME] and its kin are, without parsing again (RFC 3501 §6.4.5).

One fixed-size record for each part in the order of the message: three offsets, the number of the record after its last
descendant, and its kind.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from pillarbox.mime.structure import Part

_RECORD = Struct("<qqqIB")


class PartKind(IntEnum):
    """What decides how part numbers go on below a part."""

    LEAF = 0
    MULTIPART = 1
    MESSAGE = 2
    """message/rfc822 or message/global."""


@dataclass(slots=True)
class PartSpan:
    """Where a part is, in octets relative to the end of the message's own header block (as in `Part`).

    `BODY[n.MIME]` is `header_start` to `body_start`, `BODY[n]` is `body_start` to `end`. Of a contained message,
    `BODY[n.HEADER]` is `body_start` to `text_start` and `BODY[n.TEXT]` is `text_start` to `end`; of any other part
    `text_start` is None, and these two do not exist.
    """

    header_start: int
    body_start: int
    end: int
    kind: PartKind
    text_start: int | None


def pack_parts(root: Part) -> bytes:
    """The table of a message, or b"" where it is a single part that contains no message: there, only part 1 exists,
    and it is the whole body."""
    if not root.children:
        return b""
    records: list[tuple[Part, int]] = []  # with the record after the last descendant
    open_parts: list[tuple[int, Part]] = []
    waiting: list[Part | None] = [root]
    while waiting:
        part = waiting.pop()
        if part is None:  # all descendants are done
            index, done = open_parts.pop()
            records[index] = (done, len(records))
            continue
        records.append((part, len(records) + 1))
        if part.children:
            open_parts.append((len(records) - 1, part))
            waiting.append(None)
            waiting.extend(reversed(part.children))
    return b"".join(
        [
            _RECORD.pack(part.header_start, part.body_start, part.end, after, _kind(part))
            for part, after in records
        ]
    )


def _kind(part: Part) -> PartKind:
    if part.is_multipart:
        return PartKind.MULTIPART
    return PartKind.MESSAGE if part.is_message else PartKind.LEAF


def find_part(parts: bytes, numbers: tuple[int, ...]) -> PartSpan | None:
    """The part with these numbers (each from 1), or None; `()` is the message itself.

    The parts of a multipart count from 1. A message that is no multipart has one part 1: its body. The numbers below a
    message/rfc822 part are those of the message in it, so `(3, 1)` is the first part of the multipart in the
    message in part 3.
    """
    if not parts:
        return None
    index = 0
    is_numbered = (
        False  # or the top of a message, which has no number of its own unless it is a leaf's 1
    )
    kind = _RECORD.unpack_from(parts, 0)[4]
    for number in numbers:
        if is_numbered and kind == PartKind.MESSAGE:
            index += 1
            kind = _RECORD.unpack_from(parts, index * _RECORD.size)[4]
            is_numbered = False
        if kind == PartKind.MULTIPART:
            child = _find_child(parts, index, number)
            if child is None:
                return None
            index = child
            kind = _RECORD.unpack_from(parts, index * _RECORD.size)[4]
        elif is_numbered or number != 1:
            return None
        is_numbered = True
    header_start, body_start, end, _, kind = _RECORD.unpack_from(parts, index * _RECORD.size)
    text_start = None
    if kind == PartKind.MESSAGE:
        text_start = _RECORD.unpack_from(parts, (index + 1) * _RECORD.size)[1]
    return PartSpan(header_start, body_start, end, PartKind(kind), text_start)


def _find_child(parts: bytes, index: int, number: int) -> int | None:
    """The record of the child `number` (from 1) of the multipart in record `index`."""
    after = _RECORD.unpack_from(parts, index * _RECORD.size)[3]
    child = index + 1
    while child < after and number > 1:
        child = _RECORD.unpack_from(parts, child * _RECORD.size)[3]
        number -= 1
    return child if child < after and number == 1 else None
