"""The HTTP listener for figures and health: `/metrics`, `/healthz` and `/readyz`. It belongs to the process that
`pillarbox status` asks, the supervisor or the one that there is, and tells of all workers."""

import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from pillarbox.app.exposition import CONTENT_TYPE, expose
from pillarbox.app.figures import Status
from pillarbox.app.readiness import Readiness
from pillarbox.core.endpoint import format_endpoint
from pillarbox.net.http import Answer, HttpServer
from pillarbox.net.listener import start_listening

log = logging.getLogger("pillarbox.app")


class Monitoring:
    """From `start` to `close`, on one event loop."""

    def __init__(self, folder: Path, status: Status, refresh: Callable[[], None]) -> None:
        """`refresh` is called before an answer."""
        self._status = status
        self._refresh = refresh
        self.readiness = Readiness(folder, status)
        self._server = HttpServer(self._answer)

    async def start(self, sockets: list[socket.socket]) -> None:
        """On sockets that are bound; they are closed at the end. Raises Refused."""
        for sock in sockets:
            start_listening(sock, "metrics")
            log.info("metrics listens on %s", format_endpoint(*sock.getsockname()[:2]))
        await self._server.start(sockets)

    async def _answer(self, path: str) -> Answer | None:
        if path == "/healthz":
            return Answer(200, b"ok\n")
        if path == "/readyz":
            return await self._ready()
        return await self._metrics() if path == "/metrics" else None

    async def _ready(self) -> Answer:
        self._refresh()
        problems = await self.readiness.problems()
        body = json.dumps({"ready": not problems, "problems": problems}) + "\n"
        return Answer(503 if problems else 200, body.encode(), "application/json")

    async def _metrics(self) -> Answer:
        self._refresh()
        found = await self.readiness.look()
        workers = self._status.workers()  # once, so that all figures are of one moment
        is_ready = not (self.readiness.problems_of_workers(workers) or found.problems)
        text = expose(
            self._status, workers, found.queue, found.disk, found.canary, is_ready=is_ready
        )
        return Answer(200, text, CONTENT_TYPE)

    async def close(self) -> None:
        await self._server.close()
        self.readiness.close()
