"""One POP3 connection: what the engine asks is answered from the maildrop (RFC 1939, 2449, 3206, 5034, 6856).

Deletions are made at QUIT, all or none; without QUIT none is. Flags of IMAP are not touched. Large messages leave in
pieces, each only when the client has taken the one before.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pillarbox.auth.exchange import Exchange, Outcome
from pillarbox.auth.login import Authenticator
from pillarbox.auth.peer import Denied, Login, Peer, peer_of
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.mime.header import header_end
from pillarbox.mime.surrogate import ascii_header
from pillarbox.net.connection import Connection
from pillarbox.pop3 import events
from pillarbox.pop3.multiline import Stuffer, first_lines
from pillarbox.pop3.options import ServerOptions
from pillarbox.pop3.server import Pop3Server
from pillarbox.pop3d.maildrop import (
    PIECE_OCTETS,
    READ_AHEAD_OCTETS,
    Maildrop,
    Pieces,
    open_maildrop,
)
from pillarbox.sasl.exchange import Challenge, Credentials
from pillarbox.store.store import Store
from pillarbox.trace.events import Expunged

LISTING_SLICE = 1000
"""Lines of a listing that are made in one go."""

ALL_LINES = 1 << 62

log = logging.getLogger("pillarbox.pop3d")

_COMMANDS: dict[type, str] = {
    events.Stat: "STAT",
    events.List: "LIST",
    events.Uidl: "UIDL",
    events.Retrieve: "RETR",
    events.Top: "TOP",
    events.Delete: "DELE",
    events.Reset: "RSET",
    events.Quit: "QUIT",
}


def command_of(event: events.Event) -> str:
    """For `net.service.Service`."""
    return _COMMANDS.get(event.__class__, "")


@dataclass(slots=True)
class Pop3Context:
    """What all sessions share."""

    store: Store
    authenticator: Authenticator
    allow_cleartext_login: bool
    login_delay_s: int = 0
    """How long an account must wait from one login to the next (RFC 2449 §6.5)."""
    expire_days: int = 0
    """How long mail is kept at least, 0 for ever: only told (RFC 2449 §6.7)."""
    utf8: bool = True
    """Whether clients are offered UTF8 (RFC 6856 §2)."""


class Pop3Session:
    """A `net.connection.Session`."""

    __slots__ = ("_connection", "_context", "_exchange", "_maildrop", "_streaming", "engine")

    def __init__(self, connection: Connection, context: Pop3Context) -> None:
        implicit = connection.service.implicit_tls
        options = ServerOptions(
            stls=not implicit,
            cleartext_login=context.allow_cleartext_login,
            login_delay_s=context.login_delay_s,
            expire_days=context.expire_days,
            utf8=context.utf8,
        )
        self.engine = Pop3Server(options, tls=implicit)
        self._connection = connection
        self._context = context
        self._exchange: Exchange | None = None
        self._maildrop: Maildrop | None = None
        self._streaming = False  # in the middle of a message: there is no way to report an error

    # What the connection calls

    def opened(self) -> None:
        self.secured()
        self.engine.send_ok("Pillarbox ready.")

    def secured(self) -> None:
        self.engine.mechanisms = self._context.authenticator.mechanisms(self._peer())

    def stage(self) -> str:
        return self.engine.stage

    async def handle(self, event: events.Event) -> None:
        """Every refusal and failure becomes a reply here."""
        try:
            if isinstance(event, events.Retrieve):
                await self._retrieve(event.number)
            elif isinstance(event, events.Login):
                credentials = Credentials("", event.username, event.password)
                authenticator = self._context.authenticator
                await self._finish(await authenticator.login(credentials, self._peer(), "USER"))
            elif isinstance(event, events.Auth):
                authenticator = self._context.authenticator
                self._exchange = Exchange(authenticator, event.mechanism, self._peer())
                await self._go_on(await self._exchange.start(event.initial))
            elif isinstance(event, events.AuthResponse):
                assert self._exchange is not None
                await self._go_on(await self._exchange.respond(event.data))
            else:
                await self._transaction(event)
        except Refused as error:
            self._fail(error.text, "SYS/PERM")
        except Unavailable as error:
            self._fail(error.text, _code_of(error))

    def failed(self, event: events.Event) -> None:
        self._fail("Internal error; it has been logged", "SYS/TEMP")

    def stop(self) -> None:
        self.engine.shut_down()

    def closed(self) -> None:
        if self._maildrop is not None:
            self._maildrop.close()

    def _fail(self, text: str, code: str) -> None:
        if self._streaming:
            # A final dot would make the client take half a message for a whole one.
            self._connection.abort()
        else:
            self.engine.send_err(text, code)

    # AUTHORIZATION

    def _peer(self) -> Peer:
        return peer_of(self._connection, "pop3")

    async def _go_on(self, outcome: Outcome) -> None:
        """The next step of an AUTH exchange (RFC 5034 §4)."""
        if isinstance(outcome, Challenge):
            self.engine.send_challenge(outcome.data)
            return
        self._exchange = None
        await self._finish(outcome)

    async def _finish(self, outcome: Login | Denied) -> None:
        connection = self._connection
        if isinstance(outcome, Denied):
            text = outcome.text[:1].upper() + outcome.text[1:]
            self.engine.send_err(text, "" if outcome.is_syntax else "AUTH")
            return
        account = outcome.account
        # Before anything is waited for: whoever is disabled meanwhile is parted from.
        connection.account = account.id
        connection.supporter = outcome.supporter.id if outcome.supporter else 0
        try:
            await self._open(account.id)
        finally:
            if self._maildrop is None:
                connection.account = connection.supporter = 0
        if self._maildrop is not None:
            connection.introduce()
            self.engine.send_ok("Logged in.")

    async def _open(self, account: int) -> None:
        """The maildrop of an account; the refusal is sent if it is not to be had."""
        maildrop = await open_maildrop(self._context.store, account)
        if maildrop is None:
            self.engine.send_err("Another session has this maildrop", "IN-USE")
            return
        if self._context.login_delay_s and not maildrop.note_login(self._context.login_delay_s):
            maildrop.close()
            self.engine.send_err("You logged in a moment ago; try again later", "LOGIN-DELAY")
            return
        self._maildrop = maildrop

    # TRANSACTION

    async def _transaction(self, event: events.Event) -> None:
        maildrop, engine = self._present_maildrop, self.engine
        if isinstance(event, events.Stat):
            engine.send_ok(f"{maildrop.present} {maildrop.octets}")
        elif isinstance(event, events.List):
            await self._list(event.number, f"{maildrop.present} messages:", maildrop.size)
        elif isinstance(event, events.Uidl):
            await self._list(event.number, "", maildrop.uidl)
        elif isinstance(event, events.Top):
            if self._has(event.number):
                pieces = await maildrop.pieces(event.number)
                await self._stream("", pieces, event.lines)
        elif isinstance(event, events.Delete):
            if self._has(event.number):
                maildrop.mark_deleted(event.number)
                engine.send_ok("Marked as deleted.")
        elif isinstance(event, events.Reset):
            maildrop.reset()
            engine.send_ok()
        else:
            await self._quit()

    @property
    def _present_maildrop(self) -> Maildrop:
        assert self._maildrop is not None  # the engine knows who is logged in
        return self._maildrop

    def _has(self, number: int) -> bool:
        """Whether there is such a message; the refusal is sent if not."""
        if self._present_maildrop.has(number):
            return True
        self.engine.send_err("There is no such message")
        return False

    async def _list(self, number: int | None, text: str, value: Callable[[int], object]) -> None:
        """The answer to LIST and UIDL (RFC 1939 §5, §7)."""
        engine = self.engine
        if number is not None:
            if self._has(number):
                engine.send_ok(f"{number} {value(number)}")
            return
        numbers = self._present_maildrop.numbers()
        engine.start_multiline(text)
        for start in range(0, len(numbers), LISTING_SLICE):
            if start:
                await self._give_way()
            lines = [f"{each} {value(each)}\r\n" for each in numbers[start : start + LISTING_SLICE]]
            engine.send_rendered(["".join(lines).encode("ascii")])
        engine.end_multiline()

    async def _retrieve(self, number: int) -> None:
        if not self._has(number):
            return
        maildrop = self._present_maildrop
        size = maildrop.size(number)
        if size <= READ_AHEAD_OCTETS:
            octets = await maildrop.message(number)
            if not (self.engine.utf8 or octets.isascii()):
                end = header_end(octets)
                octets = await self._shown_header(octets[:end]) + octets[end:]
            self.engine.send_message(octets, has_crlf=maildrop.has_crlf(number))
        else:
            pieces = await maildrop.pieces(number)
            await self._stream(f"{size} octets", pieces, ALL_LINES)
        uid = maildrop.uid(number)
        self._context.store.recorder.fetched(self._connection.id, maildrop.place, [(uid, uid)])

    async def _shown_header(self, header: bytes) -> bytes:
        """RFC 6856 §2.1: without UTF-8 mode, none is sent that is not ASCII. DEVIATES: the size in LIST stays that of
        the stored message (a SHOULD), and the fields of parts within the body are sent as they are."""
        if self.engine.utf8 or header.isascii():
            return header
        return await self._context.store.compute_sized(len(header), lambda: ascii_header(header))

    async def _stream(self, text: str, pieces: Pieces, lines: int) -> None:
        """A message up to so many lines of its body, in pieces."""
        engine, stuffer = self.engine, Stuffer()
        header = await self._shown_header(pieces.header)
        engine.start_multiline(text)
        self._streaming = True
        engine.send_rendered([stuffer.feed(header)])
        while lines > 0:
            piece = await pieces.read()
            part = first_lines(piece, lines)
            lines -= part.count(b"\n")
            engine.send_rendered([stuffer.feed(part)])
            if len(piece) < PIECE_OCTETS:
                break
            await self._give_way()
        engine.send_rendered([stuffer.finish()])
        self._streaming = False
        engine.end_multiline()

    async def _give_way(self) -> None:
        """Between slices: the client takes what there is, and others get their turn."""
        await self._connection.pause()

    async def _quit(self) -> None:
        """RFC 1939 §6: the UPDATE state."""
        maildrop = self._present_maildrop
        try:
            gone = await maildrop.update()
            number, place = self._connection.id, maildrop.place
            self._context.store.recorder.add_parts(
                gone, lambda part: Expunged(number, place, part, "DELE and QUIT")
            )
        except Unavailable as error:
            if not self._context.store.is_removed(error):
                log.error("%s: deletions were not made: %s", self._connection.id, error.told)
            self.engine.send_err("Some deleted messages not removed", _code_of(error))
        else:
            self.engine.send_ok("Logging out.")
        finally:
            maildrop.close()  # before the answer leaves: the client may come back at once


def _code_of(error: Unavailable) -> str:
    """RFC 3206 §4: whether somebody must do something about it, or it goes away by itself."""
    needs_somebody = error.code in ("CORRUPTION", "CONTACTADMIN")
    return "SYS/PERM" if needs_somebody else "SYS/TEMP"
