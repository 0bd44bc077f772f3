"""Old mail in a file in the mbox format (RFC 4155), as its many writers have it.

A message begins with a line like "From a@example.org Thu Nov 26 10:00:00 2026" behind an empty line. It also does
without that empty line, or without what follows "From ", where a header field follows at once: better two messages
than one that was two. A Content-Length that leads to such a place is believed (mboxcl, mboxcl2); then the body is as
it is, else one ">" goes from its lines like ">From " (mboxrd). Fields that only note what the program made of a
message become flags and keywords.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pillarbox.app.old_message import (
    OldMailbox,
    OldMessage,
    checked,
    coding_of,
    keywords_of,
    open_regular,
    shown,
)
from pillarbox.core.dates import MONTHS, epoch_of, pack_date, zone_of
from pillarbox.core.errors import Refused
from pillarbox.core.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN
from pillarbox.mime.date import parse_date
from pillarbox.mime.header import field_value, header_end, split_header

_FLAGS = {
    b"status": dict(zip(b"RONU", (SEEN, 0, 0, 0), strict=True)),
    b"x-status": dict(zip(b"AFDT", (ANSWERED, FLAGGED, DELETED, DRAFT), strict=True)),
}
"""By their letters. Other values are something else, as a sender wrote it."""
_MOZILLA_FLAGS = {1: SEEN, 2: ANSWERED, 4: FLAGGED}
_MOZILLA_EXPUNGED = 8
_MOZILLA_FORWARDED = 0x1000
_KEYWORDS = (b"x-keywords", b"x-mozilla-keys")
_NOTES = {
    *(b"x-uid", b"x-imap", b"x-imapbase", b"content-length"),
    *(b"x-mozilla-status", b"x-mozilla-status2", *_KEYWORDS),
}
"""Fields that are no part of the message."""
_INTERNAL = b"DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA"
"""The subject of the first message, in which the University of Washington's programs keep numbers."""

_FROM_LINE = re.compile(
    rb"From .*?(%b) +(\d{1,2}) (\d\d:\d\d(?::\d\d)?)(?: ([A-Z]{1,5}|[+-]\d{4})(?: DST)?)? (\d{4})(?: ([+-]\d{4}))?\s*"
    % b"|".join(MONTHS)
)
_BARE = re.compile(rb"From (?:-|\S+@\S+|MAILER-DAEMON)?\s*")
"""Without a date; new versions of Thunderbird write it so."""
_MOZILLA_BARE = re.compile(rb"From -?\s*")
_MOZILLA_LINE = re.compile(rb"From (?:- |\s*$)")
_ZONE = re.compile(rb"[+-]\d{4}|UTC?|GMT|[ECMP][SD]T")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:(?!//)")
_USUAL_FIELD = re.compile(
    rb"(?:Return-Path|Received|Delivered-To|Envelope-To|From|To|Cc|Date|Subject|Sender|Reply-To|Message-ID|References"
    rb"|In-Reply-To|MIME-Version|Status|DKIM-Signature|Authentication-Results|User-Agent|Path|Newsgroups|Precedence"
    rb"|(?:X|Content|List|ARC|Resent)-[!-9;-~]+)[ \t]*:",
    re.IGNORECASE,
)
"""With which mail begins; text may have other words with a colon."""
_QUOTED = re.compile(rb">+From ")
_EMPTY = (b"\n", b"\r\n")
_MOST_EMPTY = 10
"""Lines between two messages; each message could ask for all of them anew."""

PIECE_OCTETS = 64 * 1024
"""Of a line, at most: what is no mail may be one line of gigabytes."""


def find_mbox(path: Path) -> OldMailbox:
    """Blocks. Raises Refused where it is none, OSError."""
    with open_regular(path, follow=True) as file:
        first = file.readline(PIECE_OCTETS)
        if first and not _begins(file, first, behind_empty=True):
            raise Refused(
                f"{shown(path)} is no mbox: "
                + (
                    coding_of(first)
                    or 'its first line is not like "From a@example.org Thu Nov 26 10:00:00 2026"'
                )
            )
        octets = os.fstat(file.fileno()).st_size
    return OldMailbox((), path, octets, messages=lambda most: _messages(path, most))


def _messages(path: Path, most_octets: int) -> Iterator[OldMessage]:
    with open_regular(path, follow=True) as file:
        date = pack_date(0)  # not the file's, which changes: then the message would come again
        number, begin = 0, file.readline(PIECE_OCTETS)
        while begin:
            number += 1
            text = _Text(file, most_octets)
            following = text.read()
            message = OldMessage(f"{shown(path)}, message {number}", date)
            octets = text.octets()
            _take_notes(message, begin, octets[: header_end(octets)], is_first=number == 1)
            date = message.internaldate
            if text.unclear:
                message.is_hidden = False
                message.problem = (
                    f"it may be two: {text.unclear} stands between an empty line and a header field, and has no date:"
                    ' give it one where it begins another message, else put ">" in front of it'
                )
                yield message
            else:
                yield checked(message, _without_notes(octets), most_octets)
            begin = following


class _Text:
    """What stands between two From_ lines."""

    def __init__(self, file: BinaryIO, most_octets: int) -> None:
        self.unclear = ""
        """The first line with which another message may begin; two must not become one without a word."""
        self._file = file
        self._most = most_octets + 2
        """With the empty line behind it."""
        self._octets = bytearray()
        self._size = 0
        self._empty = 0
        """Octets of the empty line at the end, which is the one in front of the next message."""

    def octets(self) -> bytes:
        """All, without the empty line in front of the next message; more than `most_octets` are that many and one."""
        size = self._size - self._empty
        return bytes(self._octets[:size]) if size < self._most else b"." * (self._most - 1)

    def read(self) -> bytes:
        """Returns the From_ line behind it, empty at the end of the file."""
        is_body = is_amid_line = False
        while line := self._file.readline(PIECE_OCTETS):
            if line.startswith(b"From ") and not is_amid_line:
                begins = _begins(self._file, line, behind_empty=bool(self._empty))
                if begins:
                    return line
                if begins is None and not self.unclear:
                    offset = self._file.tell() - len(line)
                    self.unclear = f"the line {line[:40].decode('latin-1')!a} at octet {offset}"
            if is_body and not is_amid_line and _QUOTED.match(line):
                line = line[1:]
            self._empty = len(line) if not is_amid_line and line in _EMPTY else 0
            is_amid_line = not line.endswith(b"\n")
            self._add(line)
            if self._empty and not is_body:
                is_body = True
                following = self._read_counted()
                if following is not None:
                    return following
        if is_amid_line:
            self._add(b"\n")  # it will have one, once another message follows
        return b""

    def _add(self, octets: bytes) -> None:
        self._size += len(octets)
        if self._size <= self._most:
            self._octets += octets

    def _read_counted(self) -> bytes | None:
        """The body, where Content-Length is right: the From_ line behind it. None: it is not, and nothing is read."""
        header = bytes(self._octets)
        told = [
            field_value(header, start, end)
            for name, start, end in split_header(header)
            if name == b"content-length"
        ]
        if len(told) != 1 or not re.fullmatch(rb"\d{1,12}", told[0]):
            return None
        begin, length = self._file.tell(), int(told[0])
        following = self._line_behind(begin + length)
        end = self._file.tell()
        self._file.seek(begin)
        if following is None:
            return None
        if self._size + length > self._most:
            self._size += length
        else:
            self._add(self._file.read(length))
            self._add(b"\n")  # as if it were the one in front of the next message
            self._empty = 1
        self._file.seek(end)
        return following

    def _line_behind(self, end: int) -> bytes | None:
        """The From_ line there, or behind empty lines; None where something else is."""
        if end > os.fstat(self._file.fileno()).st_size:
            return None
        self._file.seek(end - 1)
        is_at_line = self._file.read(1) == b"\n"
        is_behind_empty = False
        for _ in range(_MOST_EMPTY):
            line = self._file.readline(PIECE_OCTETS)
            if not line:
                return line
            if line not in _EMPTY:
                is_at_line = is_at_line or is_behind_empty
                begins = is_at_line and _begins(self._file, line, behind_empty=is_behind_empty)
                return line if begins else None
            is_behind_empty = True
        return None


def _begins(file: BinaryIO, line: bytes, *, behind_empty: bool) -> bool | None:
    """Whether this line, which was just read, begins a message; None: it may."""
    is_dated = _FROM_LINE.fullmatch(line)
    by_mozilla = _MOZILLA_BARE.fullmatch(line)
    if is_dated and behind_empty:
        return True
    if not (is_dated or behind_empty or by_mozilla):
        return False
    here = file.tell()
    following, second = file.readline(PIECE_OCTETS), file.readline(PIECE_OCTETS)
    file.seek(here)
    if is_dated or (behind_empty and _BARE.fullmatch(line)):
        return bool(_FIELD.match(following))
    if by_mozilla and following.startswith(b"X-Mozilla-Status:"):
        return True
    if not (_USUAL_FIELD.match(following) or (_FIELD.match(following) and _FIELD.match(second))):
        return False
    return True if behind_empty and _other_date(line) else None


def _take_notes(message: OldMessage, from_line: bytes, header: bytes, *, is_first: bool) -> None:
    """The date of arrival, flags and keywords. What would hide the message is only believed where the program wrote it
    that does so, for senders can write it, too."""
    by_mozilla = _MOZILLA_LINE.match(from_line) is not None
    keywords: list[bytes] = []
    dates: dict[bytes, bytes] = {}
    for name, start, end in split_header(header):
        if name in _FLAGS:
            message.flags |= _status(name, field_value(header, start, end)) or 0
        elif name == b"x-mozilla-status":
            value = field_value(header, start, end)
            bits = int(value, 16) if re.fullmatch(rb"[0-9A-Fa-f]{4}", value) else 0
            message.flags |= sum(flag for bit, flag in _MOZILLA_FLAGS.items() if bits & bit)
            message.is_hidden |= by_mozilla and bool(bits & _MOZILLA_EXPUNGED)
            keywords += [b"$Forwarded"] if bits & _MOZILLA_FORWARDED else []
            by_mozilla = False  # the first is its own
        elif name in _KEYWORDS:
            keywords += field_value(header, start, end).split()
        elif name in (b"received", b"date"):
            dates.setdefault(name, field_value(header, start, end))
        elif is_first and name == b"subject" and field_value(header, start, end) == _INTERNAL:
            message.is_hidden = True
    message.keywords = keywords_of(keywords)
    told = parse_date(dates.get(b"received", b"").rpartition(b";")[2].strip()) or parse_date(
        dates.get(b"date", b"")
    )
    message.internaldate = _from_date(from_line, told) or told or message.internaldate


def _without_notes(octets: bytes) -> bytes:
    header = octets[: header_end(octets)]
    fields = split_header(header)
    # Mutt writes both; alone, it is a field of news.
    notes = _NOTES | {b"lines"} if any(name == b"content-length" for name, *_ in fields) else _NOTES
    kept, position = [], 0
    for name, start, end in fields:
        if name in notes or _status(name, field_value(header, start, end)) is not None:
            kept.append(header[position:start])
            position = end
    return b"".join((*kept, octets[position:])) if kept else octets


def _status(name: bytes, value: bytes) -> int | None:
    """The flags that a Status or X-Status field notes; None for any other field."""
    flags = _FLAGS.get(name)
    if flags is None or not flags.keys() >= set(value):
        return None
    return sum(flags[letter] for letter in set(value))


def _other_date(line: bytes) -> int | None:
    """As few programs write it, behind the sender."""
    return parse_date(b" ".join(line.split()[2:]))


def _from_date(line: bytes, told: int | None) -> int | None:
    """RFC 4155 has it in UTC, but most programs write their local time, without the zone: it is taken for that of the
    header's date (`told`) where it is closer to it then."""
    found = _FROM_LINE.fullmatch(line)
    if found is None:
        return _other_date(line)
    month, day, time, zone, year, zone_behind = found.groups()
    zone = zone_behind or zone or b""
    is_told = _ZONE.fullmatch(zone) is not None
    date = parse_date(b" ".join((day, month, year, time, zone if is_told else b"+0000")))
    if date is None or told is None or is_told:
        return date
    local = epoch_of(date) - zone_of(told) * 60
    is_local = abs(local - epoch_of(told)) < abs(epoch_of(date) - epoch_of(told))
    return pack_date(local, zone_of(told)) if is_local else date
