"""How long a connection waits for its peer: for the next event, for a message that drips, for output to be taken."""

import asyncio
from collections.abc import Callable

HANDSHAKE_S = 60.0
"""For the handshake with which a connection begins: no engine waits for anything yet."""

PROXY_HEADER_S = 5.0
"""For the header with which a trusted proxy begins. It sends that first of all, so what takes long is a lost packet:
3 s are the least that leave time to send one again (HAProxy's proxy-protocol.txt, §2)."""

LEAST_RATE = 100
"""Octets in a second, on average over as long as a peer may be silent: a message that comes more slowly is not awaited.
The slowest links by satellite carry twice as much."""

WRITE_STALL_S = 120.0
"""A peer that takes none of our output for this long is cut off."""

LONGEST_NAP_S = 60.0
"""Time-outs are looked at as often as this, since a new state may have a shorter one."""


class Patience:
    """Of one connection. It has the timers; what comes of them is the connection's."""

    __slots__ = ("_look", "_loop", "_slow_since", "_stall_timer", "_timer", "heard", "received")

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[], None]) -> None:
        """`look` is called when it is time to see whether the peer has been silent for too long."""
        self._loop = loop
        self._look = look
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._slow_since: tuple[float, int] | None = None  # amid a message, and what had come then
        self.heard = loop.time()
        """When the last event was whole: single octets do not keep a connection."""
        self.received = 0
        """Octets, as they came."""

    # Input

    def begin(self, timeout: float | None) -> None:
        """Look after `timeout` seconds (None: whenever), in place of what was to be."""
        if self._timer is not None:
            self._timer.cancel()
        nap = LONGEST_NAP_S if timeout is None else min(timeout, LONGEST_NAP_S)
        self._timer = self._loop.call_later(nap, self._look)

    def suspend(self, timeout: float | None) -> None:
        """We keep the peer waiting now, so its silence does not count, nor does how slow it was."""
        self._slow_since = None
        self.begin(timeout)

    def is_over(self, timeout: float, *, is_amid_message: bool) -> bool:
        """Whether the peer was silent for `timeout` seconds, or sends a message too slowly; if not, look again."""
        left = self.heard + timeout - self._loop.time()
        if left <= 0 or self._drips(timeout, is_amid_message):
            return True
        self.begin(left)
        return False

    def _drips(self, timeout: float, is_amid_message: bool) -> bool:
        """Whether pieces of a message keep the connection alive, but it would never end."""
        if not is_amid_message:
            self._slow_since = None
            return False
        now = self._loop.time()
        since, had = self._slow_since or (now, self.received)
        self._slow_since = since, had
        if now - since < timeout:
            return False
        self._slow_since = None
        return self.received - had < LEAST_RATE * (now - since)

    # Output

    def watch_output(self, transport: asyncio.Transport, stalled: Callable[[], None]) -> None:
        """From now on, call `stalled` once if the peer takes nothing for WRITE_STALL_S."""
        self._watch(transport, stalled, -1)

    def _watch(
        self, transport: asyncio.Transport, stalled: Callable[[], None], left_before: int
    ) -> None:
        left = transport.get_write_buffer_size()
        if left == left_before:
            stalled()
            return
        self._stall_timer = self._loop.call_later(
            WRITE_STALL_S, self._watch, transport, stalled, left
        )

    def end_watch(self) -> None:
        """It is taken again."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def end(self) -> None:
        """The connection is gone. What it was is freed at once: we let go of it, as it did of its session."""
        self.end_watch()
        if self._timer is not None:
            self._timer.cancel()
        self._look = _nothing


def _nothing() -> None:
    """In place of a look at a connection that is gone."""
