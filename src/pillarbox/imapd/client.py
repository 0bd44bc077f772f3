"""One client, as commands see it: who it is, what it has selected, and how it is told of changes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pillarbox.core.errors import Refused, Unavailable
from pillarbox.imap.limits import Limits
from pillarbox.imap.server import Server
from pillarbox.imapd.capabilities import capabilities
from pillarbox.imapd.context import ImapContext
from pillarbox.imapd.push import Push
from pillarbox.imapd.selected import Selected
from pillarbox.imapd.upload import Upload
from pillarbox.net.connection import Connection
from pillarbox.sasl.exchange import Mechanism
from pillarbox.store import changes, mailboxes
from pillarbox.store.changes import Changes
from pillarbox.store.directory import Account
from pillarbox.store.mailboxes import Mailbox
from pillarbox.store.tx import Tx

T = TypeVar("T")


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
        "push",
        "selected_mailbox",
        "upload",
    )

    def __init__(self, connection: Connection, context: ImapContext) -> None:
        self.connection = connection
        self.context = context
        self.engine = Server(
            Limits(message=context.max_message_size), tls=connection.service.implicit_tls
        )
        self._account: Account | None = None
        self.selected_mailbox: Selected | None = None
        self.login_failures = 0
        self.exchange: Mechanism | None = None
        """AUTHENTICATE in progress."""
        self.upload: Upload | None = None
        """APPEND in progress."""
        self.push: Push | None = None
        """IDLE in progress, with a mailbox selected."""

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

    def capabilities(self) -> tuple[bytes, ...]:
        return capabilities(
            self.engine.state,
            tls=self.engine.tls,
            allow_cleartext_login=self.context.allow_cleartext_login,
        )

    # The store

    async def read(self, work: Callable[[Tx], T]) -> T:
        """See `Store.read`: one slice, never suspends."""
        return await self.context.store.read(self.account.id, work)

    async def write(self, work: Callable[[Tx], T]) -> T:
        """See `Store.write`: durable on return."""
        return await self.context.store.write(self.account.id, work)

    async def pause(self) -> None:
        """Between slices: wait for a slow reader, and let other connections have their turn."""
        await self.connection.pause()

    # Changes

    async def sync(self, *, expunge: bool) -> None:
        """Tell the client what changed in its mailbox; EXPUNGE only where the command allows it.

        Raises Refused NONEXISTENT when the mailbox was deleted.
        """
        selected = self.selected
        view = selected.view
        found = await self.read(
            lambda tx: changes.since(tx, selected.mailbox, view.modseq, view.uidnext)
        )
        await self.report(found, expunge=expunge)
        view.own_modseqs.clear()

    async def report(self, found: Changes | None, *, expunge: bool) -> None:
        """Tell the client of changes that were read already; None: only what was held back before."""
        selected = self.selected
        view = selected.view
        if found is not None:
            await self.claim_recent(selected, found.mailbox)
            values = {row[1] for row in found.flags}
            if values:
                await self.read(lambda tx: selected.learn_flags(tx, values))
                self.tell_keywords()
        responses = view.apply(found, selected.flag_texts.__getitem__, expunge=expunge)
        if responses:
            self.engine.send_rendered(responses)
            view.share(self.context.snapshots, self.account.id, selected.mailbox)

    async def claim_recent(self, selected: Selected, mailbox: Mailbox) -> None:
        """Messages that no session was told of are \\Recent in this one; EXAMINE does not take that from the next
        (RFC 3501 §2.3.2, §6.3.2)."""
        if mailbox.recent_uid >= mailbox.uidnext:
            return
        if selected.read_only:
            selected.view.add_recent(mailbox.recent_uid, mailbox.uidnext - 1)
            return

        def claim(tx: Tx) -> tuple[int, int]:
            return mailboxes.claim_recent(tx, mailbox.id), mailboxes.by_id(tx, mailbox.id).uidnext

        try:
            first, uidnext = await self.context.store.write_lazily(self.account.id, claim)
        except Unavailable:  # a full disk does not keep anybody from reading: as with EXAMINE
            first, uidnext = mailbox.recent_uid, mailbox.uidnext
        if first < uidnext:
            selected.view.add_recent(first, uidnext - 1)

    def tell_keywords(self) -> None:
        """Send FLAGS anew if a keyword has turned up that the client does not know."""
        if self.selected.has_new_keywords:
            self.engine.send_rendered(self.selected.flag_responses())

    def ensure_writable(self) -> None:
        """Raises Refused if the mailbox was opened by EXAMINE."""
        if self.selected.read_only:
            raise Refused("the mailbox is open for reading only", "READ-ONLY")
