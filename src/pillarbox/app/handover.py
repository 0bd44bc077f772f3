"""What the supervisor and a worker say to each other, over a pair of sockets: one JSON object a line.

The supervisor says once what the worker needs (`Orders`), with numbers of descriptors that it inherited; the worker
says once that it serves, or why not (`Ready`). When the supervisor ends, the worker reads the end of the stream, and
ends too.
"""

import socket

import msgspec

from pillarbox.app.footing import reader_by
from pillarbox.app.hints import Hints
from pillarbox.app.shared import Shared, open_memory
from pillarbox.app.workplace import Workplace
from pillarbox.config.schema import Config
from pillarbox.core.tally import SERVICES
from pillarbox.net.balance import Balance
from pillarbox.store.place import Place

CANNOT_START, STORE_FAILED = 78, 70
"""Exit codes of a worker, besides 0 after SIGTERM. Any other is a crash."""


class Orders(msgspec.Struct):
    """What a worker begins with."""

    config: Config
    number: int
    workers: int
    is_first: bool
    unusable: list[int]
    left: list[str]
    lock: int
    memory: int
    sockets: dict[str, list[int]]
    hints_in: int
    hints_out: dict[int, int]
    newcomers_in: int
    newcomers_out: dict[int, int]
    """Connections that one worker hands to another; likewise by the number of the worker that reads."""
    keeper: int = -1
    """Where the files of TLS are read; -1: as any other."""
    challenge: list[int] = []
    """Bound, to answer a CA on."""

    def workplace(self) -> Workplace:
        """With what the descriptors stand for; they belong to it from now on."""
        place = Place(
            self.number,
            self.workers,
            self.is_first,
            frozenset(self.unusable),
            tuple(self.left),
            self.lock,
        )
        shared = Shared(open_memory(self.memory), place)
        hints = Hints(shared, socket.socket(fileno=self.hints_in), _sockets(self.hints_out))
        balance = Balance(
            shared.now,
            shared.passed,
            SERVICES,
            self.number,
            socket.socket(fileno=self.newcomers_in),
            _sockets(self.newcomers_out),
        )
        sockets = {
            name: [socket.socket(fileno=fd) for fd in bound] for name, bound in self.sockets.items()
        }
        keeper = socket.socket(fileno=self.keeper) if self.keeper >= 0 else None
        challenge = [socket.socket(fileno=fd) for fd in self.challenge]
        return Workplace(
            place, shared, hints, balance, sockets, reader_by(keeper), challenge=challenge
        )


class Ready(msgspec.Struct):
    """The worker serves, or says why it cannot."""

    unusable: list[int]
    """Accounts whose journal could not be replayed."""
    left: list[str] = []
    """The segments that stayed for them."""
    why_not: str = ""


def _sockets(descriptors: dict[int, int]) -> dict[int, socket.socket]:
    return {number: socket.socket(fileno=descriptor) for number, descriptor in descriptors.items()}


def encode(message: Orders | Ready) -> bytes:
    return msgspec.json.encode(message) + b"\n"
