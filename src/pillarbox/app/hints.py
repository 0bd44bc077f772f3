"""What workers tell each other: that a mailbox changed (`store.notify`), and that one wants to read what another has
taken and not yet put into its file (`store.intake`).

Who waits for hints, and who holds mail for which account, stands in shared memory before the session looks or the 250
leaves. So a change is either seen by that look or told, and a reader knows whom to ask. What there is to say in one
turn of the loop goes in one write. Each worker has one stream to read from, to which all others write: a record is 16
octets, and writes are small enough to be whole. A reader that falls behind gets its records a little later.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from pillarbox.app.shared import ACCOUNT_SLOTS, Shared
from pillarbox.core.errors import Failure

AGAIN_S = 0.02
RECORDS_A_WRITE = 200

ANSWER_S = 1.0
"""A worker that does not put in what it holds within this is not waited for: it was killed, or is stuck."""

CHANGED, WANTED, DONE = 0, 1, 2
"""Kinds of records: a mailbox changed; put in what you hold for an account; that was done."""

_RECORD = struct.Struct("<HHIQ")  # kind, worker that says it, mailbox or ticket, account

TICKETS = 1 << 32
"""As many as a record has room for; then they begin anew."""

READ_OCTETS = 5000 * _RECORD.size
"""Whole records, so that whoever reads next begins with one."""


class Hints:
    """Those of one worker; `store.notify.Relay`."""

    def __init__(
        self, shared: Shared, incoming: socket.socket, outgoing: Mapping[int, socket.socket]
    ) -> None:
        """`outgoing` by number of the worker that reads there."""
        self._watches = shared.watches
        self._behind = shared.behind
        self._number = shared.number
        self._incoming = incoming
        self._outgoing = outgoing
        self._waiting: dict[int, set[tuple[int, int, int]]] = {}
        """(kind, mailbox or ticket, account) by worker."""
        self._is_due = False
        self._answers: dict[int, asyncio.Future[None]] = {}
        """By ticket: each question gets an answer of its own, for an earlier one says nothing of what came since."""
        self._last_ticket = 0
        self._putting: set[asyncio.Task[None]] = set()
        self._catch_up: Callable[[int], Awaitable[None]]
        for each in (incoming, *outgoing.values()):
            each.setblocking(False)

    # Hints

    def watch(self, account: int) -> None:
        self._watches.add(account % ACCOUNT_SLOTS, 1)

    def unwatch(self, account: int) -> None:
        self._watches.add(account % ACCOUNT_SLOTS, -1)

    def is_watched(self, account: int) -> bool:
        return self._watches.of_others(account % ACCOUNT_SLOTS) > 0

    def tell(self, account: int, mailboxes: set[int]) -> None:
        for number in self._watches.holders(account % ACCOUNT_SLOTS):
            for mailbox in mailboxes:
                self._say(number, CHANGED, mailbox, account)

    # Mail that is not yet in its file

    def mark_behind(self, account: int, change: int) -> None:
        self._behind.add(account % ACCOUNT_SLOTS, change)

    def is_behind(self, account: int) -> bool:
        return self._behind.of_others(account % ACCOUNT_SLOTS) > 0

    async def catch_up(self, account: int) -> None:
        asked: dict[int, asyncio.Future[None]] = {}
        for number in self._behind.holders(account % ACCOUNT_SLOTS):
            ticket = self._last_ticket = (self._last_ticket + 1) % TICKETS
            asked[ticket] = self._answers[ticket] = asyncio.get_running_loop().create_future()
            self._say(number, WANTED, ticket, account)
        try:
            if asked:
                await asyncio.wait(asked.values(), timeout=ANSWER_S)
        finally:
            for ticket in asked:
                self._answers.pop(ticket, None)

    async def _put(self, number: int, ticket: int, account: int) -> None:
        with suppress(Failure):  # whoever asked reads what there is
            await self._catch_up(account)
        self._say(number, DONE, ticket, account)

    # The streams

    def _say(self, number: int, kind: int, detail: int, account: int) -> None:
        self._waiting.setdefault(number, set()).add((kind, detail, account))
        if not self._is_due:
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

    def _send_to(self, sock: socket.socket, waiting: set[tuple[int, int, int]]) -> bool:
        """False: the reader has no room now for what is left in `waiting`."""
        records = list(waiting)
        for start in range(0, len(records), RECORDS_A_WRITE):
            some = records[start : start + RECORDS_A_WRITE]
            octets = b"".join(
                _RECORD.pack(kind, self._number, detail, account) for kind, detail, account in some
            )
            try:
                sock.send(octets)
            except BlockingIOError:
                return False
            except OSError:
                return True  # its reader is gone, or all are: the supervisor was killed
            waiting.difference_update(some)
        return True

    def listen(
        self,
        hinted: Callable[[int, set[int]], None],
        catch_up: Callable[[int], Awaitable[None]],
    ) -> None:
        """From now on, on this loop: `hinted` gets (account, mailboxes), and `catch_up` puts in what is wanted."""
        self._catch_up = catch_up
        asyncio.get_running_loop().add_reader(self._incoming, self._read, hinted)

    def _read(self, hinted: Callable[[int, set[int]], None]) -> None:
        changed: dict[int, set[int]] = {}
        for kind, number, detail, account in _RECORD.iter_unpack(self._incoming.recv(READ_OCTETS)):
            if kind == CHANGED:
                changed.setdefault(account, set()).add(detail)
            elif kind == WANTED:
                task = asyncio.get_running_loop().create_task(self._put(number, detail, account))
                self._putting.add(task)
                task.add_done_callback(self._putting.discard)
            elif (answer := self._answers.get(detail)) is not None and not answer.done():
                answer.set_result(None)
        for account, mailboxes in changed.items():
            hinted(account, mailboxes)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._incoming)
        for task in self._putting:
            task.cancel()
        self._waiting.clear()
        for each in (self._incoming, *self._outgoing.values()):
            each.close()
