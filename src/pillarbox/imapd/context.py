"""What the sessions of a server share, and what a search is given."""

from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pillarbox.auth.login import Authenticator
from pillarbox.imap.seqset import SeqSet
from pillarbox.imapd.orders import Orders
from pillarbox.imapd.view import Snapshots
from pillarbox.store.search_index import Hits
from pillarbox.store.spool import SpoolRoom
from pillarbox.store.store import Store


@dataclass(slots=True)
class ImapContext:
    """Made once by the application, for `imap` and `imaps` alike."""

    store: Store
    authenticator: Authenticator
    spool_room: SpoolRoom
    separator: str = "/"
    """The hierarchy separator: one character, "/" or "."."""
    max_message_size: int = 10_240_000
    """Octets that APPEND takes."""
    allow_cleartext_login: bool = False
    """Whether a client may log in without TLS."""
    literal_minus: bool = False
    """Whether non-synchronising literals are for little only: LITERAL- and not LITERAL+ (RFC 7888 §5)."""
    unauthenticate: bool = True
    """Whether a client may log out and in again on one connection (RFC 8437 §8 wants it to be configurable)."""
    snapshots: Snapshots = field(default_factory=Snapshots)
    orders: Orders = field(default_factory=Orders)


@dataclass(slots=True)
class SearchContext:
    """What SEARCH, SORT and THREAD look at: one mailbox, as one session sees it."""

    store: Store
    account: int
    mailbox: int
    uids: "array[int]"
    """The session's view, ascending; it may name messages that are gone by now."""
    recent: Callable[[int], bool]
    """Whether the message with a UID is \\Recent in this session."""
    saved: SeqSet
    """The UIDs that `$` stands for."""
    pause: Callable[[], Awaitable[None]]
    """To be awaited between slices: lets others have their turn."""
    clips_numbers: bool = False
    """Whether message numbers that do not exist are passed over (RFC 7377 §2), not an error."""
    orders: Orders = field(default_factory=Orders)
    _hits: dict[tuple[str, ...], Hits | None] = field(default_factory=dict)
    _has_index: bool | None = None

    async def hits(self, *wanted: str) -> Hits | None:
        """Which messages may have folded texts in them, all of these, found once a search; None: that is not known."""
        if not await self.has_index():
            return None
        if wanted not in self._hits:
            self._hits[wanted] = await self.store.index.find(self.account, *wanted)
        return self._hits[wanted]

    async def has_index(self) -> bool:
        """Whether the account has an index, as it was when the search began; whoever asks wants one from now on."""
        if self._has_index is None:
            self._has_index = await self.store.index.is_wanted(self.account)
        return self._has_index

    def go_without_index(self) -> None:
        """It would not pay."""
        self._has_index = False
