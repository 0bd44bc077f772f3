"""How a client behaves, and how much of it is borne: errors are counted, answered more and more slowly, and at last the
connection is closed (RFC 5321 §7.8 permits what §3.8 forbids otherwise)."""

from pillarbox.smtp.options import Limits
from pillarbox.smtp.reply import TOO_MANY_COMMANDS, TOO_MANY_ERRORS, Reply


class Conduct:
    """Of one client, since its last accepted message."""

    __slots__ = ("_limits", "commands", "errors", "refusals")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.errors = 0
        """Commands that the engine refused, and failed authentications."""
        self.refusals = 0
        """5yz replies by the service."""
        self.commands = 0

    def next_command(self) -> Reply | None:
        """Count it; the reply ends the connection instead."""
        limits = self._limits
        self.commands += 1
        if self.commands > limits.commands:
            return TOO_MANY_COMMANDS
        if self.errors >= limits.errors or self.refusals >= limits.refusals:
            return TOO_MANY_ERRORS
        return None

    def delay_s(self) -> float:
        """How long the next error reply has to wait."""
        limits = self._limits
        over = self.errors + self.refusals - limits.errors_at_once
        return min(over * limits.error_delay_s, limits.longest_delay_s) if over > 0 else 0.0

    def message_accepted(self) -> None:
        self.errors = self.refusals = self.commands = 0
