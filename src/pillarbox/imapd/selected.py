"""The selected mailbox of a session, and the wire form of its flags."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from pillarbox.core.flags import SYSTEM_FLAG_TEXT, SYSTEM_MASK
from pillarbox.imap.responses import flag_list, permanentflags
from pillarbox.imap.seqset import SeqSet
from pillarbox.imap.syntax_fetch import FetchItem
from pillarbox.imap.syntax_search import Program, SortKey
from pillarbox.imapd.view import View
from pillarbox.store import keywords
from pillarbox.store.acl import RIGHTS, flags_of
from pillarbox.store.tx import Tx

EMPTY = SeqSet(())


@dataclass(slots=True)
class Followed:
    """`found` are the UIDs that the client knows, in order. `criteria` are empty for SEARCH."""

    tag: bytes
    program: Program
    criteria: tuple[SortKey, ...]
    uid: bool
    found: "array[int]"
    items: tuple[FetchItem, ...] = ()
    """What is told of new messages that are found (RFC 5465 §7)."""


@dataclass(slots=True)
class Selected:
    """What SELECT or EXAMINE opened."""

    account: int
    """Whose it is."""
    mailbox: int
    view: View
    read_only: bool
    keywords: list[bytes]
    """What the client was told in FLAGS."""
    flag_texts: dict[int, bytes] = field(default_factory=lambda: dict(enumerate(SYSTEM_FLAG_TEXT)))
    """Flags values in wire form, without parentheses."""
    name: str = ""
    """What the client calls it."""
    is_foreign: bool = False
    """Whether that is not the client's own account."""
    rights: str = RIGHTS
    uidvalidity: int = 0
    has_new_keywords: bool = False
    """Whether `keywords` has some that the client was not told."""
    takes_new_keywords: bool = True
    """Whether there was room for more when it was last looked for."""

    saved: SeqSet = EMPTY
    """The UIDs that `$` stands for (RFC 5182 §2.1)."""

    contexts: dict[bytes, Followed] = field(default_factory=dict)
    """Searches that the client follows, by tag."""

    created: list[tuple[int, int]] = field(default_factory=list)
    """UIDs of messages that this session put here since changes were last told."""

    @property
    def takes_recent(self) -> bool:
        """Whether messages that this session is told of first are \\Recent in no later one (RFC 3501 §6.3.2)."""
        return not self.read_only and not self.is_foreign

    def slices(self, messages: SeqSet, uid: bool) -> list[range]:
        """What a set of UIDs or message numbers, or `$`, means: see `View.slices`."""
        if messages.saved:
            return self.view.slices(self.saved, True)
        return self.view.slices(messages, uid)

    def learn_flags(self, tx: Tx, values: Iterable[int]) -> None:
        """Get the texts of flags values that are not yet known."""
        for value in set(values).difference(self.flag_texts):
            self.flag_texts[value] = keywords.format_flags(tx, value)
            unknown = set(keywords.names_of(tx, value)).difference(self.keywords)
            if unknown:
                self.keywords = sorted(unknown.union(self.keywords))
                self.has_new_keywords = True
                self.look_for_room(tx)

    def look_for_room(self, tx: Tx) -> None:
        """For what PERMANENTFLAGS says of new keywords."""
        self.takes_new_keywords = keywords.has_room(tx, is_guest=self.is_foreign)

    def flag_responses(self) -> list[bytes]:
        """FLAGS and PERMANENTFLAGS (RFC 3501 §7.2.6, §7.1)."""
        self.has_new_keywords = False
        system = 0 if self.read_only else flags_of(self.rights)  # RFC 4314 §5.1.1
        if system and "w" in self.rights:
            permanent = permanentflags(system, self.keywords, self.takes_new_keywords)
        else:
            permanent = permanentflags(system, (), new_keywords=False)
        what = b"Flags permitted." if system else b"No permanent flags permitted."
        return [
            b"* FLAGS %b\r\n" % flag_list(SYSTEM_MASK, self.keywords),
            b"* OK [%b] %b\r\n" % (permanent, what),
        ]
