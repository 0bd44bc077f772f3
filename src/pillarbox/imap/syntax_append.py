"""APPEND and REPLACE, read piece by piece as their messages come in (RFC 3501 §6.3.11, RFC 3502, RFC 8508 §5), with
CATENATE (RFC 4469 §5), literal8 (RFC 3516 §7) and UTF8 (RFC 6855 §4)."""

import re
from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor, FlagList
from pillarbox.imap.seqset import SeqSet, parse_seqset

MAX_MESSAGES = 1000
"""Our limit for the messages of one APPEND."""
MAX_PARTS = 1000
"""Our limit for the parts of all CATENATEs of one command."""

_SEQ_NUMBER = re.compile(rb"[1-9][0-9]{0,9}|\*")
_DATA_NAME = re.compile(rb"(CATENATE|UTF8) \(", re.IGNORECASE)
_PART_NAME = re.compile(rb"(TEXT|URL|UTF8) ", re.IGNORECASE)


@dataclass(slots=True)
class Target:
    """How the command begins: where the messages go, and for REPLACE what one of them replaces."""

    mailbox: str
    replaced: SeqSet | None = None
    uid: bool = False


@dataclass(slots=True)
class NewMessage:
    """A message begins. `date_time` is packed (`core.dates`) or None."""

    flags: FlagList
    date_time: int | None


@dataclass(slots=True)
class UrlPart:
    """What this IMAP URL stands for is the next part of the message."""

    url: bytes


Step = NewMessage | UrlPart
"""What happens before the octets of a literal, in order."""


@dataclass(slots=True)
class MessageLiteral:
    """A literal that is a message, or with `is_part` a part of one. `binary`: it may hold NULs; `utf8`: its header may
    hold UTF-8."""

    size: int
    is_part: bool = False
    binary: bool = False
    utf8: bool = False


def parse_append(cursor: Cursor) -> Target:
    """Up to what comes before the first message."""
    cursor.space()
    return Target(cursor.mailbox())


def parse_replace(cursor: Cursor, uid: bool = False) -> Target:
    cursor.space()
    number = cursor.take(_SEQ_NUMBER, "a message number")[0]
    try:
        replaced = parse_seqset(number)
    except ValueError as error:
        raise RemoteError(f"Expected a message number: {error}") from None
    cursor.space()
    return Target(cursor.mailbox(), replaced, uid)


class AppendSyntax:
    """The rest of the command. After each literal, `read` goes on behind it."""

    __slots__ = ("_in_catenate", "_in_utf8", "_is_multiple", "_parts", "messages")

    def __init__(self, is_multiple: bool) -> None:
        """`is_multiple`: several messages may come (RFC 8508 §4.7: not to REPLACE one)."""
        self._is_multiple = is_multiple
        self._in_catenate = False
        self._in_utf8 = False
        self._parts = 0
        self.messages = 0
        """That have begun."""

    def read(self, cursor: Cursor, size: int | None) -> tuple[list[Step], MessageLiteral | None]:
        """From the cursor up to the literal of `size` octets that ends the text, or with None to the end of the
        command.

        Raises LiteralAwaited where that literal is no message but an argument: then read again from the same place,
        with the octets. Nothing of this object has changed then.
        """
        before = self._in_catenate, self._in_utf8, self._parts, self.messages
        try:
            return self._read(cursor, size)
        except BaseException:
            self._in_catenate, self._in_utf8, self._parts, self.messages = before
            raise

    def _read(self, cursor: Cursor, size: int | None) -> tuple[list[Step], MessageLiteral | None]:
        steps: list[Step] = []
        if self._in_utf8:
            cursor.require(b")", '")" after the literal')
            self._in_utf8 = False
        while True:
            if self._in_catenate:
                literal = self._read_part(cursor, steps, size)
            elif self.messages and cursor.position == len(cursor.text):
                if size is not None:
                    raise cursor.expected("a message")
                return steps, None
            else:
                literal = self._begin_message(cursor, steps, size)
            if literal is not None:
                return steps, literal

    def _begin_message(
        self, cursor: Cursor, steps: list[Step], size: int | None
    ) -> MessageLiteral | None:
        """None: parts follow."""
        if self.messages and not self._is_multiple:
            raise cursor.expected("the end of the command")
        cursor.space()
        if self.messages:
            cursor.skip(b" ")  # 2026-11: IMAPClient 4.1 sends two between literals
        flags, date_time = FlagList(), None
        if cursor.text.startswith(b"(", cursor.position):
            flags = cursor.flags()
            cursor.space()
        if cursor.text.startswith(b'"', cursor.position):
            date_time = cursor.date_time()
            cursor.space()
        self.messages += 1
        if self.messages > MAX_MESSAGES:
            raise RemoteError(f"APPEND takes at most {MAX_MESSAGES} messages")
        steps.append(NewMessage(flags, date_time))
        match = _DATA_NAME.match(cursor.text, cursor.position)
        if match is None:
            binary = cursor.text.startswith(b"~", cursor.position)
            return _literal(cursor, size, MessageLiteral(0, binary=binary))
        cursor.position = match.end()
        if match[1].upper() == b"UTF8":
            self._in_utf8 = True
            return _literal(cursor, size, MessageLiteral(0, binary=True, utf8=True))
        self._in_catenate = True
        return self._read_named_part(cursor, steps, size)

    def _read_part(
        self, cursor: Cursor, steps: list[Step], size: int | None
    ) -> MessageLiteral | None:
        """The next part of a CATENATE, or its end."""
        if cursor.skip(b")"):
            self._in_catenate = False
            return None
        cursor.require(b" ", 'a space or ")"')
        return self._read_named_part(cursor, steps, size)

    def _read_named_part(
        self, cursor: Cursor, steps: list[Step], size: int | None
    ) -> MessageLiteral | None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise RemoteError(f"CATENATE takes at most {MAX_PARTS} parts")
        name = cursor.take(_PART_NAME, "TEXT, URL or UTF8")[1].upper()
        if name == b"URL":
            steps.append(UrlPart(cursor.astring("an IMAP URL")))
            return None
        if name == b"TEXT":
            return _literal(cursor, size, MessageLiteral(0, is_part=True))
        cursor.require(b"(", '"("')
        self._in_utf8 = True
        return _literal(cursor, size, MessageLiteral(0, is_part=True, binary=True, utf8=True))


def _literal(cursor: Cursor, size: int | None, literal: MessageLiteral) -> MessageLiteral:
    cursor.streamed_literal(binary=literal.binary)
    assert size is not None  # a complete command does not end in the header of a literal
    literal.size = size
    return literal
