"""The drop folder: mail of local programs that waits until the server takes it up.

A file is an envelope (one line of JSON), then the message. It appears under its final name when it is whole and synced.
The folder lets others add files but not see them; who owns a file is who left it. A name that begins with a dot is a
file that is being written, or one that was set aside.
"""

import errno
import os
import re
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from pillarbox.core.errors import Refused
from pillarbox.store.database import user_name

SHARED_MODE = 0o3733
"""Everybody may add, nobody but the owner may list; files belong to the folder's group; nobody removes another's."""
FILE_MODE = 0o640
LARGEST_ENVELOPE = 1 << 20

SET_ASIDE = ".bad-"
_SUFFIX = ".mail"

LONGEST_NAME_KEPT = 40
"""Characters of the name of a file that is set aside."""

_NOTIFY = re.compile(r"(?:NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2})?")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2}){0,100}")


class Dropped(msgspec.Struct, forbid_unknown_fields=True):
    """The envelope of a message that was left."""

    recipients: list[str]
    """One or more, as written; without a domain, one of ours is meant."""
    sender: str | None = None
    """None: whoever left it; "" is the null path."""
    name: str = ""
    """For From, where the message has none: who left it, in words."""
    notify: str = ""
    ret: str = ""
    envid: str = ""
    """As in RFC 3461 §4."""


def make_folder(folder: Path, *, shared: bool) -> None:
    """Make the folder, or give it its group and mode; `shared`: for all users of the machine. Raises Refused where it
    is somebody else's, and OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    found, us = folder.stat(), os.geteuid()
    mode = SHARED_MODE if shared else 0o700
    is_fit = stat.S_IMODE(found.st_mode) == mode and found.st_gid == os.getegid()
    if not (is_fit and us == found.st_uid) and has_others(folder):
        raise Refused(
            f"the drop folder {folder} has files that are no mail: name a folder of its own"
        )
    if us not in (0, found.st_uid):
        deed = f"chown {user_name(us)}: {folder}"
        raise Refused(f"the drop folder {folder} belongs to another user; run: {deed}")
    if found.st_gid != os.getegid():  # else the bit that gives files this group is not to be had
        os.chown(folder, -1, os.getegid())
    if not is_fit:
        folder.chmod(
            mode
        )  # not in vain: systemd's RestrictSUIDSGID refuses it, and its unit has made the folder so


def has_others(folder: Path) -> bool:
    """Whether there is something that nobody left as mail: as in a folder that was named by mistake, like /etc. Not
    where we may not look."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(not name.endswith(_SUFFIX) and not name.startswith(".") for name in names)


def leave(folder: Path, envelope: Dropped, message: bytes) -> None:
    """Leave a message, durable on return. Raises OSError."""
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    hidden, final = folder / f".{name}", folder / (name + _SUFFIX)
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, FILE_MODE)  # whatever the umask of the caller is
            if os.geteuid() == 0:
                # The server may be somebody else, whom only the group lets read it: that of the folder.
                os.fchown(descriptor, -1, folder.stat().st_gid)
            file.write(msgspec.json.encode(envelope) + b"\n" + message)
            file.flush()
            os.fsync(descriptor)
            hidden.rename(final)
            # Again, for the name: the folder itself cannot be opened, and so not synced, by those who only may add.
            os.fsync(descriptor)
    except BaseException:
        for path in (hidden, final):
            with suppress(OSError):
                path.unlink()
        raise


def waiting(folder: Path) -> list[str]:
    """Names of what was left, oldest first. Raises OSError."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".")
    )


def set_aside_in(folder: Path) -> list[str]:
    """Names of what could not be taken up. Raises OSError."""
    return sorted(each.name for each in os.scandir(folder) if each.name.startswith(SET_ASIDE))


def read(folder: Path, name: str, max_octets: int) -> tuple[Dropped, bytes, int]:
    """Envelope, message and the user id of who left it. Raises Refused for what nobody could have left by `leave`,
    FileNotFoundError when it is gone, OSError."""
    # Not through a link that was left instead, nor a pipe that never ends.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(folder / name, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise Refused(f"it cannot be opened: {error.strerror}") from error
        raise  # that it is gone, or what may pass
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Refused("it is no file")
        if found.st_nlink != 1:
            raise Refused("it has other names, so its owner may not have left it")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            line = file.readline(LARGEST_ENVELOPE)
            message = file.read(max_octets + 1)  # it may grow while it is read
    finally:
        os.close(descriptor)
    if len(message) > max_octets:
        raise Refused(f"it is larger than smtp.max_message_size ({max_octets} octets)")
    try:
        envelope = msgspec.json.decode(line, type=Dropped)
    except msgspec.DecodeError as error:
        raise Refused(f"its envelope cannot be read: {error}") from error
    if not envelope.recipients:
        raise Refused("it has no recipients")
    if not (
        _NOTIFY.fullmatch(envelope.notify)
        and envelope.ret in ("", "FULL", "HDRS")
        and _XTEXT.fullmatch(envelope.envid)
        and envelope.name.isprintable()
        and all(each.isprintable() for each in (envelope.sender or "", *envelope.recipients))
    ):
        raise Refused("its envelope has what no envelope can have")
    return envelope, message, found.st_uid


def done(folder: Path, name: str) -> None:
    """Remove what was taken up. Raises OSError."""
    (folder / name).unlink()


def set_aside(folder: Path, name: str) -> Path:
    """Keep what cannot be taken up out of the way, for the administrator; returns where. Raises OSError."""
    # The name may be too long for a prefix, or taken: by a folder, say.
    kept = folder / f"{SET_ASIDE}{name[:LONGEST_NAME_KEPT]}-{secrets.token_hex(4)}"
    (folder / name).rename(kept)
    return kept
