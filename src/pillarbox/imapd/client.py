"""One client, as commands see it: who it is, what it has selected."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pillarbox.auth.exchange import Exchange
from pillarbox.auth.peer import Peer, peer_of
from pillarbox.core.errors import Refused
from pillarbox.imap.limits import MINUS_OCTETS, Limits
from pillarbox.imap.responses import highestmodseq
from pillarbox.imap.server import Server
from pillarbox.imap.table import State
from pillarbox.imapd.capabilities import capabilities
from pillarbox.imapd.context import ImapContext
from pillarbox.imapd.modes import Modes
from pillarbox.imapd.names import from_wire, new_from_wire
from pillarbox.imapd.places import Place, is_foreign
from pillarbox.imapd.push import Push
from pillarbox.imapd.selected import Selected
from pillarbox.imapd.upload import Upload
from pillarbox.imapd.watch import Watch
from pillarbox.imapd.wishes import EVERYTHING, OfSelected
from pillarbox.net.connection import Connection
from pillarbox.store.directory import Account
from pillarbox.store.messages import to_ranges
from pillarbox.store.quota import Quota
from pillarbox.store.tx import Tx

T = TypeVar("T")

FEW = 32
"""Messages that a command changes in less than a millisecond."""


@dataclass(slots=True)
class Answer:
    """The tagged response to a command. `code` is without brackets."""

    text: str
    code: bytes = b""
    status: bytes = b"OK"


class Client:
    """State of one connection above the engine's. Commands send untagged responses by `engine` and return an Answer."""

    __slots__ = (
        "_account",
        "connection",
        "context",
        "engine",
        "exchange",
        "login_failures",
        "modes",
        "places",
        "push",
        "selected_mailbox",
        "upload",
        "wanted",
        "watch",
    )

    def __init__(self, connection: Connection, context: ImapContext) -> None:
        self.connection = connection
        self.context = context
        self.engine = Server(
            Limits(
                message=context.max_message_size,
                non_synchronising=MINUS_OCTETS if context.literal_minus else None,
            ),
            tls=connection.service.implicit_tls,
        )
        self._account: Account | None = None
        self.selected_mailbox: Selected | None = None
        self.places: dict[str, Place | Refused] = {}
        """Of other accounts, by their names on the wire: what the present command may use, or why not."""
        self.login_failures = 0
        self.modes = Modes()
        self.exchange: Exchange | None = None
        """AUTHENTICATE in progress."""
        self.upload: Upload | None = None
        """APPEND in progress."""
        self.push: Push | None = None
        """IDLE in progress, with a mailbox selected and without NOTIFY."""
        self.wanted: OfSelected = EVERYTHING
        """What is told of changes in the selected mailbox."""
        self.watch: Watch | None = None
        """What is told at any time, by NOTIFY."""

    @property
    def account(self) -> Account:
        """Only once the client is authenticated, as the engine ensures."""
        assert self._account is not None
        return self._account

    @account.setter
    def account(self, account: Account) -> None:
        self._account = account

    @property
    def selected(self) -> Selected:
        """Only in the selected state, as the engine ensures."""
        assert self.selected_mailbox is not None
        return self.selected_mailbox

    @property
    def may_login(self) -> bool:
        """Whether a password may be sent over this connection as it is."""
        return self.engine.tls or self.context.allow_cleartext_login

    @property
    def peer(self) -> Peer:
        """Who wants to log in."""
        return peer_of(self.connection, "imap")

    def capabilities(self, state: State | None = None) -> tuple[bytes, ...]:
        """What is announced in a state, or in the present one."""
        state = state or self.engine.state
        asks = state is State.NOT_AUTHENTICATED and self.may_login
        return capabilities(
            state,
            self.context,
            tls=self.engine.tls,
            mechanisms=self.context.authenticator.mechanisms(self.peer) if asks else None,
        )

    def reset(self) -> None:
        """Forget who the client is and all that it asked for (RFC 8437 §3, §4.1)."""
        self.stop_watching(EVERYTHING)
        self._account = None
        self.connection.account = self.connection.supporter = 0
        self.selected_mailbox = None
        self.places.clear()
        self.modes = Modes()
        self.engine.utf8 = False
        self.engine.takes_charset = True

    def stop_watching(self, wanted: OfSelected) -> None:
        """Tell nothing between commands, nor of other mailboxes, from now on."""
        self.wanted = wanted
        if self.watch is not None:
            self.watch.close()
            self.watch = None

    def note_expunged(self, uids: Sequence[int]) -> None:
        """This client expunged these in its mailbox, and will be told so even if it wants to know of nothing else."""
        if not self.wanted.messages:
            self.selected.view.vanish(to_ranges(uids))

    def note_created(self, account: int, mailbox: int, first: int, count: int) -> None:
        """This client put messages with consecutive UIDs into a mailbox: it need not be told what they are
        (RFC 5465 §5.2)."""
        selected = self.selected_mailbox
        if selected is not None and (selected.account, selected.mailbox) == (account, mailbox):
            selected.created.append((first, first + count - 1))

    # The store

    async def read(self, work: Callable[[Tx], T]) -> T:
        """See `Store.read`: one slice, of the client's own account."""
        return await self.context.store.read(self.account.id, work)

    async def write(self, work: Callable[[Tx], T]) -> T:
        """See `Store.write`: durable on return. In the client's own account."""
        return await self.context.store.write(self.account.id, work)

    async def read_selected(self, work: Callable[[Tx], T]) -> T:
        """The same, of the account that the selected mailbox belongs to."""
        return await self.context.store.read(self.selected.account, work)

    async def write_selected(self, work: Callable[[Tx], T], *, is_short: bool = False) -> T:
        """The same, in the account that the selected mailbox belongs to."""
        return await self.context.store.write(self.selected.account, work, is_short=is_short)

    def place(self, mailbox: str, *, new: bool = False) -> Place:
        """Where the name of a mailbox leads, or of one to be made. Raises Refused NONEXISTENT or NOPERM for those of
        other accounts that the present command was not admitted to (`access`)."""
        found = self.places.get(mailbox)
        if isinstance(found, Refused):
            raise found
        if found is not None:
            return found
        read = new_from_wire if new else from_wire
        name = read(mailbox, self.context.separator)
        if is_foreign(name):
            raise Refused("there is no such mailbox", "NONEXISTENT")
        return Place(self.account.id, name)

    def quota(self, account: int) -> Quota:
        """What an account may keep."""
        return self.context.store.directory.quotas.of(account)

    def note_growth(self, account: int) -> None:
        """Mail was added: if the account is nearly full now, it will be told."""
        if self.quota(account).is_limited:
            self.context.store.grown.add(account)

    async def pause(self) -> None:
        """Between slices: wait for a slow reader, and let other connections have their turn."""
        await self.connection.pause()

    def tell_keywords(self) -> None:
        """Send FLAGS anew if a keyword has turned up that the client does not know."""
        if self.selected.has_new_keywords:
            self.engine.send_rendered(self.selected.flag_responses())

    def enable_condstore(self) -> None:
        """The client asked for mod-sequences (RFC 7162 §3.1): with a mailbox selected, it is told where it stands."""
        if not self.modes.condstore:
            self.modes.condstore = True
            self.tell_modseq()

    def tell_modseq(self) -> None:
        """HIGHESTMODSEQ: up to where the client was told of all changes (RFC 7162 §3.1.2.1, §3.2)."""
        if self.selected_mailbox is not None:
            code = highestmodseq(self.selected_mailbox.view.told_modseq)
            self.engine.send_untagged(b"OK", "Highest mod-sequence.", code)

    def ensure_writable(self) -> None:
        """Raises Refused if the mailbox was opened by EXAMINE."""
        if self.selected.read_only:
            raise Refused("the mailbox is open for reading only", "READ-ONLY")
