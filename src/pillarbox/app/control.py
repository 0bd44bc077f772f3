"""Sockets in the data folder by which commands reach a running server: only its user, and root, can connect."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pillarbox.core.errors import Refused


def bind_control(path: Path) -> socket.socket:
    """For `asyncio.start_unix_server`. Whoever calls holds the lock of the folder, so a socket that is there is of
    nobody. Raises OSError."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    try:
        with short_path(path) as short:
            sock.bind(short)
        path.chmod(0o600)
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """The path of a socket, short enough for the system, however deep its folder is. Raises Refused where there is no
    such folder."""
    folder = path.parent
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Refused(f"no server runs on {folder}") from error
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
