"""Who else on this machine may read or change the server's files."""

import stat
from collections.abc import Iterator
from pathlib import Path

from pillarbox.cli.doctor.case import WAIT_S, Case, in_thread
from pillarbox.cli.doctor.finding import Finding, ok, warning
from pillarbox.config.schema import Config

_FILES = ("directory.db", "queue.db", "logins.db", "run.db")


async def check_modes(case: Case) -> list[Finding]:
    """Modes of the data folder, its files and the keys of TLS; that of a group is for a key nobody's business."""
    folder = case.config.data_path
    try:
        found = await in_thread(lambda: list(_find(case.config)), WAIT_S)
    except TimeoutError:
        return []  # the finding about the disk says so
    return found or [ok("modes", str(folder), "only the server's user and root can read it")]


def _find(config: Config) -> Iterator[Finding]:
    folder = config.data_path
    if (mode := mode_of(folder)) & 0o077:
        found = f"others on this machine may look into it ({mode:04o})"
        yield warning("modes", str(folder), found, f"chmod 700 {folder}")
    for name in _FILES:
        if (mode := mode_of(folder / name)) & 0o077:
            found = f"others on this machine may read or change it ({mode:04o})"
            yield warning("modes", str(folder / name), found, f"chmod 600 {folder / name}")
    for path in loose_keys(config):
        found = f"all users of this machine can read this key ({mode_of(path):04o})"
        yield warning("modes", str(path), found, f"chmod o-rwx {path}")


def loose_keys(config: Config) -> list[Path]:
    """Keys of TLS that all users of the machine can read."""
    return [path for _, path in config.tls.named_pairs if mode_of(path) & 0o007]


def mode_of(path: Path) -> int:
    """0 where we cannot know it."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
