"""What a server process is given by whoever started it: its place among the workers, and what it shares with them."""

import socket
from dataclasses import dataclass, field

from pillarbox.app.hints import Hints
from pillarbox.app.shared import Shared, shared_alone
from pillarbox.store.place import ALONE, Place


@dataclass(slots=True)
class Workplace:
    """That of a server of one process, by default."""

    place: Place = ALONE
    shared: Shared = field(default_factory=shared_alone)
    hints: Hints | None = None
    """To the other workers, where there are any."""
    sockets: dict[str, list[socket.socket]] | None = None
    """Bound, by service; None: it binds its own."""

    @property
    def prefix(self) -> str:
        """What the ids of its connections begin with, so that no two are the same."""
        return f"{self.place.number}-" if self.place.workers > 1 else ""
