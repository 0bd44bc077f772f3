"""Hints: "account A, mailbox M changed", no more. Whoever gets one reads what it lacks from the store.

Hints of one turn of the loop are joined, and go to the other workers too where somebody wants them; a lost hint only
delays, since sessions also look for themselves.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

Listener = Callable[[set[int]], None]


class Relay(Protocol):
    """The way to the other workers of the server."""

    def watch(self, account: int) -> None:
        """Somebody here wants hints about an account from now on."""

    def unwatch(self, account: int) -> None:
        """Nobody does any more."""

    def is_watched(self, account: int) -> bool:
        """Whether somebody elsewhere does."""

    def tell(self, account: int, mailboxes: set[int]) -> None:
        """Let the workers know in which somebody does."""

    def mark_behind(self, account: int, change: int) -> None:
        """+1: from now on this worker holds mail that the account's file lacks; -1: not any more."""

    def is_behind(self, account: int) -> bool:
        """Whether another worker does."""

    async def catch_up(self, account: int) -> None:
        """Wait until the others have put what they hold now into the file; not for long, if one does not answer."""


class Notifier:
    """The listeners of one process."""

    def __init__(self, relay: Relay | None = None) -> None:
        self._relay = relay
        self._listeners: dict[int, list[Listener]] = {}
        self._waiting: dict[int, set[int]] = {}

    def subscribe(self, account: int, listener: Listener) -> Callable[[], None]:
        """`listener` gets sets of changed mailboxes from now on; call the returned function to end that."""
        listeners = self._listeners.setdefault(account, [])
        if not listeners and self._relay is not None:
            self._relay.watch(account)
        listeners.append(listener)

        def unsubscribe() -> None:
            listeners.remove(listener)
            if not listeners and self._listeners.get(account) is listeners:
                del self._listeners[account]
                if self._relay is not None:
                    self._relay.unwatch(account)

        return unsubscribe

    def has_listeners(self, account: int) -> bool:
        """Whether somebody wants hints about an account, here or in another worker."""
        return account in self._listeners or (
            self._relay is not None and self._relay.is_watched(account)
        )

    def notify(self, account: int, mailboxes: set[int]) -> None:
        """Tell the account's listeners everywhere, in the next turn of the loop."""
        if self._relay is not None:
            self._relay.tell(account, mailboxes)
        self.deliver_soon(account, mailboxes)

    def deliver_soon(self, account: int, mailboxes: set[int]) -> None:
        """The same for those of this process."""
        if account not in self._listeners:
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._waiting.setdefault(account, set()).update(mailboxes)

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for account, mailboxes in waiting.items():
            for listener in list(self._listeners.get(account, ())):
                listener(mailboxes)
