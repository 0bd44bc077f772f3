"""How often something may happen in a minute, for each of many (addresses, accounts): token buckets.

Times are seconds of one clock, given by the caller, that does not go backwards.
"""

from dataclasses import dataclass, field

MOST_BUCKETS = 20_000
"""Then those that are full again are dropped; they are as if they had never been seen."""


@dataclass(slots=True)
class Rate:
    """`per_minute` at once, and as many in each minute after; 0: no limit."""

    per_minute: int
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    """By key: tokens that were left, and when."""

    def take(self, key: str, now: float) -> bool:
        """Whether it may happen once more now; if so, it counts."""
        if not self.per_minute:
            return True
        tokens = self._tokens(key, now)
        if tokens < 1:
            return False
        if len(self._buckets) >= MOST_BUCKETS and key not in self._buckets:
            self._forget(now)
        self._buckets[key] = (tokens - 1, now)
        return True

    def _tokens(self, key: str, now: float) -> float:
        tokens, then = self._buckets.get(key, (self.per_minute, now))
        return min(self.per_minute, tokens + (now - then) * self.per_minute / 60)

    def _forget(self, now: float) -> None:
        full = [key for key in self._buckets if self._tokens(key, now) >= self.per_minute]
        for key in full or [next(iter(self._buckets))]:
            del self._buckets[key]
