"""The terminals of the IMAP command grammar (RFC 3501 §9): a cursor over one complete command.

The text of a command is as `framing.Frame` has it: each literal is its header and LF, `{11}\\n`, and its octets are in
a list beside it. Every method takes one terminal at the cursor or raises: RemoteError (answer BAD) if the syntax is
wrong, with what was expected; Refused (answer NO) if the syntax is right but the value cannot be served.

More than the RFC asks is accepted in one point: quoted strings may hold octets above 0x7f, as RFC 9051 allows.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar
from unicodedata import is_normalized

from pillarbox.core.dates import MONTHS, pack_date
from pillarbox.core.errors import Refused, RemoteError
from pillarbox.core.flags import SYSTEM_FLAG_BY_LOWER
from pillarbox.imap.seqset import MAX_NUMBER, SAVED, SeqSet, parse_seqset
from pillarbox.imap.utf7 import decode_utf7, is_canonical

T = TypeVar("T")

ATOM_CLASS = rb"!#$&'+-\[^-z|}~"
"""ATOM-CHAR for use between brackets in a regular expression."""

MOST_SHOWN = 40
"""Octets of what is not known, in an answer that names it."""

_ATOM = re.compile(rb"[%b]+" % ATOM_CLASS)
_ASTRING_ATOM = re.compile(rb"[%b\]]+" % ATOM_CLASS)
_LIST_ATOM = re.compile(rb"[%b\]%%*]+" % ATOM_CLASS)
_QUOTED = re.compile(rb'"([^"\\\r\n\x00]*(?:\\["\\][^"\\\r\n\x00]*)*)"')
_ESCAPED = re.compile(rb"\\(.)")
_LITERAL = re.compile(rb"\{([0-9]+)\+?\}\n")
_NIL = re.compile(rb"NIL(?![%b\]])" % ATOM_CLASS, re.IGNORECASE)
_NUMBER = re.compile(rb"[0-9]{1,20}+(?![0-9])")
_SEQUENCE_SET = re.compile(rb"[0-9*:,]+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_INITIAL_RESPONSE = re.compile(rb"[A-Za-z0-9+/]+={0,2}|=")
_FLAG = re.compile(rb"\\?[%b]+" % ATOM_CLASS)
_FLAG_LIST = re.compile(rb"\(([^()\x00-\x1f\x7f]*)\)")
_DATE = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME = re.compile(
    rb'"([ 0-9]?[0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)

MAX_MODSEQ = (1 << 63) - 1
"""RFC 7162 §3.1."""

_MONTH_NUMBERS = {name.lower(): number for number, name in enumerate(MONTHS, 1)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()


class LiteralAwaited(Exception):
    """The cursor is over a command that is still coming in, and stands before a literal of which only the header is
    there."""


@dataclass(slots=True, frozen=True)
class FlagList:
    """`system` is the bits of `core.flags`; `keywords` are as written, in order, each once whatever its case."""

    system: int = 0
    keywords: tuple[bytes, ...] = ()


def shorten_word(atom: bytes) -> str:
    """What an answer says of an atom that is not known: its first octets, which are printable ASCII."""
    return atom[:MOST_SHOWN].decode("ascii")


class Cursor:
    """A place in one command. `position` only moves forward. `utf8`: mailbox names are UTF-8, not modified UTF-7
    (RFC 6855 §3)."""

    __slots__ = ("_literals", "position", "takes_charset", "text", "utf8")

    def __init__(
        self,
        text: bytes,
        literals: Sequence[bytes] = (),
        position: int = 0,
        *,
        utf8: bool = False,
    ) -> None:
        self.text = text
        self.position = position
        self.utf8 = utf8
        self.takes_charset = True
        self._literals = iter(literals)

    # What is at the cursor

    def expected(self, what: str) -> RemoteError:
        """The error to raise when `what` does not stand at the cursor."""
        if self.position >= len(self.text):
            return RemoteError(f"Expected {what}, but the command ended")
        return RemoteError(f"Expected {what} at octet {self.position + 1} of the command")

    def take(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        match = pattern.match(self.text, self.position)
        if match is None:
            raise self.expected(what)
        self.position = match.end()
        return match

    def skip(self, token: bytes) -> bool:
        """Pass over `token` if it stands here, to the letter."""
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        return True

    def require(self, token: bytes, what: str) -> None:
        if not self.skip(token):
            raise self.expected(what)

    def space(self) -> None:
        self.require(b" ", "a space")

    def end(self) -> None:
        if self.position != len(self.text):
            raise self.expected("the end of the command")

    # Atoms and strings

    def atom(self, what: str = "an atom") -> bytes:
        return self.take(_ATOM, what)[0]

    def word(self, what: str) -> bytes:
        """An atom that stands for itself in any case, made upper case."""
        return self.take(_ATOM, what)[0].upper()

    def astring(self, what: str = "an atom or string") -> bytes:
        match = _ASTRING_ATOM.match(self.text, self.position)
        if match is not None:
            self.position = match.end()
            return match[0]
        return self.string(what)

    def string(self, what: str = "a string") -> bytes:
        """A quoted string or a literal. No NUL: RFC 3501 §9, CHAR8."""
        if self.text.startswith(b"{", self.position):
            self.take(_LITERAL, what)
            literal = next(self._literals, None)
            if literal is None:
                raise LiteralAwaited
            if b"\0" in literal:
                raise RemoteError("A literal holds a NUL octet")
            return literal
        quoted = self.take(_QUOTED, what)[1]
        if self.utf8 and not _is_utf8(quoted):
            raise RemoteError(f"Expected {what} in UTF-8")  # RFC 6855 §3: MUST be BAD
        return _ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted

    def octets(self, what: str) -> bytes:
        """A string or a literal8, which may hold NUL (RFC 3516 §7)."""
        if not self.text.startswith(b"~{", self.position):
            return self.string(what)
        self.position += 1
        self.take(_LITERAL, what)
        literal = next(self._literals, None)
        if literal is None:
            raise LiteralAwaited
        return literal

    def nstring(self, what: str = "a string or NIL") -> bytes | None:
        return None if self.nil() else self.string(what)

    def nil(self) -> bool:
        """Pass over NIL if it stands here."""
        match = _NIL.match(self.text, self.position)
        if match is None:
            return False
        self.position = match.end()
        return True

    def utf8_astring(self, what: str) -> str:
        try:
            return self.astring(what).decode("utf-8")
        except UnicodeDecodeError:
            raise RemoteError(f"Expected {what} in UTF-8") from None

    def initial_response(self) -> bytes:
        """Base64, decoded; `=` alone is the empty string (RFC 4959 §3)."""
        text = self.take(_INITIAL_RESPONSE, "base64")[0]
        return b"" if text == b"=" else decode_base64(text)

    def streamed_literal(self, *, binary: bool = False) -> None:
        """Pass over the header of a literal whose octets are not here, the last thing so far. `binary`: `~{5}`."""
        if binary:
            self.require(b"~", "a literal8")
        self.take(_LITERAL, "a literal")
        if self.position != len(self.text):
            raise self.expected("the octets of the literal")

    # Numbers, sets, dates

    def number(self, what: str = "a number") -> int:
        number = int(self.take(_NUMBER, what)[0])
        if number > MAX_NUMBER:
            raise RemoteError(f"Expected {what} below 4294967296")
        return number

    def modseq(self, lowest: int = 1) -> int:
        """A mod-sequence: 63 bits (RFC 7162 §7)."""
        modseq = int(self.take(_NUMBER, "a mod-sequence")[0])
        if not lowest <= modseq <= MAX_MODSEQ:
            raise RemoteError("Expected a mod-sequence of 63 bits")
        return modseq

    def sequence_set(self) -> SeqSet:
        """`$` is one, too (RFC 5182 §3)."""
        return SAVED if self.skip(b"$") else self.known_set()

    def uid_set(self) -> SeqSet:
        """UIDs as they are, without `*` (RFC 7162 §7 known-uids)."""
        start = self.position
        uids = self.known_set()
        if uids.star:
            raise RemoteError(f"Expected UIDs without * at octet {start + 1}")
        return uids

    def known_set(self) -> SeqSet:
        start = self.position
        text = self.take(_SEQUENCE_SET, "a sequence set")[0]
        try:
            return parse_seqset(text)
        except ValueError as error:
            raise RemoteError(f"Expected a sequence set at octet {start + 1}: {error}") from None

    def date(self) -> int:
        """Days since 1970-01-01."""
        day, month, year = self.take(_DATE, "a date like 1-Feb-1994").groups()[1:]
        try:
            return date(int(year), _month(month), int(day)).toordinal() - _EPOCH_ORDINAL
        except ValueError:
            raise RemoteError("There is no such date") from None

    def date_time(self) -> int:
        """Packed as `core.dates` does. A leap second counts as the one before it."""
        match = self.take(_DATE_TIME, 'a date like " 1-Feb-1994 21:52:25 -0800"')
        day, month, year, hour, minute, second, sign, zone_hour, zone_minute = match.groups()
        try:
            seconds = min(int(second), 59) if int(second) <= 60 else 60
            local = datetime(
                int(year), _month(month), int(day), int(hour), int(minute), seconds, tzinfo=UTC
            )
            zone = int(zone_hour) * 60 + int(zone_minute)
            zone = -zone if sign == b"-" else zone
            return pack_date((local - _EPOCH) // timedelta(seconds=1) - zone * 60, zone)
        except ValueError:
            raise RemoteError("There is no such date, time or zone") from None

    # Flags and mailboxes

    def flags(self) -> FlagList:
        """A list in parentheses, empty or not, or, as STORE allows, flags without them up to the end."""
        match = _FLAG_LIST.match(self.text, self.position)
        if match is None:
            return parse_flags(self.spaced(self._flag))
        self.position = match.end()
        names = match[1].split(b" ") if match[1] else []
        if any(_FLAG.fullmatch(name) is None for name in names):
            raise RemoteError("Expected flags, with one space between them")
        return parse_flags(names)

    def _flag(self) -> bytes:
        return self.take(_FLAG, "a flag or a list of flags")[0]

    def mailbox(self) -> str:
        """A mailbox name; INBOX in any case is "INBOX" (RFC 3501 §5.1). Refused: not one that can be."""
        return fold_inbox(self._decode_mailbox(self.astring("a mailbox name")))

    def new_mailbox(self) -> str:
        """The name of a mailbox to be made: its modified UTF-7 must be the canonical form."""
        wire = self.astring("a mailbox name")
        if not self.utf8 and wire.isascii() and not is_canonical(wire):
            # RFC 3501 §5.1.3: SHOULD be verified for CREATE
            raise Refused("The mailbox name is not well-formed modified UTF-7", "CANNOT")
        name = fold_inbox(self._decode_mailbox(wire))
        if not wire.isascii() and not is_normalized("NFC", name):
            # RFC 9051 §5.1: Net-Unicode
            raise Refused("The mailbox name is not in Unicode's form C", "CANNOT")
        return name

    def list_mailbox(self) -> str:
        """A mailbox name with the wildcards of LIST."""
        match = _LIST_ATOM.match(self.text, self.position)
        if match is None:
            return self._decode_mailbox(self.string("a mailbox name or pattern"))
        self.position = match.end()
        return self._decode_mailbox(match[0])

    def _decode_mailbox(self, wire: bytes) -> str:
        """Refused if it is not what it should be: such a name is good syntax, but none that we can have."""
        try:
            # RFC 6855 §3: names in UTF-8 are taken before ENABLE, too
            return wire.decode("utf-8") if self.utf8 or not wire.isascii() else decode_utf7(wire)
        except ValueError:
            form = "UTF-8" if self.utf8 else "modified UTF-7"
            raise Refused(f"The mailbox name is not well-formed {form}", "CANNOT") from None

    # Lists

    def spaced(self, take_one: Callable[[], T]) -> list[T]:
        """One or more, with a space between them."""
        items = [take_one()]
        while self.skip(b" "):
            items.append(take_one())
        return items

    def parenthesised(self, take_one: Callable[[], T], what: str) -> list[T]:
        """`spaced` in parentheses."""
        self.require(b"(", what)
        items = self.spaced(take_one)
        self.require(b")", 'a space or ")"')
        return items


def parse_flags(names: Sequence[bytes]) -> FlagList:
    """Flags that a client may set. RemoteError for `\\Recent` and for system flags that do not exist."""
    system = 0
    keywords: dict[bytes, bytes] = {}
    for name in names:
        if name[:1] != b"\\":
            keywords.setdefault(name.lower(), name)
            continue
        bit = SYSTEM_FLAG_BY_LOWER.get(name.lower())
        if bit is None:  # RFC 3501 §2.3.2: the client can not alter \Recent
            raise RemoteError(f"{name.decode('ascii')} is not a flag that a client can set")
        system |= bit
    return FlagList(system, tuple(keywords.values()))


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def fold_inbox(name: str) -> str:
    return "INBOX" if len(name) == 5 and name.upper() == "INBOX" else name


def decode_base64(text: bytes) -> bytes:
    """RemoteError unless it is base64 with its padding (RFC 3501 §9, base64)."""
    if len(text) % 4 or _BASE64.fullmatch(text) is None:
        raise RemoteError("Expected base64")
    return a2b_base64(text)


def _month(name: bytes) -> int:
    number = _MONTH_NUMBERS.get(name.lower())
    if number is None:
        raise ValueError("no such month")
    return number
