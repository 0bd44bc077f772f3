"""One IMAP connection: the service's side of `net.connection`. Every event has one way to its answer, and every
failure one place where it becomes a response."""

from collections.abc import Awaitable
from functools import partial
from typing import Any

from pillarbox.core.errors import Failure, Refused, RemoteError, Unavailable
from pillarbox.imap.events import (
    AppendAborted,
    AppendData,
    AppendEnd,
    AppendNext,
    AppendStart,
    AuthResponse,
    Command,
    CommandRefused,
    Event,
    IdleDone,
)
from pillarbox.imap.table import State
from pillarbox.imapd import access, telling
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.commands import append, idle, login
from pillarbox.imapd.context import ImapContext
from pillarbox.imapd.program import has_numbers
from pillarbox.imapd.table import COMMANDS, Handler, Row
from pillarbox.imapd.unseen import log_unseen
from pillarbox.imapd.wishes import NOTHING
from pillarbox.net.connection import Connection

TURNED_AWAY = b"* BYE [UNAVAILABLE] Too many connections; try again later\r\n"
"""What a client gets that cannot be served now."""

_LOGINS = frozenset({"LOGIN", "AUTHENTICATE"})


def command_of(event: Event) -> str:
    """For `net.service.Service`."""
    if isinstance(event, Command):
        return "" if event.name in _LOGINS else event.name
    return "APPEND" if isinstance(event, AppendEnd) else ""


class ImapSession:
    """Serves `imap` and `imaps`."""

    __slots__ = ("_client", "engine")

    def __init__(self, connection: Connection, context: ImapContext) -> None:
        self._client = Client(connection, context)
        self.engine = self._client.engine

    def opened(self) -> None:
        code = b"CAPABILITY " + b" ".join(self._client.capabilities())
        self.engine.send_greeting("Pillarbox ready.", code)

    def secured(self) -> None:
        """What the client may do now, it learns from CAPABILITY."""

    def stage(self) -> str:
        state, selected = self.engine.state, self._client.selected_mailbox
        name = ""
        if state is State.SELECTED and selected is not None:
            name = f" {selected.name}"
        return f"{state.value}{name}{', idle' if self.engine.is_idling else ''}"

    async def handle(self, event: Event) -> None:
        client = self._client
        if self.engine.state is not State.SELECTED:
            client.selected_mailbox = None  # the engine refused a SELECT by itself
        match event:
            case Command():
                row = COMMANDS[event.name]
                keeps_numbers = row.keeps_numbers and not _is_by_uid(event.args)
                work: Handler = row.serve
                if access.concerns(client, row.needs, event.args):
                    work = partial(self._serve_admitted, row)
                await self._answer(work(client, event.args), row.tells, not keeps_numbers)
            case AppendData():
                await self._answer(append.receive(client, event), expunge=False)
            case AppendStart():
                # RFC 3501 §7.4.1: not while a command is being received
                await self._answer(append.start(client, event), expunge=False)
            case AppendNext():
                await self._answer(append.go_on(client, event), expunge=False)
            case AppendEnd():
                await self._answer(append.finish(client, event))
            case AppendAborted():
                append.drop(client)
            case CommandRefused():
                pass
            case AuthResponse():
                await self._answer(login.respond(client, event))
            case IdleDone():
                await self._answer(idle.done(client, event))
        if client.watch is not None:
            client.watch.resume(client.selected_mailbox)

    async def _serve_admitted(self, row: Row, client: Client, args: Any) -> Answer | None:
        """A command that has to do with mailboxes of others."""
        await access.admit(client, row.needs, args)
        return await row.serve(client, args)

    async def _answer(
        self, work: Awaitable[Answer | None], tells: bool = True, expunge: bool = True
    ) -> None:
        """Do it, tell of changes, and say how it ended."""
        try:
            answer = await work
        except Failure as failure:
            is_removed = self._client.context.store.is_removed(failure)
            answer = _REMOVED if is_removed else _answer_of(failure)
        if answer is None:
            return
        is_lost = False
        if tells and self._client.selected_mailbox is not None:
            is_lost = not await self._tell_changes(expunge)
        self.engine.send_tagged(answer.status, answer.text, answer.code)
        if is_lost:
            # RFC 2180 §3.3: there is nothing that the numbers of this session still mean
            self.engine.bye("The selected mailbox was deleted")

    async def _tell_changes(self, expunge: bool) -> bool:
        """False: the selected mailbox was deleted, or is not for this client any more."""
        try:
            await telling.sync(self._client, expunge=expunge)
        except Refused:
            return False
        except Unavailable as failure:
            # The command was done all the same; the next one tells.
            log_unseen(self._client.context.store, self._client.connection.id, failure)
        return True

    def failed(self, event: Any) -> None:
        append.drop(self._client)
        self._client.exchange = None
        if self.engine.owes_answer:
            self.engine.send_tagged(b"NO", "Internal error; it has been logged", b"SERVERBUG")
        if self._client.watch is not None:
            self._client.watch.resume(self._client.selected_mailbox)

    def stop(self) -> None:
        # Told also to an account that was disabled or removed.
        self.engine.bye("The server ends this session", b"UNAVAILABLE")

    def closed(self) -> None:
        client = self._client
        append.drop(client)
        if client.push is not None:
            client.push.cancel()
            client.push = None
        client.stop_watching(NOTHING)
        client.selected_mailbox = None


_REMOVED = Answer("The account does not exist any more", b"NONEXISTENT", b"NO")
"""Its own one, or that whose mailbox is shared."""


def _is_by_uid(args: Any) -> bool:
    """Whether a command has no message numbers at all; a UID SEARCH may have some (RFC 7162 §3.2.10.2)."""
    program = getattr(args, "program", None)
    if program is not None and has_numbers(program):
        return False
    return bool(getattr(args, "uid", False))


def _answer_of(failure: Failure) -> Answer:
    """RFC 5530 codes are those of the failure."""
    text = failure.text[:1].upper() + failure.text[1:]
    if isinstance(failure, RemoteError):
        return Answer(text, failure.code.encode("ascii"), b"BAD")
    code = failure.code or ("UNAVAILABLE" if isinstance(failure, Unavailable) else "")
    return Answer(text, code.encode("ascii"), b"NO")
