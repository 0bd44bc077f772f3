"""Mail on disk that other programs left: a Maildir with its sub-folders (Maildir++), or a file in the mbox format
(RFC 4155). Only reads, follows no symbolic link, and takes nothing but regular files.

Messages come with CRLF line ends and are else as they are; of an mbox, one ">" goes from lines of a body like
">From " (mboxrd), and the empty line in front of the next message.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import Refused
from pillarbox.core.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN
from pillarbox.imap.utf7 import decode_utf7
from pillarbox.mime.header import header_end, split_header

_MAILDIR_FLAGS = {"S": SEEN, "R": ANSWERED, "F": FLAGGED, "T": DELETED, "D": DRAFT}
_MBOX_FLAGS = {"R": SEEN, "A": ANSWERED, "F": FLAGGED, "D": DELETED, "T": DRAFT}
_MOZILLA_FLAGS = {1: SEEN, 2: ANSWERED, 4: FLAGGED, 8: DELETED}

_USUAL = {
    "sent items": "Sent",
    "sent messages": "Sent",
    "deleted items": "Trash",
    "deleted messages": "Trash",
    "junk e-mail": "Junk",
    "spam": "Junk",
}
"""What other programs call the mailboxes that each account has here; at the top only."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FROM_LINE = re.compile(
    rb"From .*?(%b) +(\d{1,2}) (\d\d):(\d\d)(?::(\d\d))?(?: [A-Z]{1,5}| ([+-]\d{4}))? (\d{4})(?: ([+-]\d{4}))?\s*"
    % "|".join(_MONTHS).encode()
)
_QUOTED = re.compile(rb">+From ")
_CODED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"CRYPTED\x03\x07": "Dovecot's mail_crypt",
}
"""How files begin that Dovecot's plugins compressed or encrypted."""
PIECE_OCTETS = 64 * 1024
"""Of a line, at most: what is no mail may be one line of gigabytes."""


@dataclass(slots=True)
class OldMessage:
    """A message as it was found."""

    where: str
    """For people: the file, and of an mbox the number in it."""
    internaldate: int
    """A packed date (core.dates)."""
    flags: int = 0
    keywords: tuple[bytes, ...] = ()
    octets: bytes = b""
    problem: str = ""
    """Why it cannot be taken; then there are no octets."""


@dataclass(slots=True)
class OldMailbox:
    """A folder of a Maildir, or an mbox."""

    name: tuple[str, ...]
    """Below the one that is asked for; () is that itself."""
    path: Path
    octets: int
    """On disk."""

    def messages(self, most_octets: int) -> Iterator[OldMessage]:
        """In the order of their arrival; those of over `most_octets` have none. Blocks. Raises OSError."""
        if self.path.is_dir():
            return _maildir_messages(self.path, most_octets)
        return _mbox_messages(self.path, most_octets)


def find_mailboxes(path: Path) -> list[OldMailbox]:
    """Those of a Maildir, its own first, or the one of an mbox. Blocks. Raises Refused where it is neither, OSError."""
    if not path.is_dir():
        with _open(path) as file:
            first = file.readline(PIECE_OCTETS)
            if first and not _FROM_LINE.fullmatch(first):
                raise Refused(
                    f'{path} is no mbox: its first line is not like "From a@example.org Thu Nov 26 10:00:00 2026"'
                )
            return [OldMailbox((), path, os.fstat(file.fileno()).st_size)]
    if not _is_maildir(path):
        raise Refused(f"{path} is no Maildir: it has no folder cur")
    found = [OldMailbox((), path, _octets_in(path))]
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        folder = Path(entry.path)
        is_here = entry.is_dir(follow_symlinks=False)
        if is_here and entry.name.startswith(".") and _is_maildir(folder):
            found.append(OldMailbox(_name_of(entry.name[1:]), folder, _octets_in(folder)))
    return found


def _is_maildir(path: Path) -> bool:
    return not (path / "cur").is_symlink() and (path / "cur").is_dir()


def _name_of(folder: str) -> tuple[str, ...]:
    """Example: "Entw&APw-rfe.2026" -> ("Entwürfe", "2026")."""
    try:
        name = decode_utf7(os.fsencode(folder))
    except ValueError:
        name = os.fsencode(folder).decode("utf-8", "replace")
    first, *others = name.split(".")
    return (first if others else _USUAL.get(first.lower(), first), *others)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """`new` before `cur`: what another program moves meanwhile is found behind its move."""
    for name in ("new", "cur"):
        place = folder / name
        if place.is_dir() and not place.is_symlink():
            for each in os.scandir(place):
                if not each.name.startswith("."):
                    with suppress(FileNotFoundError):
                        yield each.path, each.stat(follow_symlinks=False)


def _octets_in(folder: Path) -> int:
    return sum(found.st_size for _, found in _files(folder))


def _maildir_messages(folder: Path, most_octets: int) -> Iterator[OldMessage]:
    names = _keyword_names(folder)
    found = [(found.st_mtime_ns, path) for path, found in _files(folder)]
    for modified_ns, path in sorted(found):
        letters = os.path.basename(path).partition(":2,")[2]
        message = OldMessage(
            path,
            pack_date(modified_ns // 1_000_000_000),
            sum(_MAILDIR_FLAGS.get(letter, 0) for letter in set(letters)),
            tuple(names[letter] for letter in sorted(set(letters)) if letter in names),
        )
        try:
            with _open(Path(path)) as file:
                message.octets = file.read(most_octets + 1)
        except OSError as error:
            is_link = error.errno == errno.ELOOP
            message.problem = "it is a symbolic link" if is_link else str(error.strerror)
        yield _checked(message, most_octets)


def _keyword_names(folder: Path) -> dict[str, bytes]:
    """Which keyword a letter of a file's name stands for, as Dovecot notes it: lines like "0 $Forwarded"."""
    names: dict[str, bytes] = {}
    try:
        with _open(folder / "dovecot-keywords") as file:
            lines = file.read(100_000).splitlines()
    except OSError:
        return names
    for line in lines:
        number, _, name = line.partition(b" ")
        if (
            re.fullmatch(rb"\d{1,2}", number)
            and int(number) < 26
            and re.fullmatch(rb"[\w$.-]+", name)
        ):
            names[chr(ord("a") + int(number))] = name
    return names


def _checked(message: OldMessage, most_octets: int) -> OldMessage:
    """With CRLF, or with what is wrong."""
    octets = message.octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if len(octets) > most_octets:
        message.problem = f"it has more than {most_octets} octets (smtp.max_message_size)"
    elif not octets and not message.problem:
        message.problem = "it is empty"
    for begin, coding in _CODED.items():
        if octets.startswith(begin):
            message.problem = (
                f"it is not plain: {coding} made it; have the old server write it plain"
            )
    message.octets = b"" if message.problem else octets
    return message


def _open(path: Path) -> BinaryIO:
    """Raises OSError, also for what is no regular file."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return open(descriptor, "rb")


def _mbox_messages(path: Path, most_octets: int) -> Iterator[OldMessage]:
    with _open(path) as file:
        usual = pack_date(int(os.fstat(file.fileno()).st_mtime))
        number, date, size = 0, usual, 0
        lines: list[bytes] = []
        is_body = is_behind_empty = is_amid_line = is_unclear = False
        while line := file.readline(PIECE_OCTETS):
            begins = _FROM_LINE.fullmatch(line) if not number or is_behind_empty else None
            if begins:
                if number:
                    where = f"{path}, message {number}"
                    yield _mbox_message(where, date, lines, size, most_octets, is_unclear)
                number, date, lines, size = number + 1, _from_date(begins, usual), [], 0
                is_body = is_behind_empty = is_unclear = False
                continue
            is_unclear = is_unclear or (is_behind_empty and line.startswith(b"From "))
            is_behind_empty = not is_amid_line and line in (b"\n", b"\r\n")
            is_body = is_body or is_behind_empty
            if is_body and not is_amid_line and _QUOTED.match(line):
                line = line[1:]
            is_amid_line = not line.endswith(b"\n")
            size += len(line)
            if size <= most_octets + 2:  # with the empty line behind it
                lines.append(line)
        if number:
            where = f"{path}, message {number}"
            yield _mbox_message(where, date, lines, size, most_octets, is_unclear)


def _from_date(line: re.Match[bytes], usual: int) -> int:
    """RFC 4155: UTC, unless a zone is told."""
    month, day, hour, minute, second, zone, year, zone_behind = line.groups()
    try:
        moment = datetime(
            int(year),
            _MONTHS.index(month.decode()) + 1,
            int(day),
            int(hour),
            int(minute),
            min(int(second or 0), 59),
            tzinfo=UTC,
        )
        told = (zone or zone_behind or b"+0000").decode()
        minutes = int(told[1:3]) * 60 + int(told[3:])
        minutes = -minutes if told[0] == "-" else minutes
        return pack_date(int((moment - timedelta(minutes=minutes)).timestamp()), minutes)
    except (ValueError, OverflowError):
        return usual


def _mbox_message(
    where: str, date: int, lines: list[bytes], size: int, most_octets: int, is_unclear: bool
) -> OldMessage:
    """`is_unclear`: what follows an empty line may begin another message, and has no date that is known; two messages
    must not become one without a word."""
    if lines and lines[-1] in (b"\n", b"\r\n"):
        size -= len(lines.pop())
    message = OldMessage(where, date, octets=b"".join(lines))
    if size > most_octets:
        message.octets = b"." * (most_octets + 1)
    checked = _checked(message, most_octets)
    checked.flags = _mbox_flags(checked.octets)
    if is_unclear:
        checked.octets = b""
        checked.problem = (
            'a line "From " without a date as mboxes have it follows an empty line: give it one where it begins another'
            ' message, else put ">" in front of it'
        )
    return checked


def _mbox_flags(octets: bytes) -> int:
    """Of Status and X-Status, and what Mozilla notes."""
    flags = 0
    block = octets[: header_end(octets)]
    for name, start, end in split_header(block):
        value = block[start:end].partition(b":")[2].strip().decode("latin-1")
        if name in (b"status", b"x-status"):
            flags |= sum(_MBOX_FLAGS.get(letter, 0) for letter in set(value))
        elif name == b"x-mozilla-status" and re.fullmatch("[0-9A-Fa-f]{4}", value):
            flags |= sum(flag for bit, flag in _MOZILLA_FLAGS.items() if int(value, 16) & bit)
    return flags
