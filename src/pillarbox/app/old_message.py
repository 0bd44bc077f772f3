"""A message that another program left on disk, and what is done to each, whatever kept it (`app.maildir`, `app.mbox`).

Files are only read, and no others than regular ones.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pillarbox.core.dates import LAST_S, pack_date
from pillarbox.imap.grammar import ATOM_CLASS

LINKED = "it is a symbolic link"

_CODED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"Dovecot-LZ4": "lz4",
    b"x\x01": "zlib",
    b"x\x9c": "zlib",
    b"x\xda": "zlib",
    b"CRYPTED\x03\x07": "Dovecot's mail_crypt",
}
"""How files begin that Dovecot's plugins compressed or encrypted."""

_KEYWORD = re.compile(rb"[%b]+" % ATOM_CLASS)


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
    is_hidden: bool = False
    """The old program kept it, but showed it to nobody."""


@dataclass(slots=True)
class OldMailbox:
    """A folder of a Maildir, or an mbox."""

    name: tuple[str, ...]
    """Below the one that is asked for; () is that itself."""
    path: Path
    octets: int = 0
    """On disk."""
    problem: str = ""
    """Why it cannot be taken; then it has no messages."""
    messages: Callable[[int], Iterator[OldMessage]] = lambda most_octets: iter(())
    """In the order of their arrival; those of over so many octets have none. Blocks. Raises OSError."""


def arrival(modified_s: float) -> int:
    """A packed date for the time of a file's change, which may be any number."""
    return pack_date(int(min(max(modified_s, 0), LAST_S)))


def shown(path: Path | str) -> str:
    """For people and JSON: octets that are no UTF-8 like "caf\\xe9"."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def open_regular(name: Path | str, folder: int | None = None, *, follow: bool = False) -> BinaryIO:
    """In a folder that is open. Raises OSError, also for what is no regular file."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(name, flags if follow else flags | os.O_NOFOLLOW, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(name))
    return open(descriptor, "rb")


def why(error: OSError) -> str:
    """In few words."""
    if isinstance(error, PermissionError):
        return f"{error.strerror}; the server's user must be able to read it"
    return LINKED if error.errno == errno.ELOOP else str(error.strerror)


def coding_of(octets: bytes) -> str:
    """Why they are not plain; "" where nothing is known that speaks against it."""
    for begin, coding in _CODED.items():
        if octets.startswith(begin):
            return f"it is not plain: {coding} made it; have the old server write it plain"
    return ""


def checked(message: OldMessage, octets: bytes, most_octets: int) -> OldMessage:
    """The message with these octets, and CRLF for line ends; or with what is wrong."""
    octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if len(octets) > most_octets:
        message.problem = f"it has more than {most_octets} octets (smtp.max_message_size)"
    elif not octets:
        message.problem = "it is empty"
    else:
        message.problem = coding_of(octets)
    message.octets = b"" if message.problem else octets
    return message


def keywords_of(names: Iterable[bytes]) -> tuple[bytes, ...]:
    """Those that IMAP can name (RFC 9051 §9, flag-keyword)."""
    return tuple(name for name in names if _KEYWORD.fullmatch(name))
