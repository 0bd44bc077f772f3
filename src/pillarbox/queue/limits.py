"""To how many recipients at other hosts an account may send in an hour and in a day, so that a stolen password does
little harm. What is more is held in the queue until an administrator has looked at it.

Counted for all workers of the server together, in steps of ten minutes; a restart begins anew.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pillarbox.store.directory import Directory
from pillarbox.store.run import SentCounts

STEP_S = 600
HOUR_S = 3600
DAY_S = 86400


@dataclass(slots=True)
class SendingLimits:
    """One for each worker. 0: no limit; an account may have limits of its own (`Directory.sending_limits`)."""

    directory: Directory
    counts: SentCounts
    hourly: int
    daily: int
    clock: Callable[[], float]
    _tidied: dict[int, int] = field(default_factory=dict, init=False)
    """By account, the step in which its old steps were forgotten."""

    def take(self, account: int, recipients: int) -> bool:
        """Whether an account may send to so many more; if so, they count. Raises Unavailable."""
        own_hourly, own_daily = self.directory.sending_limits(account)
        hourly = self.hourly if own_hourly is None else own_hourly
        daily = self.daily if own_daily is None else own_daily
        if not hourly and not daily:
            return True
        now = self.clock()
        step = int(now // STEP_S)
        windows = ((HOUR_S, hourly), (DAY_S, daily))
        limits = [(int((now - length) // STEP_S), most) for length, most in windows if most]
        if self._tidied.get(account) != step:
            self._tidied[account] = step
            self.counts.forget(account, int((now - DAY_S) // STEP_S))
        return self.counts.take(account, recipients, step, limits)

    def is_news(self, account: int) -> bool:
        """Whether nobody was told yet that this account is over its limit; from now on somebody was, until it sends
        within its limit again. Raises Unavailable."""
        return self.counts.is_news(account)
