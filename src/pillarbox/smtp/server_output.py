"""Replies on their way out, in order; some have to wait, and then so does everything behind them."""


class Output:
    """What an engine has to say."""

    __slots__ = ("_delayed", "_parts", "delay_s", "is_delaying")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._delayed: list[bytes] = []
        self.delay_s = 0.0
        """How long the first delayed part waits; 0: none does."""
        self.is_delaying = False
        """Somebody counts the seconds."""

    def say(self, octets: bytes, delay_s: float = 0.0) -> None:
        if not self._delayed and not delay_s:
            self._parts.append(octets)
            return
        self._delayed.append(octets)
        self.delay_s = max(self.delay_s, delay_s)

    def release(self) -> None:
        """The time is over: what was delayed may go."""
        self._parts += self._delayed
        self._delayed = []
        self.delay_s = 0.0
        self.is_delaying = False

    def take(self) -> list[bytes]:
        parts, self._parts = self._parts, []
        return parts
