"""Replies on their way out, in order; some have to wait, and then so does everything behind them."""


class Output:
    """What an engine has to say."""

    __slots__ = ("_delayed", "delay_s", "is_delaying", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        """What may go. An event is only answered while nothing is delayed, so that its answer can be added here."""
        self._delayed: list[bytes] = []
        self.delay_s = 0.0
        """How long the first delayed part waits; 0: none does."""
        self.is_delaying = False
        """Somebody counts the seconds."""

    def say(self, octets: bytes, delay_s: float = 0.0) -> None:
        if not self._delayed and not delay_s:
            self.parts.append(octets)
            return
        self._delayed.append(octets)
        self.delay_s = max(self.delay_s, delay_s)

    def release(self) -> None:
        """The time is over: what was delayed may go."""
        self.parts += self._delayed
        self._delayed = []
        self.delay_s = 0.0
        self.is_delaying = False
