"""Postfix's smtp-source and swaks as LMTP clients, and swaks as a proxy with XCLIENT."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pillarbox.app.server import Server
from pillarbox.config.schema import Config, Listen, Smtp
from pillarbox.store import messages
from pillarbox.store.directory import Directory

NEEDED = ("smtp-source", "swaks")

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in NEEDED), reason="smtp-source or swaks missing"
)


class Rig:
    """A server with ann and bob."""

    def __init__(self, folder: Path) -> None:
        directory = Directory(folder / "directory.db", clock=time.time)
        directory.add_domain("here.example")
        for name in ("ann", "bob"):
            directory.add_account(f"{name}@here.example", "", "")
        directory.close()
        self.server = Server(
            Config(
                "mail.here.example",
                str(folder),
                listen=Listen(smtp=["127.0.0.1:0"], lmtp=["127.0.0.1:0"]),
                smtp=Smtp(xclient_from=["127.0.0.1"]),
            )
        )

    def port(self, service: str) -> int:
        return self.server.addresses[service][0][1]

    async def program(self, *command: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, output.decode("utf-8", "replace")

    async def inbox(self, name: str) -> list[bytes]:
        store = self.server.store
        assert store is not None
        account = store.directory.known_account(f"{name}@here.example").id

        def work(tx):
            rows = messages.select(tx, 1, [(1, messages.MOST_UIDS)], ("header",))
            return [header for (header,) in rows]

        return await store.read(account, work)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Rig], Awaitable[None]]], None]:
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            rig = Rig(tmp_path)
            await rig.server.start()
            try:
                await scenario(rig)
            finally:
                await rig.server.stop(1)

        asyncio.run(main())

    return run


def test_smtp_source_delivers_by_lmtp(run) -> None:
    async def scenario(rig: Rig) -> None:
        code, output = await rig.program(
            *("smtp-source", "-L", "-m", "50", "-s", "4"),
            *(
                "-f",
                "x@far.example",
                "-t",
                "ann@here.example",
                f"inet:127.0.0.1:{rig.port('lmtp')}",
            ),
        )
        assert code == 0, output
        assert len(await rig.inbox("ann")) == 50

    run(scenario)


def test_swaks_gets_an_answer_for_each_recipient(run) -> None:
    async def scenario(rig: Rig) -> None:
        code, output = await rig.program(
            *("swaks", "--protocol", "LMTP", "--server", f"127.0.0.1:{rig.port('lmtp')}"),
            *("--from", "x@far.example"),
            *("--to", "ann@here.example,no@here.example,bob@here.example"),
        )
        assert code == 0, output
        assert output.count(" 250 2.0.0 Ok: queued as ") == 2
        assert output.count(" 550 5.1.1 ") == 1
        for name in ("ann", "bob"):
            (header,) = await rig.inbox(name)
            assert b"\r\n\twith LMTP id " in header

    run(scenario)


def test_swaks_speaks_for_another_client(run) -> None:
    async def scenario(rig: Rig) -> None:
        code, output = await rig.program(
            *("swaks", "--server", f"127.0.0.1:{rig.port('smtp')}", "--from", "x@far.example"),
            *("--to", "ann@here.example", "--xclient-addr", "192.0.2.9"),
            *("--xclient-helo", "client.far.example", "--xclient-name", "client.far.example"),
        )
        assert code == 0, output
        (header,) = await rig.inbox("ann")
        assert b"Received: from client.far.example ([192.0.2.9])\r\n" in header

    run(scenario)
