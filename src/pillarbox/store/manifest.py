"""What a backup says of itself: `manifest.json`, written last. A folder without it is no backup.

Names of files are relative to the backup's folder: `data/` is as the data folder, `configuration/` has copies of the
configuration and of the files that it names.
"""

import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

import msgspec

from pillarbox.core.errors import Refused
from pillarbox.store import database
from pillarbox.store.new_file import open_new

NAME = "manifest.json"
UNFINISHED_MANIFEST = f"{NAME}.new"
FORMAT = 1
DATA = "data"
CONFIGURATION = "configuration"
KINDS = ("account", "directory", "queue", "logins")

_PIECE_OCTETS = 1 << 20

Progress = Callable[[int, int], None]
"""(octets done, all of them)."""


class SavedFile(msgspec.Struct):
    """A file of the backup."""

    size: int
    """Octets."""
    sha256: str
    """In hex."""


class SavedAccount(msgspec.Struct):
    """An account whose mail is in the backup."""

    id: int
    file: str
    """"" if it never had mail, or if its file was missing. A damaged one is there as it stood, with its log."""
    damage: str = ""
    """What is wrong with its file; "" if nothing is."""
    grantees: dict[int, str] = {}
    """Addresses of the accounts, by number, that some mailbox of it is shared with."""


class Manifest(msgspec.Struct):
    format: int
    version: str
    """Of Pillarbox."""
    schemas: dict[str, int]
    """The version of each kind of file."""
    began: int
    ended: int
    """Epoch seconds. What was acknowledged before the first is in the backup."""
    is_whole: bool
    """Of the whole server, not only of some accounts."""
    configuration: dict[str, str]
    """Where each file of `configuration/` comes from, by its name in the backup."""
    left_out: list[str]
    """What could not be read, and why."""
    accounts: dict[str, SavedAccount]
    """By address."""
    files: dict[str, SavedFile]


def present_schemas() -> dict[str, int]:
    """The versions that this Pillarbox makes."""
    return {kind: len(database.schema_scripts(kind)) for kind in KINDS}


def read_manifest(folder: Path) -> Manifest:
    """Raises Refused where there is none that can be used."""
    path = folder / NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise Refused(
            f"{folder} has no {NAME}: it is no backup, or one that was not finished"
        ) from error
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is not a manifest: {error}") from error
    newer = any(
        manifest.schemas.get(kind, 0) > number for kind, number in present_schemas().items()
    )
    if manifest.format != FORMAT or newer:
        raise Refused(
            f"this backup was made by Pillarbox {manifest.version}, which is newer than this one"
        )
    for name in manifest.files:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise Refused(f"{path} names a file outside of the backup: {name}")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Durable on return, whole or not at all. Raises OSError."""
    unfinished = folder / UNFINISHED_MANIFEST
    with open(open_new(unfinished), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / NAME)
    database.sync_folder(folder)


def describe(path: Path) -> SavedFile:
    """Size and checksum of a file. Raises OSError."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_OCTETS):
            digest.update(piece)
            size += len(piece)
    return SavedFile(size, digest.hexdigest())


def ensure_unchanged(
    folder: Path, manifest: Manifest, names: Collection[str], progress: Progress | None = None
) -> None:
    """Compare files of the backup with their checksums. Raises Refused, and names all that differ."""
    known = [name for name in names if name in manifest.files]
    total = sum(manifest.files[name].size for name in known)
    done = 0
    problems = [f"{name} is not in {NAME}" for name in names if name not in manifest.files]
    for name in known:
        try:
            found: SavedFile | None = describe(folder / name)
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror}")
        else:
            if found != manifest.files[name]:
                problems.append(f"{name} is not as it was written")
        done += manifest.files[name].size
        if progress:
            progress(done, total)
    if problems:
        raise Refused(
            "\n".join([f"the backup {folder} is damaged; nothing was restored:", *problems])
        )
