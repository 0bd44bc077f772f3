"""What a listener does with connections."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pillarbox.core.tally import PROTOCOL_OF, SLOW_COMMAND_S, Histogram, SlowCommand, Tally
from pillarbox.net.session import Session
from pillarbox.trace.recorder import Recorder

if TYPE_CHECKING:
    from pillarbox.net.connection import Connection


def _nameless(_event: Any) -> str:
    return ""


@dataclass(slots=True)
class Service:
    """One for each name in the configuration's [listen]."""

    name: str
    """For logs: smtp, submission, submissions, lmtp, imap, imaps, pop3, pop3s."""
    new_session: Callable[["Connection"], Session]
    turned_away: bytes
    """What a peer gets instead of a greeting when there are too many connections."""
    implicit_tls: bool
    tls: Callable[[], ssl.SSLContext]
    """The present context, asked for at each handshake."""
    command_of: Callable[[Any], str] = _nameless
    """The name of the command that an event is, or ends; "": its time is not counted."""
    tally: Tally = field(default_factory=Tally)
    recorder: Recorder = field(default_factory=Recorder)
    times: Histogram = field(init=False)
    """Of its commands."""

    def __post_init__(self) -> None:
        self.times = self.tally.commands[PROTOCOL_OF[self.name]]

    def note_time(self, event: Any, began: float, account: int) -> None:
        """An event that came at `began` (monotonic, seconds) has been answered; `account` is who logged in, or 0."""
        name = self.command_of(event)
        if name:
            took = time.monotonic() - began
            self.times.observe(took)
            if took >= SLOW_COMMAND_S:
                what = f"{PROTOCOL_OF[self.name]} {name}"
                self.tally.slow.note(SlowCommand(time.time(), took, account, what))
