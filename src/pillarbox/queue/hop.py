"""A next hop as the queue worker sees it: what waits for it, and the sessions with it."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from pillarbox.outbound.session import HostSession
from pillarbox.queue.schedule import Destination
from pillarbox.store.outgoing_row import Row


@dataclass(slots=True)
class Hop:
    name: str
    state: Destination
    groups: deque[list[Row]] = field(default_factory=deque)
    sessions: int = 0
    """Tasks that serve it; `connected` of them have a session, `opening` try to get one."""
    connected: int = 0
    opening: int = 0
    moved_at: float = 0.0
    """When it last took or refused a message, or began to have some."""
    idle: deque[tuple[float, "asyncio.Future[None]"]] = field(default_factory=deque)
    """Sessions that wait for more, since when (in time of the loop), the last one last."""


@dataclass(slots=True)
class Line:
    """What serves a hop, and its session: the one place that closes it."""

    hop: Hop
    task: "asyncio.Task[object]"
    session: HostSession | None = None

    @property
    def is_open(self) -> bool:
        return self.session is not None and self.session.is_usable()

    def pick_up(self, session: HostSession) -> None:
        self.session = session
        self.hop.connected += 1

    async def hang_up(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            self.hop.connected -= 1
            await session.close()
