"""aiosmtplib: a coroutine that sends and tries again, and the server in an `async with`."""

import asyncio

import pytest

from pillarbox.testing import AsyncMailServer

aiosmtplib = pytest.importorskip("aiosmtplib", reason="aiosmtplib is not installed")

MAIL = b"From: alice@example.test\r\nTo: bob@example.test\r\nSubject: Hello\r\n\r\nHi\r\n"


async def send_patiently(host, port, attempts=3):
    """The program under test: returns how many attempts it took."""
    for attempt in range(1, attempts + 1):
        try:
            await aiosmtplib.send(
                MAIL,
                sender="alice@example.test",
                recipients=["bob@example.test"],
                hostname=host,
                port=port,
                start_tls=False,
            )
            return attempt
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused):
            await asyncio.sleep(0.01)
    raise RuntimeError("given up")


def test_greylisting_is_survived():
    async def scenario():
        async with AsyncMailServer() as server:
            server.sync.faults.greylist()
            sending = asyncio.create_task(send_patiently(server.host, server.ports["smtp"]))
            mail = await server.wait_for(to="bob@example.test")
            assert mail["Subject"] == "Hello"
            assert await sending == 2

    asyncio.run(scenario())
