"""Hints between workers (`store.notify`): "account A, mailbox M changed", to those who have somebody that waits for it;
and the question to put into an account's file what was taken for it (`store.intake`), with its answer.

Who waits stands in shared memory before a session looks, so a change is either seen by that look or told. What changed
in one turn of the loop goes in one write. Each worker has one stream to read from, to which all others write: a record
is 13 octets, and writes are small enough to be whole. A reader that falls behind gets its hints a little later.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

from pillarbox.app.shared import WATCH_SLOTS, Shared

AGAIN_S = 0.02
RECORDS_A_WRITE = 300

LONGEST_WAIT_S = 5.0
LOOK_EVERY_S = 0.2
"""For an answer; whether the one who was asked still lives is looked at so often."""

_RECORD = struct.Struct("<QIB")  # account, mailbox or worker, kind
_CHANGED, _ASKED, _DONE = range(3)

READ_OCTETS = 5000 * _RECORD.size
"""Whole records, so that whoever reads next begins with one."""


log = logging.getLogger("pillarbox.hints")


class Hints:
    """Those of one worker; `store.notify.Relay`."""

    def __init__(
        self, shared: Shared, incoming: socket.socket, outgoing: Mapping[int, socket.socket]
    ) -> None:
        """`outgoing` by number of the worker that reads there."""
        self._number = shared.number
        self._watches = shared.watches
        self._behind = shared.behind
        self._incoming = incoming
        self._outgoing = outgoing
        self._waiting: dict[int, set[tuple[int, int, int]]] = {}
        """Records by worker."""
        self._is_due = False
        self._answers: dict[tuple[int, int], asyncio.Future[None]] = {}
        """By account and the worker who was asked."""
        self._answering: set[asyncio.Task[None]] = set()
        for each in (incoming, *outgoing.values()):
            each.setblocking(False)

    def watch(self, account: int) -> None:
        self._watches.add(account % WATCH_SLOTS, 1)

    def unwatch(self, account: int) -> None:
        self._watches.add(account % WATCH_SLOTS, -1)

    def tell(self, account: int, mailboxes: set[int]) -> None:
        for number in self._watches.holders(account % WATCH_SLOTS):
            for mailbox in mailboxes:
                self._send_soon(number, (account, mailbox, _CHANGED))

    def is_watched(self, account: int) -> bool:
        return self._watches.of_others(account % WATCH_SLOTS) > 0

    def mark_behind(self, account: int, change: int) -> None:
        self._behind.add(account % WATCH_SLOTS, change)

    def is_behind(self, account: int) -> bool:
        return self._behind.of_others(account % WATCH_SLOTS) > 0

    async def catch_up(self, account: int) -> None:
        for number in self._behind.holders(account % WATCH_SLOTS):
            key = (account, number)
            answer = self._answers.get(key)
            if answer is None:
                answer = self._answers[key] = asyncio.get_running_loop().create_future()
                self._send_soon(number, (account, self._number, _ASKED))
            for _ in range(int(LONGEST_WAIT_S / LOOK_EVERY_S)):
                await asyncio.wait([answer], timeout=LOOK_EVERY_S)
                if answer.done() or number not in self._behind.holders(account % WATCH_SLOTS):
                    break
            else:
                log.warning("worker %d does not answer", number)
            self._answers.pop(key, None)

    async def _answer(
        self, account: int, number: int, put: Callable[[int], Awaitable[None]]
    ) -> None:
        await put(account)
        self._send_soon(number, (account, self._number, _DONE))

    def _send_soon(self, number: int, record: tuple[int, int, int]) -> None:
        self._waiting.setdefault(number, set()).add(record)
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
            try:
                sock.send(b"".join(_RECORD.pack(*record) for record in some))
            except BlockingIOError:
                return False
            waiting.difference_update(some)
        return True

    def listen(
        self, hinted: Callable[[int, set[int]], None], put: Callable[[int], Awaitable[None]]
    ) -> None:
        """Let `hinted` have (account, mailboxes) from now on, on this loop, and `put` accounts whose files others want
        to be given what was taken for them."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            changed: dict[int, set[int]] = {}
            for account, value, kind in _RECORD.iter_unpack(self._incoming.recv(READ_OCTETS)):
                if kind == _CHANGED:
                    changed.setdefault(account, set()).add(value)
                elif kind == _ASKED:
                    task = loop.create_task(self._answer(account, value, put))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                elif (answer := self._answers.get((account, value))) and not answer.done():
                    answer.set_result(None)
            for account, mailboxes in changed.items():
                hinted(account, mailboxes)

        loop.add_reader(self._incoming, read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._incoming)
        for each in (self._incoming, *self._outgoing.values()):
            each.close()
