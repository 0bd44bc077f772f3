"""Hints: "account A, mailbox M changed", no more. Whoever gets one reads what it lacks from the store.

Hints of one turn of the loop are joined; a lost hint only delays, since sessions also look for themselves.
"""

import asyncio
from collections.abc import Callable

Listener = Callable[[set[int]], None]


class Notifier:
    """The listeners of one process."""

    def __init__(self) -> None:
        self._listeners: dict[int, list[Listener]] = {}
        self._waiting: dict[int, set[int]] = {}

    def subscribe(self, account: int, listener: Listener) -> Callable[[], None]:
        """`listener` gets sets of changed mailboxes from now on; call the returned function to end that."""
        listeners = self._listeners.setdefault(account, [])
        listeners.append(listener)

        def unsubscribe() -> None:
            listeners.remove(listener)
            if not listeners:
                self._listeners.pop(account, None)

        return unsubscribe

    def has_listeners(self, account: int) -> bool:
        """Whether somebody wants hints about an account."""
        return account in self._listeners

    def notify(self, account: int, mailboxes: set[int]) -> None:
        """Tell the account's listeners, in the next turn of the loop."""
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
