"""What a running server tells of itself, through a socket in its data folder: `pillarbox status`, `pillarbox top`.

Whoever connects gets one JSON object. Only the server's user can.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pillarbox.app.control import bind_control, short_path
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
        """Whoever calls holds the lock of the folder. Raises OSError."""
        sock = bind_control(self._folder / NAME)
        self._server = await asyncio.start_unix_server(self._answer, sock=sock)
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
    with socket.socket(socket.AF_UNIX) as sock, short_path(folder / NAME) as path:
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
    with socket.socket(socket.AF_UNIX) as sock, short_path(folder / NAME) as path:
        sock.settimeout(ANSWER_S)
        return sock.connect_ex(path) == 0
