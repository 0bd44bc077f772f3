"""A real IMAP service on loopback, a client that speaks lines, and the runner of transcripts.

A transcript is lines of `C: ` (to send), `S: ` (to expect, to the letter but for `{{regex}}`) and directives:
`OPEN C` connects and passes over the greeting, `LOGIN C` also logs in
(`LOGIN C ann@example.com` as another user), `SELECT C INBOX` also selects, `PUT INBOX name`
delivers one of MESSAGES, `OPTION name value` changes the context. `S: ...` passes over lines until the next one fits.
Several clients are C1, C2...; `S1: ` then says whose answer it is.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from pillarbox.auth.login import Authenticator
from pillarbox.auth.passwords import hash_password
from pillarbox.core.dates import pack_date
from pillarbox.core.secret import Secret
from pillarbox.imapd.context import ImapContext
from pillarbox.imapd.session import ImapSession
from pillarbox.net.admission import Admission
from pillarbox.net.listener import Listeners, bind
from pillarbox.net.service import Service
from pillarbox.net.tap import Said, Tap
from pillarbox.store import mailboxes
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.run import LoginFailures
from pillarbox.store.spool import SpoolRoom
from pillarbox.store.store import Store

USER, PASSWORD = "user@example.com", "password"
OTHERS = ("ann@example.com", "bob@example.com")
DATE = pack_date(837_596_665, -420)  # 17-Jul-1996 02:44:25 -0700

SIMPLE = (
    b"From: Fred <fred@example.com>\r\nTo: user@example.com\r\nSubject: lunch\r\n"
    b"Date: Wed, 17 Jul 1996 02:23:25 -0700\r\nMessage-ID: <1@example.com>\r\nX-Extra: yes\r\n"
    b"\r\nHow about noon?\r\n"
)
MULTIPART = (
    b"From: a@example.com\r\nSubject: parts\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\npreamble\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\none\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: b@example.com\r\nSubject: inner\r\n\r\ninside\r\n"
    b"--b--\r\n"
)
ENCODED = (
    b"Subject: encoded\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"caf=C3=A9 =\r\nau lait\r\n"
    b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQFBgcICQ\r\nAK\r\n"
    b"--b\r\nContent-Type: image/gif\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nxyz\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n"
    b"--b--\r\n"
)
NAMED = (
    b"From: =?utf-8?Q?z=C3=B6e?= <a@example.com>\r\nTo: b@example.com\r\nSubject: for lunch\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nb\xc3\xb6\xc3\x9f\r\n"
)
REPLY = b"From: b@example.com\r\nSubject: Re: lunch\r\nIn-Reply-To: <1@example.com>\r\n\r\nYes\r\n"
# RFC 5255 §4.6: the four strings of its example, as subjects
I18N = (
    b"=?utf-8?q?=D0=C0=D0=BD=D0=B4=D1=80=D0=B5=D0=B9?=",
    b"=?utf-8?q?=D1=81=D0=95=D0=A0=D0=93=D0=95=D0=99?=",
    b"=?utf-8?q?=D0=92=D0=B0=D1=81=D0=B8=D0=BB=D0=B8=FF=B9?=",
    b"=?koi8-r?q?=E1=CC=C5=CB=D3=C5=CA?=",
)
CAFE = (
    b"From: =?iso-8859-1?q?=C9ric?= <eric@example.com>\r\nSubject: =?utf-8?q?Re=3A_Caf=C3=A9_Stra=C3=9Fe?=\r\n"
    b"Content-Type: text/plain; charset=windows-1251\r\n\r\n\xcf\xf0\xe8\xe2\xe5\xf2\r\n"
)
PLAIN_CAFE = b"From: zoe@example.com\r\nSubject: CAFE\xcc\x81 stra\xc3\x9fE\r\n\r\nnothing\r\n"
MESSAGES = {
    **{f"i18n{number}": b"Subject: %b\r\n\r\n" % text for number, text in enumerate(I18N, 1)},
    "cafe": CAFE,
    "plain-cafe": PLAIN_CAFE,
    "encoded": ENCODED,
    "named": NAMED,
    "reply": REPLY,
    "simple": SIMPLE,
    "multipart": MULTIPART,
    "nul": b"Subject: nul\r\n\r\na\0b\r\n",
    "large": b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 65_536,
}


@cache
def _hashes() -> tuple[str, str]:
    return hash_password(Secret(PASSWORD))


class Line:
    """A client that sends and reads lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._tag = 0

    async def send(self, line: bytes) -> None:
        self.writer.write(line + b"\r\n")
        await self.writer.drain()

    async def read(self) -> bytes:
        """A line without its end; b"<closed>" at the end of the stream."""
        line = await asyncio.wait_for(self.reader.readline(), 5)
        return line.removesuffix(b"\r\n") if line else b"<closed>"

    async def response(self) -> bytes:
        """A line with the literals in it."""
        line = await self.read()
        while size := re.search(rb"\{(\d+)\}$", line):
            line += b"\r\n" + await self.reader.readexactly(int(size[1])) + await self.read()
        return line

    async def command(self, text: bytes) -> list[bytes]:
        """Send a command; all lines of its answer, the tagged one last and without its tag."""
        self._tag += 1
        tag = b"t%d" % self._tag
        await self.send(tag + b" " + text)
        lines = []
        while True:
            line = await self.response()
            if line.startswith(tag + b" ") or line == b"<closed>":
                return [*lines, line.removeprefix(tag + b" ")]
            lines.append(line)

    async def ok(self, text: bytes) -> list[bytes]:
        """The untagged lines of a command that must succeed."""
        *lines, last = await self.command(text)
        assert last.startswith(b"OK"), (text, lines, last)
        return lines

    async def append(self, mailbox: bytes, message: bytes, flags: bytes = b"()") -> None:
        await self.ok(b"APPEND %b %b {%d+}\r\n%b" % (mailbox, flags, len(message), message))

    def close(self) -> None:
        self.writer.close()


class Imap:
    """The service under test."""

    def __init__(self, store: Store, context: ImapContext, port: int) -> None:
        self.store, self.context, self.port = store, context, port
        account = store.directory.account(USER)
        assert account is not None
        self.account = account.id

    async def connect(self) -> Line:
        return Line(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24))

    async def login(self, mailbox: bytes = b"", user: str = USER) -> Line:
        client = await self.connect()
        await client.read()
        await client.ok(b"LOGIN %b %b" % (user.encode(), PASSWORD.encode()))
        if mailbox:
            await client.ok(b"SELECT " + mailbox)
        return client

    async def put(self, message: bytes, mailbox: int = mailboxes.INBOX, flags: int = 0) -> int:
        item = Append(mailbox, make_content(message), DATE, flags)
        return (await self.store.append(self.account, item)).uid


@asynccontextmanager
async def serving(
    folder: Path, tls: ssl.SSLContext | None = None, said: list[Said] | None = None
) -> AsyncIterator[Imap]:
    """A server with USER and OTHERS, in lab mode with "." as separator; `said` gets what somebody sees who looks on."""
    store = Store(folder / "data")
    store.directory.add_domain("example.com")
    for address in (USER, *OTHERS):
        store.directory.add_account(address, *_hashes())
    failures = LoginFailures(folder / "run.db", clock=time.time)
    authenticator = Authenticator(store.directory, failures, failure_delay_s=0)
    context = ImapContext(store, authenticator, SpoolRoom(folder), ".", allow_cleartext_login=True)

    def no_tls() -> ssl.SSLContext:
        assert tls is not None
        return tls

    service = Service(
        "imap", lambda connection: ImapSession(connection, context), b"", False, no_tls
    )
    if said is not None:
        make = service.new_session
        service.new_session = lambda connection: Tap(
            connection, make(connection), lambda _tap, line: said.append(line), lambda _tap: None
        )
    listeners = Listeners(Admission(100, 100))
    sock = bind("127.0.0.1:0")
    await listeners.listen(sock, service)
    try:
        yield Imap(store, context, sock.getsockname()[1])
    finally:
        await listeners.close(1)
        authenticator.close()
        await store.close()
        failures.close()


_STEP = re.compile(r"([CS])(\d*): ?(.*)")


def _pattern(text: str) -> re.Pattern[bytes]:
    pieces = re.split(r"\{\{(.*?)\}\}", text)
    joined = "".join(
        f"(?:{piece})" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)
    )
    return re.compile(joined.encode(), re.DOTALL)


class Transcript:
    """One file, being run."""

    def __init__(self, imap: Imap, path: Path) -> None:
        self._imap = imap
        self._path = path
        self._clients: dict[str, Line] = {}
        self._skips: set[str] = set()

    async def run(self) -> None:
        for number, text in enumerate(self._path.read_text().splitlines(), 1):
            if not text or text.startswith("#"):
                continue
            try:
                await self._step(text)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"{self._path.name}:{number}: {text}\n{error!r}") from error
        for client in self._clients.values():
            client.close()

    async def _step(self, text: str) -> None:
        step = _STEP.fullmatch(text)
        if step is None:
            await self._directive(*text.split())
            return
        who, which, line = step.groups()
        client = self._clients[which]
        if who == "C":
            await client.send(line.replace("<CRLF>", "\r\n").encode())
        elif line == "...":
            self._skips.add(which)
        else:
            await self._expect(client, which, _pattern(line))

    async def _expect(self, client: Line, which: str, pattern: re.Pattern[bytes]) -> None:
        skips = which in self._skips
        self._skips.discard(which)
        while True:
            line = await client.read()
            if pattern.fullmatch(line):
                return
            assert skips, f"got {line!r}"
            assert line != b"<closed>"

    async def _directive(self, name: str, *words: str) -> None:
        if name == "PUT":
            mailbox = await self._imap.store.read(
                self._imap.account, lambda tx: mailboxes.get(tx, tuple(words[0].split(".")))
            )
            flags = int(words[2]) if len(words) > 2 else 0
            await self._imap.put(MESSAGES[words[1]], mailbox.id, flags)
        elif name == "OPTION":
            value = getattr(self._imap.context, words[0]).__class__(eval(words[1]))
            setattr(self._imap.context, words[0], value)
        else:
            which = words[0][1:]
            if name in ("OPEN", "GREET"):
                self._clients[which] = await self._imap.connect()
            else:
                user = words[1] if name == "LOGIN" and len(words) > 1 else USER
                self._clients[which] = await self._imap.login(user=user)
            if name == "OPEN":
                await self._clients[which].read()
            elif name == "SELECT":
                await self._clients[which].ok(f"SELECT {words[1]}".encode())
