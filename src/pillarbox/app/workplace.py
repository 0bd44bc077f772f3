"""What a server process is given by whoever started it: its place among the workers, and what it shares with them."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pillarbox.app.hints import Hints
from pillarbox.app.shared import Shared, shared_alone
from pillarbox.app.systemd import Manager
from pillarbox.config.regular_file import read_regular
from pillarbox.net.balance import Balance
from pillarbox.store.place import ALONE, Place

Read = Callable[[Path], bytes]
"""What stands in a file; may block, raises OSError."""


@dataclass(slots=True)
class Workplace:
    """That of a server of one process, by default."""

    place: Place = ALONE
    shared: Shared = field(default_factory=shared_alone)
    hints: Hints | None = None
    balance: Balance | None = None
    """To the other workers, where there are any."""
    sockets: dict[str, list[socket.socket]] | None = None
    """Bound, by service; None: it binds its own."""
    read: Read = read_regular
    """For the files of TLS, which only root may be able to read."""
    challenge: list[socket.socket] = field(default_factory=list)
    """Bound, to answer a CA on; none: whoever answers binds its own."""
    metrics: list[socket.socket] = field(default_factory=list)
    """Bound, to tell figures and health on; of several workers, the supervisor tells."""
    manager: Manager = field(default_factory=Manager)
    """Who wants to hear of us; of several workers, the supervisor tells."""

    @property
    def prefix(self) -> str:
        """What the ids of its connections begin with, so that no two are the same."""
        return f"{self.place.number}-" if self.place.workers > 1 else ""
