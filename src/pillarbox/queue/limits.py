"""To how many recipients at other hosts an account may send in an hour and in a day, so that a stolen password does
little harm. What is more is held in the queue until an administrator has looked at it.

Counted in this process, in steps of ten minutes; a restart begins anew.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pillarbox.store.directory import Directory

STEP_S = 600
HOUR_S = 3600
DAY_S = 86400


@dataclass(slots=True)
class _Sent:
    """By one account, lately."""

    steps: deque[tuple[int, int]] = field(default_factory=deque)
    """(number of the step, recipients), the oldest first."""
    was_told: bool = False

    def count(self, since: float) -> int:
        return sum(recipients for step, recipients in self.steps if step * STEP_S > since - STEP_S)


@dataclass(slots=True)
class SendingLimits:
    """One for each server. 0: no limit; an account may have limits of its own (`Directory.sending_limits`)."""

    directory: Directory
    hourly: int
    daily: int
    clock: Callable[[], float]
    _sent: dict[int, _Sent] = field(default_factory=dict, init=False)

    def take(self, account: int, recipients: int) -> bool:
        """Whether an account may send to so many more; if so, they count. Raises Unavailable."""
        own_hourly, own_daily = self.directory.sending_limits(account)
        hourly = self.hourly if own_hourly is None else own_hourly
        daily = self.daily if own_daily is None else own_daily
        if not hourly and not daily:
            return True
        now = self.clock()
        sent = self._sent.setdefault(account, _Sent())
        while sent.steps and sent.steps[0][0] * STEP_S <= now - DAY_S - STEP_S:
            sent.steps.popleft()
        if hourly and sent.count(now - HOUR_S) + recipients > hourly:
            return False
        if daily and sent.count(now - DAY_S) + recipients > daily:
            return False
        step = int(now // STEP_S)
        if sent.steps and sent.steps[-1][0] == step:
            recipients += sent.steps.pop()[1]
        sent.steps.append((step, recipients))
        sent.was_told = False
        return True

    def is_news(self, account: int) -> bool:
        """Whether nobody was told yet that this account is over its limit; from now on somebody was, until it sends
        within its limit again."""
        sent = self._sent.setdefault(account, _Sent())
        was_told, sent.was_told = sent.was_told, True
        return not was_told
