"""What many sessions take, in memory of all processes together: with one worker and with several."""

import asyncio
import resource
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients import Imap
from serverprocess import DOMAIN, PASSWORD, ServerProcess

ACCOUNTS = 5
IDLE = 1000
MIB = 1024
MESSAGES = 100_000
PART = 1000
READERS = 50


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(tmp_path, ACCOUNTS, workers=request.param, tls=True)
    made.start()
    if request.param > 1:
        made.wait_for_workers()
    yield made
    made.kill()


async def idle_session(port: int, number: int, context: ssl.SSLContext | None) -> Imap:
    """Logged in from an address that only few share, INBOX selected, in IDLE."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, local_addr=(f"127.0.1.{1 + number % 20}", 0), ssl=context, limit=4096
    )
    session = Imap(reader, writer)
    await reader.readline()
    answers = await session.command(f"LOGIN user{number % ACCOUNTS}@{DOMAIN} {PASSWORD}")
    assert answers[-1].startswith(b"OK")
    await session.command("SELECT INBOX")
    writer.write(b"i IDLE\r\n")
    assert (await reader.readline()).startswith(b"+ ")
    return session


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.slow
@pytest.mark.parametrize(("tls", "most"), [(False, 150), (True, 300)], ids=["plain", "TLS"])
def test_1000_idle_sessions_stay_within_their_memory(
    server: ServerProcess, tls: bool, most: int
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= hard < IDLE + 100:
        pytest.skip(f"this machine allows {hard} open files; the test needs {IDLE + 100}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def scenario() -> None:
        context = trusting() if tls else None
        port = server.imaps if tls else server.imap
        sessions = []
        for start in range(0, IDLE, 20):
            some = range(start, start + 20)
            sessions += await asyncio.gather(*(idle_session(port, n, context) for n in some))
        used = server.pss_kib()
        print(f"{used / MIB:.0f} MiB")
        assert used < most * MIB
        for session in sessions:
            session.writer.transport.abort()

    asyncio.run(scenario())


@pytest.mark.slow
def test_50_sessions_share_what_they_know_of_100_000_messages(server: ServerProcess) -> None:
    async def scenario() -> None:
        filler = await Imap.connect(server.imap, 0)
        message = "Subject: x\r\n\r\ntext\r\n"
        literals = f" {{{len(message)}+}}\r\n{message}" * PART
        assert (await filler.command(f"APPEND INBOX{literals}"))[-1].startswith(b"OK")
        await filler.command("SELECT INBOX")
        for _ in range(MESSAGES // PART - 1):
            assert (await filler.command(f"COPY 1:{PART} INBOX"))[-1].startswith(b"OK")
        filler.close()
        readers = [await Imap.connect(server.imap, 0) for _ in range(READERS)]
        await asyncio.sleep(1)
        before = server.pss_kib()
        for reader in readers:
            lines = await reader.command("SELECT INBOX")
            assert b"* %d EXISTS" % MESSAGES in lines
        more = server.pss_kib() - before
        print(f"{more / MIB:.1f} MiB more")
        assert more < 32 * MIB
        for reader in readers:
            reader.close()

    asyncio.run(scenario())
