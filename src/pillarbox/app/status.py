"""What a running server tells of itself, through a socket in its data folder: `pillarbox status`, `pillarbox top`.

Whoever connects gets one JSON object. Only the server's user can.
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pillarbox.app.figures import SAMPLE_EVERY_S, Status
from pillarbox.core.errors import Refused, Unavailable

NAME = "control"
ANSWER_S = 10.0


class StatusSocket:
    """Answers with `status` from `start` to `close`, on one event loop."""

    def __init__(self, folder: Path, status: Status, refresh: Callable[[], None]) -> None:
        """`refresh` is called before an answer."""
        self._folder = folder
        self._status = status
        self._refresh = refresh
        self._server: asyncio.AbstractServer | None = None
        self._sampling: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Whoever calls holds the lock of the folder, so a socket that is there is of nobody. Raises OSError."""
        (self._folder / NAME).unlink(missing_ok=True)
        with _short(self._folder) as path:
            self._server = await asyncio.start_unix_server(self._answer, path)
        (self._folder / NAME).chmod(0o600)
        self._sample()

    def _sample(self) -> None:
        self._refresh()
        self._status.sample()
        self._sampling = asyncio.get_running_loop().call_later(SAMPLE_EVERY_S, self._sample)

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError):
            self._refresh()
            async with asyncio.timeout(ANSWER_S):
                writer.write(json.dumps(self._status.report()).encode() + b"\n")
                await writer.drain()
        writer.close()

    def close(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()
        if self._server is not None:
            self._server.close()
            (self._folder / NAME).unlink(missing_ok=True)


def ask(folder: Path) -> dict[str, Any]:
    """The status of the server that runs on a data folder. Blocks. Raises Refused where none does, Unavailable."""
    with socket.socket(socket.AF_UNIX) as sock, _short(folder) as path:
        sock.settimeout(ANSWER_S)
        try:
            sock.connect(path)
            with sock.makefile("rb") as file:
                answer: dict[str, Any] = json.loads(file.read())
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Refused(f"no server runs on {folder}") from error
        except PermissionError as error:
            raise Refused(
                f"only root and the server's user may ask the server on {folder}"
            ) from error
        except (OSError, ValueError) as error:
            raise Unavailable("the server does not answer") from error
        return answer


def is_answered(folder: Path) -> bool:
    """Whether a server runs on a data folder. Blocks."""
    with socket.socket(socket.AF_UNIX) as sock, _short(folder) as path:
        sock.settimeout(ANSWER_S)
        return sock.connect_ex(path) == 0


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A path of the socket that is short enough for the system, however deep the folder is."""
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Refused(f"no server runs on {folder}") from error
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)
