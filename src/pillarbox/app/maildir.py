"""Old mail in a Maildir with its folders: below names with a dot (Maildir++: ".Work.2026"), or folders in folders
(Dovecot's LAYOUT=fs: "Work/2026").

Below the path that was given no symbolic link is followed, whatever is renamed meanwhile: the files may belong to
people who could not read themselves what we can. What is passed over has a problem.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from pillarbox.app.old_message import (
    LINKED,
    OldMailbox,
    OldMessage,
    arrival,
    checked,
    keywords_of,
    open_regular,
    shown,
    why,
)
from pillarbox.core.errors import Refused
from pillarbox.core.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN
from pillarbox.imap.utf7 import decode_utf7
from pillarbox.store.mailboxes import DEEPEST_NAME

_FLAGS = {"S": SEEN, "R": ANSWERED, "F": FLAGGED, "T": DELETED, "D": DRAFT}
_PLACES = ("new", "cur")
"""In this order: what another program moves meanwhile is found behind its move."""

_INFO = re.compile("[:;!]2,")
"""What stands in front of the flags; the latter two where file systems allow no colon."""

Parts = tuple[str, ...]
"""The way from the path that was given to a folder."""


def find_folders(path: Path) -> list[OldMailbox]:
    """Those of a Maildir, its own first. Blocks. Raises Refused where it is none, OSError."""
    is_one = set(os.listdir(path)).intersection(_PLACES)
    found = list(_find(path, (), ())) if is_one else []
    if not found:
        raise Refused(
            f"{shown(path)} is no Maildir: it has no folder cur; of mboxes, name one file at a time"
        )
    return found


def _find(root: Path, parts: Parts, name: tuple[str, ...]) -> Iterator[OldMailbox]:
    path = root.joinpath(*parts)
    try:
        with _opened(root, parts) as folder:
            entries = sorted(os.listdir(folder))
            folders = [entry for entry in entries if _is_folder(entry, folder, follow=False)]
            others = sorted(set(entries).difference(folders))
            links = [entry for entry in others if _is_folder(entry, folder, follow=True)]
    except OSError as error:
        if not parts:
            raise
        yield OldMailbox(name, path, problem=why(error))
        return
    if any(place in folders for place in _PLACES):
        mailbox = OldMailbox(name, path, messages=partial(_messages, root, parts))
        try:
            mailbox.octets = sum(found.st_size for *_, found in _files(root, parts))
        except OSError as error:
            mailbox.problem = f"cur or new: {why(error)}"
        yield mailbox
    for entry in links:
        yield OldMailbox(name, path / entry, problem=LINKED)
    for entry in folders:
        if entry not in (*_PLACES, "tmp"):
            if len(parts) < DEEPEST_NAME:
                yield from _find(root, (*parts, entry), (*name, *_names_of(entry)))
            else:
                yield OldMailbox(name, path / entry, problem="it is too deep")


def _names_of(entry: str) -> tuple[str, ...]:
    """Example: ".Entw&APw-rfe.2026" -> ("Entwürfe", "2026")."""
    octets = os.fsencode(entry)
    parts = octets[1:].split(b".") if entry.startswith(".") else [octets]
    return tuple("/".join(map(_decoded, parts)).split("/"))  # modified UTF-7 can have a slash, too


def _decoded(part: bytes) -> str:
    try:
        return decode_utf7(part)
    except ValueError:
        pass
    try:
        return part.decode("utf-8")
    except ValueError:
        return part.decode("latin-1")


def _is_folder(entry: str, folder: int, *, follow: bool) -> bool:
    with suppress(OSError):  # another program may have taken it away
        return stat.S_ISDIR(os.stat(entry, dir_fd=folder, follow_symlinks=follow).st_mode)
    return False


@contextmanager
def _opened(root: Path, parts: Parts) -> Iterator[int]:
    """The descriptor of a folder. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    folder = os.open(root, flags)
    try:
        for part in parts:
            inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _files(root: Path, parts: Parts) -> Iterator[tuple[str, str, os.stat_result]]:
    """(new or cur, name, what is known of it)"""
    for place in _PLACES:
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            _opened(root, (*parts, place)) as folder,
        ):
            for entry in os.scandir(folder):
                if not entry.name.startswith("."):
                    with suppress(FileNotFoundError):
                        yield place, entry.name, entry.stat(follow_symlinks=False)


def _messages(root: Path, parts: Parts, most_octets: int) -> Iterator[OldMessage]:
    names = _keyword_names(root, parts)
    files = sorted((found.st_mtime_ns, name, place) for place, name, found in _files(root, parts))
    for modified_ns, name, place in files:
        letters = sorted(set("".join(_INFO.split(name, 1)[1:])))
        message = OldMessage(
            shown(root.joinpath(*parts, place, name)),
            arrival(modified_ns // 1_000_000_000),
            sum(_FLAGS.get(letter, 0) for letter in letters),
            tuple(names[letter] for letter in letters if letter in names),
        )
        try:
            with (
                _opened(root, (*parts, place)) as folder,
                open_regular(name, folder) as file,
            ):
                octets = file.read(most_octets + 1)
        except OSError as error:
            message.problem = why(error)
            yield message
        else:
            yield checked(message, octets, most_octets)


def _keyword_names(root: Path, parts: Parts) -> dict[str, bytes]:
    """Which keyword a letter of a file's name stands for: "P", and as Dovecot notes it in lines like "0 Later"."""
    names = {"P": b"$Forwarded"}
    try:
        with _opened(root, parts) as folder, open_regular("dovecot-keywords", folder) as file:
            lines = file.read(100_000).splitlines()
    except OSError:
        return names
    for line in lines:
        number, _, name = line.partition(b" ")
        if re.fullmatch(rb"\d{1,2}", number) and int(number) < 26 and keywords_of([name]):
            names[chr(ord("a") + int(number))] = name
    return names
