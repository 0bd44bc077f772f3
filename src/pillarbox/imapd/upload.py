"""The messages of an APPEND or REPLACE on their way in."""

from dataclasses import dataclass, field

from pillarbox.imap.grammar import FlagList
from pillarbox.imapd.places import Place
from pillarbox.store.spool import Spool

LARGEST_UPLOAD = 64 << 20
"""Octets of all messages of one command, or of a single larger one."""


@dataclass(slots=True)
class UploadedMessage:
    """A message so far."""

    flags: FlagList
    internaldate: int
    """Packed (core.dates)."""
    spool: Spool
    binary: bool = False
    """Whether it came as a literal8 (RFC 3516 §4.4)."""


@dataclass(slots=True)
class Upload:
    """What AppendStart said, and what has come of the messages. Whoever drops it calls `close`."""

    place: Place
    mailbox: int
    """The number of the mailbox there."""
    replaced: tuple[int, int] | None = None
    """For REPLACE: the selected mailbox, and the UID in it."""
    messages: list[UploadedMessage] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Octets of all messages."""
        return sum(message.spool.size for message in self.messages)

    def close(self) -> None:
        for message in self.messages:
            message.spool.close()
