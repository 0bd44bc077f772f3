"""Exchanges of SCRAM that were begun in this worker: between the server's challenge and the client's proof.

One that is under way for too long is a failure of its network, in the table that all workers share; before that it is
none, so an end takes nothing back from there. Those of a worker that dies are forgotten.
"""

from collections import Counter
from collections.abc import Callable

LONGEST_S = 10.0
"""Seconds from a challenge to its proof; a program that knows the password takes a fraction of one."""

MOST_OF_NETWORK = 200
"""Further ones are failures when they begin. As many as an address has connections."""

MOST = 10_000
"""Of all networks; then the oldest one is given up. As many as a worker has connections."""


class Begun:
    """Those of one process."""

    def __init__(self, clock: Callable[[], float], give_up: Callable[[str], object]) -> None:
        """`give_up` is told the network of each that is not brought to an end."""
        self._clock = clock
        self._give_up = give_up
        self._last = 0
        self._under_way: dict[int, tuple[float, str]] = {}
        """When each began, the oldest first, and in which network."""
        self._of_network: Counter[str] = Counter()

    def begin(self, network: str) -> int:
        """Another one; returns its number for `end`, which is never given twice."""
        self._last += 1
        if self._of_network[network] >= MOST_OF_NETWORK:
            self._give_up(network)
            return self._last
        if len(self._under_way) >= MOST:
            self._give_up(self._forget(next(iter(self._under_way))))
        self._under_way[self._last] = self._clock(), network
        self._of_network[network] += 1
        return self._last

    def end(self, number: int) -> None:
        """There is a proof. If that comes too late, it changes nothing."""
        if number in self._under_way:
            self._forget(number)

    def give_up_late(self) -> None:
        """All that are under way for too long."""
        before = self._clock() - LONGEST_S
        while self._under_way:
            number, (since, _) = next(iter(self._under_way.items()))
            if since > before:
                return
            self._give_up(self._forget(number))

    def _forget(self, number: int) -> str:
        _, network = self._under_way.pop(number)
        self._of_network[network] -= 1
        if not self._of_network[network]:
            del self._of_network[network]
        return network

    def __len__(self) -> int:
        return len(self._under_way)
