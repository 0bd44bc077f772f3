"""How many connections a server and one client address may have."""

from dataclasses import dataclass, field
from typing import Protocol

from pillarbox.core.networks import NO_NETWORKS, Networks


class Admitted(Protocol):
    """What a shutdown, or the end of an account, needs of a connection."""

    account: int

    def stop(self) -> None: ...

    def abort(self) -> None: ...


@dataclass(slots=True)
class Admission:
    """Counts the connections of all services of a process."""

    most: int
    most_per_address: int
    proxies: Networks = NO_NETWORKS
    """Who begins with a PROXY header; their own number of connections is not bounded."""
    connections: set[Admitted] = field(default_factory=set)
    by_address: dict[str, int] = field(default_factory=dict)

    def admit(self, connection: Admitted, address: str) -> bool:
        """Count a new connection in, or say no."""
        held = self.by_address.get(address, 0)
        if len(self.connections) >= self.most:
            return False
        if held >= self.most_per_address and address not in self.proxies:
            return False
        self.by_address[address] = held + 1
        self.connections.add(connection)
        return True

    def leave(self, connection: Admitted, address: str) -> None:
        """Count a connection out that was admitted."""
        self.connections.discard(connection)
        held = self.by_address.get(address, 0) - 1
        if held > 0:
            self.by_address[address] = held
        else:
            self.by_address.pop(address, None)
