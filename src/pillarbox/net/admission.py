"""How many connections a server and one client address may have."""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Protocol

from pillarbox.core.networks import NO_NETWORKS, Networks
from pillarbox.core.slots import Mark, SlotCounts
from pillarbox.net.balance import Balance


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
    accepted: int = 0
    """Since the start."""

    def admit(self, connection: Admitted, address: str) -> bool:
        """Count a new connection in, or say no."""
        held = self.by_address.get(address, 0)
        if len(self.connections) >= self.most or address in self.banned:
            return False
        if address not in self.proxies:
            others = self.elsewhere
            if others is None:
                if held >= self.most_per_address:
                    return False
            else:
                slot = others.slot(address)
                if held + others.counts.of_others(slot) >= self.most_per_address:
                    return False
                others.counts.add(slot, 1)
        self.accepted += 1
        if self.balance is not None:
            self.balance.add(connection.service.name, 1)
        self.by_address[address] = held + 1
        self.connections[connection] = address
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
