"""What a server stands on before it runs: the lock of its folder, its ports, a keeper of its keys; and then no rights
that it does not need. The order matters: ports and keys need root, files must be the user's."""

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pillarbox.app import rights
from pillarbox.app.data_folder import ensure_ours
from pillarbox.app.keeper import read_by, start_keeper
from pillarbox.app.sockets import Sockets, bind_all, bind_metrics
from pillarbox.app.status import is_answered
from pillarbox.app.systemd import Manager, find_manager, take_passed
from pillarbox.app.workplace import Read
from pillarbox.config.regular_file import read_regular
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.net.listener import bind
from pillarbox.store.place import lock_folder

LAST_ONES_S = 5.0
"""How long workers of a supervisor that was killed may take to end."""


@dataclass(slots=True)
class Footing:
    """Taken once, before any thread or event loop."""

    sockets: list[Sockets]
    """For each worker."""
    lock: int
    """Of the data folder, held."""
    keeper: socket.socket | None
    manager: Manager
    challenge: list[socket.socket]
    """Bound, to answer a CA on; none where an order can bind its own."""
    metrics: list[socket.socket]
    """Bound, to tell figures and health on."""

    @property
    def read(self) -> Read:
        """How files of TLS are read."""
        return reader_by(self.keeper)


def reader_by(keeper: socket.socket | None) -> Read:
    return read_regular if keeper is None else partial(read_by, keeper)


def take_footing(config: Config, workers: int) -> Footing:
    """For a server with so many workers; we are `config.user` then, if we were root. Raises Refused."""
    manager = find_manager(os.environ)
    passed = take_passed(os.environ)
    user = rights.server_user(config.user)
    os.umask(0o077)
    ensure_ours(config, serves=True)
    _make_folder(config.data_path, user)
    if config.sendmail.drop_dir:
        _make("sendmail.drop_dir", config.drop_path, user)
    with rights.acting_as(user):
        lock = _take_lock(config.data_path)
    sockets = bind_all(config, workers, passed)
    metrics = bind_metrics(config)
    loses_rights = user is not None or bool(os.geteuid() and rights.has_any())
    challenge = _bind_for_challenge(config) if loses_rights else []
    keeper = None
    files = tls_files(config)
    if (user or os.geteuid()) and files and rights.has_capability(rights.DAC_READ_SEARCH):
        who = (os.geteuid(), os.getegid()) if user is None else (user.uid, user.gid)
        keeper = start_keeper(files, *who)
    if user is not None:
        rights.bar_return()
        rights.become(user)
    if loses_rights:
        _give_up()
    return Footing(sockets, lock, keeper, manager, challenge, metrics)


def _bind_for_challenge(config: Config) -> list[socket.socket]:
    """Ports of the web, which only root may have. They refuse connections until an order listens on them."""
    made = []
    for address in config.tls.challenge_addresses:
        with suppress(OSError):  # the order will say so
            made.append(bind(address))
    return made


def _give_up() -> None:
    try:
        rights.give_up_all()
    except OSError as error:
        raise Refused(f"the rights of root cannot be given up: {error.strerror}") from error


def tls_files(config: Config) -> list[Path]:
    """All that the configuration names for TLS: what the keeper may read."""
    return list(dict.fromkeys(path for pair in config.tls.named_pairs for path in pair))


def _make_folder(folder: Path, user: rights.User | None) -> None:
    """Raises Refused when it belongs to somebody else."""
    _make("data_dir", folder, user)
    if user is None:
        return
    # The lock is what a server that ran as root left first.
    for path in (folder, folder / "lock", folder / "directory.db"):
        if path.exists() and path.stat().st_uid != user.uid:
            raise Refused(
                f"data_dir: {path} does not belong to {user.name};"
                f" run: chown -R {user.name}: {folder}"
            )


def _make(setting: str, folder: Path, user: rights.User | None) -> None:
    """Raises Refused."""
    try:
        rights.make_folder(folder, user)
    except OSError as error:
        raise Refused(f"{setting}: {folder} cannot be made: {error.strerror}") from error


def _take_lock(folder: Path) -> int:
    """Where a supervisor was killed, its workers are about to end: they are waited for. Raises Refused."""
    end = time.monotonic() + LAST_ONES_S
    while True:
        try:
            return lock_folder(folder)
        except Refused:
            if time.monotonic() > end or is_answered(folder):
                raise
        except OSError as error:
            raise Refused(f"data_dir: {folder} cannot be used: {error.strerror}") from error
        time.sleep(0.02)
