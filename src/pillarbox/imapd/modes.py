"""What a client has switched on for its connection, by ENABLE (RFC 5161) or by what else it asked for.

An extension that can be enabled is one more row of `_ENABLED_BY`.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Modes:
    """All off at first; nothing is switched off again but by the end of the connection."""

    condstore: bool = False
    """FETCH responses that were not asked for carry UID and MODSEQ (RFC 7162 §3.2.4)."""
    rev2: bool = False
    """IMAP4rev2 in place of IMAP4rev1 (RFC 9051 §6.3.1, appendix E)."""
    qresync: bool = False
    """VANISHED in place of EXPUNGE (RFC 7162 §3.2.3)."""
    utf8: bool = False
    """Mailbox names are UTF-8 (RFC 6855 §3)."""
    notify: bool = False
    """The client used NOTIFY: flags that changed are told with the UID (RFC 5465 §5.1)."""

    @property
    def tells_uid(self) -> bool:
        """Whether FETCH responses that were not asked for carry the UID."""
        return self.condstore or self.rev2  # RFC 9051 §7.5.2

    @property
    def tells_recent(self) -> bool:
        """\\Recent and RECENT are no part of IMAP4rev2."""
        return not self.rev2

    @property
    def utf8_names(self) -> bool:
        """Mailbox names are UTF-8, not modified UTF-7 (RFC 9051 §5.1, RFC 6855 §3)."""
        return self.utf8 or self.rev2

    @property
    def tells_vanished(self) -> bool:
        """Whether what is gone is told by UID."""
        return self.qresync

    def enable(self, names: Iterable[str]) -> list[bytes]:
        """Switch on what there is of `names` (upper case); what that is, as ENABLED tells it (RFC 5161 §3.2)."""
        done = []
        for name in dict.fromkeys(names):
            row = _ENABLED_BY.get(name)
            if row is not None:
                word, modes = row
                for mode in modes:
                    setattr(self, mode, True)
                done.append(word)
        return done


_ENABLED_BY: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "IMAP4REV2": (b"IMAP4rev2", ("rev2",)),
    "CONDSTORE": (b"CONDSTORE", ("condstore",)),
    "UTF8=ACCEPT": (b"UTF8=ACCEPT", ("utf8",)),
    "QRESYNC": (b"QRESYNC", ("qresync", "condstore")),
}
"""By name in upper case: how it is written, and the fields of Modes that it sets."""
