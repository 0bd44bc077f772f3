"""Files and folders that this process may not use, because they belong to somebody else: mostly to root, who ran a
command or copied them. Says whose they are and what to do. Changes nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

from pillarbox.core.errors import Unavailable
from pillarbox.store.database import user_name, why_no_file
from pillarbox.store.place import REPLACING


def find_denied(data_dir: Path) -> Iterator[str]:
    """A line for each folder of mail files, of the journal and of messages on their way, and each file of the journal.
    What is in a folder that is told of is left out. Blocks."""
    if not data_dir.exists():
        return
    if not _may_use(data_dir):
        yield why_denied(data_dir)
        return
    yield from _journal(data_dir)
    for name in ("spool", REPLACING):
        if (data_dir / name).is_dir() and not _may_use(data_dir / name):
            yield why_denied(data_dir / name)
    if why := why_no_file(data_dir / "queue.lock"):
        yield why
    accounts = data_dir / "accounts"
    if accounts.exists() and not _may_use(accounts):
        yield why_denied(accounts)
        return
    for folder in sorted(accounts.glob("[0-9a-f][0-9a-f]")):
        if not _may_use(folder):
            yield why_denied(folder)


def ensure_allowed(data_dir: Path) -> None:
    """Raises Unavailable where a server could take no mail at all."""
    for line in _journal(data_dir):
        raise Unavailable(line)
    accounts = data_dir / "accounts"
    if accounts.exists() and not _may_use(accounts):
        raise Unavailable(why_denied(accounts))


def is_shut(data_dir: Path) -> bool:
    """Whether some of that keeps us from looking at all else. Blocks."""
    if not data_dir.exists():
        return False
    accounts = data_dir / "accounts"
    return (
        not _may_use(data_dir)
        or any(_journal(data_dir))
        or (accounts.exists() and not _may_use(accounts))
    )


def may_look(folder: Path) -> bool:
    """Whether we may see what is in a folder, if it is there."""
    return not folder.exists() or os.access(folder, os.R_OK | os.X_OK, effective_ids=True)


def _journal(data_dir: Path) -> Iterator[str]:
    folder = data_dir / "journal"
    if not folder.exists():
        return
    if not _may_use(folder):
        yield why_denied(folder)
        return
    for path in sorted(folder.glob("*.log")):
        if path.exists() and not os.access(path, os.R_OK, effective_ids=True):
            yield why_denied(path)


def _may_use(folder: Path) -> bool:
    if os.statvfs(folder).f_flag & os.ST_RDONLY:  # that is another matter
        return os.access(folder, os.R_OK | os.X_OK, effective_ids=True)
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)


def why_denied(path: Path) -> str:
    """What keeps us from a file or a folder that is there, and what to do."""
    for above in reversed(path.absolute().parents):
        if not os.access(above, os.X_OK, effective_ids=True):
            path = above
            break
    owner, us = user_name(path.stat().st_uid), user_name(os.geteuid())
    if owner == us:
        return f"{path}: its mode keeps {us} out; run: chmod -R u+rwX {path}"
    recursive = "-R " if path.is_dir() else ""
    return f"{path} belongs to {owner}, and {us} may not use it; run: chown {recursive}{us}: {path}"
