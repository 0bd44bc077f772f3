"""The folder that `data_dir` names, before anything is made or read in it. One that was mistyped is told, for what is
advised for a folder of ours (chown -R) would harm the machine; a user whose server it is not hears who may use it.
"""

import os
from pathlib import Path

from pillarbox.app import rights
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.store.database import user_name

_FILES = ("directory.db", "lock", "tls/ca.pem")
"""Of which every data folder has one, but where it is lost; "lock" is a folder elsewhere, as in /run."""
_FOLDERS = ("journal", "accounts")
"""Each name is found elsewhere, too (/var/log has a journal), but not both."""
_OF_NOBODY = {"lost+found"}
"""What an empty file system has."""


def ensure_ours(config: Config, *, serves: bool = False) -> None:
    """For root before it acts as the server's user, and for anybody else. `serves`: where no user is named,
    the server's is who asks, else whose the folder is. Raises Refused."""
    ensure_sound(config)
    if why := why_barred(config, serves=serves):
        raise Refused(why)


def ensure_sound(config: Config) -> None:
    """Raises Refused where the folder cannot be meant."""
    folder = config.data_path
    user = rights.server_user(config.user)
    uid = os.geteuid() if user is None else user.uid
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        _ensure_parent(folder)
        return
    except OSError:
        return  # who uses it says why that cannot be
    if uid not in (0, owner) and _is_foreign(folder):
        raise Refused(
            f"data_dir: {folder} belongs to {user_name(owner)} and has files in it, none of them Pillarbox's:"
            " name a folder of its own, like /var/lib/pillarbox"
        )


def why_barred(config: Config, *, serves: bool = False) -> str:
    """For somebody who is neither root nor the server's user and may not use a folder that is there; "" for others."""
    folder = config.data_path
    if 0 in (os.getuid(), os.geteuid()) or os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return ""
    try:
        owner = user_name(folder.stat().st_uid)
    except FileNotFoundError:
        return ""
    except OSError:
        owner = ""  # somewhere above, we may not look into a folder
    us, server = user_name(os.geteuid()), config.user or ("" if serves else owner)
    if server == us or (serves and not server):
        return ""
    whom = "root" if server in ("", "root") else f"root or {server}"
    return f"data_dir: {us} may not use {folder}; run this as {whom}"


def _ensure_parent(folder: Path) -> None:
    """Only the last folder is made: a path that is wrong, or whose disk is not mounted, mostly lacks more."""
    if not folder.parent.exists():
        raise Refused(
            f"data_dir: {folder} cannot be made, for {folder.parent} is missing: mount its disk, correct data_dir,"
            f" or run: mkdir -p {folder.parent}"
        )


def _is_foreign(folder: Path) -> bool:
    """Whether there is something in it, and nothing of a server's; not where we may not look."""
    try:
        return bool(set(os.listdir(folder)) - _OF_NOBODY) and not (
            any((folder / name).is_file() for name in _FILES)
            or all((folder / name).is_dir() for name in _FOLDERS)
        )
    except OSError:
        return False
