"""Hints between workers (`store.notify`): "account A, mailbox M changed", to those who have somebody that waits for it.

Who waits stands in shared memory before a session looks, so a change is either seen by that look or told. What changed
in one turn of the loop goes in one write. Each worker has one stream to read from, to which all others write: a record
is 12 octets, and writes are small enough to be whole. A reader that falls behind gets its hints a little later.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping

from pillarbox.app.shared import WATCH_SLOTS, Shared

AGAIN_S = 0.02
RECORDS_A_WRITE = 300

_RECORD = struct.Struct("<QI")

READ_OCTETS = 5000 * _RECORD.size
"""Whole records, so that whoever reads next begins with one."""


class Hints:
    """Those of one worker; `store.notify.Relay`."""

    def __init__(
        self, shared: Shared, incoming: socket.socket, outgoing: Mapping[int, socket.socket]
    ) -> None:
        """`outgoing` by number of the worker that reads there."""
        self._watches = shared.watches
        self._incoming = incoming
        self._outgoing = outgoing
        self._waiting: dict[int, set[tuple[int, int]]] = {}
        """(account, mailbox) by worker."""
        self._is_due = False
        for each in (incoming, *outgoing.values()):
            each.setblocking(False)

    def watch(self, account: int) -> None:
        self._watches.add(account % WATCH_SLOTS, 1)

    def unwatch(self, account: int) -> None:
        self._watches.add(account % WATCH_SLOTS, -1)

    def tell(self, account: int, mailboxes: set[int]) -> None:
        for number in self._watches.holders(account % WATCH_SLOTS):
            waiting = self._waiting.setdefault(number, set())
            waiting.update((account, mailbox) for mailbox in mailboxes)
        if self._waiting and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        for number, waiting in list(self._waiting.items()):
            if self._send_to(self._outgoing[number], waiting):
                del self._waiting[number]
        if self._waiting:
            self._is_due = True
            asyncio.get_running_loop().call_later(AGAIN_S, self._send)

    def _send_to(self, sock: socket.socket, waiting: set[tuple[int, int]]) -> bool:
        """False: the reader has no room now for what is left in `waiting`."""
        records = list(waiting)
        for start in range(0, len(records), RECORDS_A_WRITE):
            some = records[start : start + RECORDS_A_WRITE]
            try:
                sock.send(b"".join(_RECORD.pack(*record) for record in some))
            except BlockingIOError:
                return False
            waiting.difference_update(some)
        return True

    def listen(self, hinted: Callable[[int, set[int]], None]) -> None:
        """Let `hinted` have (account, mailboxes) from now on, on this loop."""

        def read() -> None:
            changed: dict[int, set[int]] = {}
            for account, mailbox in _RECORD.iter_unpack(self._incoming.recv(READ_OCTETS)):
                changed.setdefault(account, set()).add(mailbox)
            for account, mailboxes in changed.items():
                hinted(account, mailboxes)

        asyncio.get_running_loop().add_reader(self._incoming, read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._incoming)
        for each in (self._incoming, *self._outgoing.values()):
            each.close()
