"""The message of an APPEND on its way in."""

from dataclasses import dataclass

from pillarbox.imap.grammar import FlagList
from pillarbox.store.spool import Spool


@dataclass(slots=True)
class Upload:
    """What AppendStart said, and what has come of the message. Whoever drops it closes the spool."""

    mailbox: int
    flags: FlagList
    internaldate: int
    """Packed (core.dates)."""
    spool: Spool
