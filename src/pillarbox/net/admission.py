"""How many connections a server and one client address may have.

A full server still lets people in: for a new connection some of those go that nobody logged in on, the oldest first. So
who opens connections only to hold them, whatever is said on them to seem alive, keeps nobody out for long.
"""

import logging
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Protocol

from pillarbox.core.networks import NO_NETWORKS, Networks
from pillarbox.core.slots import Mark, SlotCounts
from pillarbox.net.balance import Balance

GRACE_S = 10.0
"""So long a stranger may stay in any case: most mail of other hosts is here by then. Who opens connections faster than
all of ours in this time can still fill a server."""
MADE_ROOM = 64
"""So many go at once: looking for them takes up to a millisecond."""
NEXT_LOOK_S = 0.1
"""After a look that found nobody."""

log = logging.getLogger("pillarbox.net")


class Named(Protocol):
    @property
    def name(self) -> str: ...


class Admitted(Protocol):
    """What a shutdown, the end of an account, or a count needs of a connection."""

    account: int
    supporter: int
    peer: tuple[str, int]

    @property
    def service(self) -> Named:
        """What it is connected to."""

    @property
    def stranger_since(self) -> float | None:
        """When it was opened (`time.monotonic`), if nobody logged in and nothing of ours is under way on it."""

    def give_way(self) -> None:
        """Part from the peer, since there are too many."""

    def stop(self) -> None: ...

    def abort(self) -> None: ...


@dataclass(slots=True, frozen=True)
class Elsewhere:
    """The connections of the other workers, by client address."""

    counts: SlotCounts
    slots: int
    mark: Mark

    def slot(self, address: str) -> int:
        return self.mark(address) % self.slots


@dataclass(slots=True)
class Admission:
    """Counts the connections of all services of a process."""

    most: int
    most_per_address: int
    proxies: Networks = NO_NETWORKS
    """Who begins with a PROXY header; their own number of connections is not bounded."""
    connections: dict[Admitted, str] = field(default_factory=dict)
    """With the address that each counts for."""
    by_address: dict[str, int] = field(default_factory=dict)
    elsewhere: Elsewhere | None = None
    balance: Balance | None = None
    """Where several workers share what comes."""
    banned: Container[str] = ()
    """Addresses that are turned away."""
    clock: Callable[[], float] = time.monotonic
    _next_look: float = 0.0

    def admit(self, connection: Admitted, address: str) -> bool:
        """Count a new connection in, or say no. Others may have to go for it."""
        held = self.by_address.get(address, 0)
        if address in self.banned:
            return False
        others = self.elsewhere if address not in self.proxies else None
        slot = others.slot(address) if others is not None else 0
        if address not in self.proxies:
            elsewhere = others.counts.of_others(slot) if others is not None else 0
            if held + elsewhere >= self.most_per_address:
                return False
        if len(self.connections) >= self.most:
            if not self._make_room():
                return False
            held = self.by_address.get(address, 0)
        if others is not None:
            others.counts.add(slot, 1)
        if self.balance is not None:
            self.balance.add(connection.service.name, 1)
        self.by_address[address] = held + 1
        self.connections[connection] = address
        return True

    def _make_room(self) -> bool:
        """Let those go that have been here longest without a login."""
        now = self.clock()
        if now < self._next_look:
            return False
        found = []
        for each in self.connections:  # the oldest first
            since = each.stranger_since
            if since is None:
                continue
            if since > now - GRACE_S:
                break
            found.append(each)
            if len(found) == MADE_ROOM:
                break
        for each in found:
            each.give_way()
        if not found:
            self._next_look = now + NEXT_LOOK_S
            return False
        log.warning("too many connections: %d that nobody logged in on had to go", len(found))
        return True

    def leave(self, connection: Admitted) -> None:
        """Count a connection out, if it was admitted."""
        address = self.connections.pop(connection, None)
        if address is None:
            return
        if self.balance is not None:
            self.balance.add(connection.service.name, -1)
        if self.elsewhere is not None and address not in self.proxies:
            self.elsewhere.counts.add(self.elsewhere.slot(address), -1)
        held = self.by_address.get(address, 0) - 1
        if held > 0:
            self.by_address[address] = held
        else:
            self.by_address.pop(address, None)
