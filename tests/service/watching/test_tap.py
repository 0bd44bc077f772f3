"""Looking on within one process: sessions are as they were once nobody looks, and a fault of the looking on is none of
theirs."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pillarbox.app.control import short_path
from pillarbox.app.server import Server
from pillarbox.app.watching import Watching, watch_name
from pillarbox.auth.passwords import hash_password
from pillarbox.config.schema import Config, Listen, Security
from pillarbox.core.secret import Secret
from pillarbox.net.tap import Tap
from pillarbox.store.directory import Directory

ANN = "ann@here.example"


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Server, Watching]]:
    directory = Directory(folder / "directory.db", clock=time.time)
    directory.add_domain("here.example")
    directory.add_account(ANN, *hash_password(Secret("password")))
    directory.close()
    config = Config(
        hostname="mail.here.example",
        data_dir=str(folder),
        listen=Listen(smtp=["127.0.0.1:0"], imap=["127.0.0.1:0"], pop3=["127.0.0.1:0"]),
        security=Security(allow_cleartext_login=True),
    )
    server = Server(config, failure_delay_s=0, sends=False)
    await server.start()
    watching = Watching(folder, 1)
    assert server.store is not None
    await watching.start(server.services, server.connections, server.store.directory)
    try:
        yield server, watching
    finally:
        watching.close()
        await server.stop(1)


class Viewer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, folder: Path, **wish: Any) -> "Viewer":
        with short_path(folder / watch_name(1)) as path:
            viewer = cls(*await asyncio.open_unix_connection(path))
        viewer.writer.write(json.dumps(wish).encode() + b"\n")
        return viewer

    async def line(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await asyncio.wait_for(self.reader.readline(), 5))
        return found

    async def until(self, text: str) -> list[dict[str, Any]]:
        lines = []
        while True:
            lines.append(await self.line())
            if text in lines[-1].get("text", ""):
                return lines

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, server: Server, service: str) -> "Client":
        client = cls(*await asyncio.open_connection(*server.addresses[service][0]))
        await client.reader.readline()
        return client

    async def ask(self, line: bytes, end: bytes = b"") -> bytes:
        """The line of the answer that begins with `end`."""
        self.writer.write(line + b"\r\n")
        while True:
            answer = await asyncio.wait_for(self.reader.readline(), 5)
            assert answer
            if answer.startswith(end):
                return answer


async def settle(is_so: Any) -> None:
    for _ in range(500):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def sessions_of(server: Server) -> list[Any]:
    return [connection._session for connection in server.connections()]


def test_sessions_are_as_they_were_once_nobody_looks_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, _):
            makers = {name: each.new_session for name, each in server.services.items()}
            imap = await Client.open(server, "imap")
            pop3 = await Client.open(server, "pop3")
            smtp = await Client.open(server, "smtp")
            engines = [session.engine for session in sessions_of(server)]
            first = await Viewer.open(tmp_path)
            assert (await first.line())["sessions"] == 3
            second = await Viewer.open(tmp_path, services=["imap"])
            assert (await second.line())["sessions"] == 1
            await settle(lambda: all(isinstance(each, Tap) for each in sessions_of(server)))
            await imap.ask(b"a NOOP", b"a OK")
            await first.close()
            await settle(lambda: [isinstance(s, Tap) for s in sessions_of(server)].count(True) == 1)
            assert server.services["smtp"].new_session is makers["smtp"]
            await imap.ask(b"b NOOP", b"b OK")
            assert (await second.until("b OK"))[-1]["who"] == "server"
            await second.close()
            await settle(lambda: not any(isinstance(s, Tap) for s in sessions_of(server)))
            assert {n: each.new_session for n, each in server.services.items()} == makers
            assert [session.engine for session in sessions_of(server)] == engines
            assert engines[0]._next_piece == engines[0]._framer.next_command
            assert engines[1]._next_line == engines[1]._lines.next_line
            assert engines[2]._next_line == engines[2]._lines.next_line
            await imap.ask(b"c NOOP", b"c OK")
            await pop3.ask(b"CAPA", b".")
            await smtp.ask(b"QUIT", b"221")

    asyncio.run(scenario())


def test_who_attaches_within_an_answer_is_not_shown_the_rest_of_it(tmp_path: Path) -> None:
    """It might be in the middle of a message."""

    async def scenario() -> None:
        async with serving(tmp_path) as (server, _):
            imap = await Client.open(server, "imap")
            await imap.ask(f"a LOGIN {ANN} password".encode(), b"a OK")
            message = b"Subject: x\r\n\r\n" + b"hush hush\r\n" * 400_000
            imap.writer.write(b"b APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message))
            await imap.ask(b"c SELECT INBOX", b"c OK")
            imap.writer.write(b"d FETCH 1 BODY[]\r\n")
            await imap.reader.readline()
            (connection,) = server.connections()
            await settle(lambda: connection.is_at_work)
            viewer = await Viewer.open(tmp_path)
            await viewer.until("is open already")
            await imap.ask(b"e NOOP", b"e OK")
            lines = await viewer.until("e OK")
            assert not any("hush" in line["text"] for line in lines)
            assert [line["text"] for line in lines][-2:] == ["e NOOP", "e OK NOOP completed."]
            await viewer.close()

    asyncio.run(scenario())


def test_a_password_that_was_half_said_is_not_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, _):
            smtp = await Client.open(server, "smtp")
            imap = await Client.open(server, "imap")
            await smtp.ask(b"EHLO x", b"250 ")
            await smtp.ask(b"AUTH LOGIN", b"334")
            await imap.ask(b"a LOGIN {3}", b"+ ")
            viewer = await Viewer.open(tmp_path)
            await viewer.line()
            await viewer.until("is open already")
            await viewer.until("is open already")
            await smtp.ask(b"aHVzaA==", b"334")
            await smtp.ask(b"aHVzaA==", b"535")
            await imap.ask(b"ann hush", b"a NO")
            lines = await viewer.until("NO [AUTH")
            assert not any("aHVzaA" in each["text"] or "hush" in each["text"] for each in lines)
            await viewer.close()

    asyncio.run(scenario())


def test_a_fault_of_the_looking_on_is_none_of_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, watching):
            imap = await Client.open(server, "imap")
            viewer = await Viewer.open(tmp_path)
            await viewer.until("is open already")
            monkeypatch.setattr(watching, "_shown", lambda *_: 1 / 0)
            for tag in (b"a", b"b"):
                await imap.ask(tag + b" NOOP", tag + b" OK")
            assert caplog.text.count("a bug in what is told of it; nobody looks on now") == 1
            await imap.ask(b"c LOGOUT", b"c OK")
            await settle(lambda: not server.connections())
            assert not watching._taps
            await viewer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "wish", [b"\n", b"[]\n", b'{"services": 3}\n', b'{"networks": ["x"]}\n', b"x" * 100_000 + b"\n"]
)
def test_a_viewer_that_talks_nonsense_is_told_or_let_go(tmp_path: Path, wish: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, watching):
            with short_path(tmp_path / watch_name(1)) as path:
                reader, writer = await asyncio.open_unix_connection(path)
            writer.write(wish)
            answer = await asyncio.wait_for(reader.read(), 5)
            assert not answer or json.loads(answer)["problem"]
            writer.close()
            assert not watching._viewers
            imap = await Client.open(server, "imap")
            await imap.ask(b"a NOOP", b"a OK")

    asyncio.run(scenario())


def test_hundreds_of_sessions_are_attached_to_and_let_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, watching):
            assert server._admission is not None
            server._admission.most_per_address = 1000
            clients = [await Client.open(server, "pop3") for _ in range(350)]
            viewer = await Viewer.open(tmp_path)
            assert (await viewer.line())["sessions"] == 350
            await settle(lambda: len(watching._taps) == 350)
            await viewer.close()
            await settle(lambda: not watching._taps)
            for client in clients:
                client.writer.close()

    asyncio.run(scenario())
