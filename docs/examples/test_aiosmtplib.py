"""aiosmtplib: a coroutine that sends and tries again, and the server in an `async with`.

aiosmtplib uses STARTTLS where it is offered, and then wants a certificate that it trusts: it gets the context for that
of the test server. A program that has no place for one can be tested with `AsyncMailServer(starttls=False)`.
"""

import asyncio

import pytest

from pillarbox.testing import AsyncMailServer

aiosmtplib = pytest.importorskip("aiosmtplib", reason="aiosmtplib is not installed")

MAIL = b"From: alice@example.test\r\nTo: bob@example.test\r\nSubject: Hello\r\n\r\nHi\r\n"


async def send_patiently(host, port, tls_context=None, attempts=3):
    """The program under test: returns how many attempts it took."""
    for attempt in range(1, attempts + 1):
        try:
            await aiosmtplib.send(
                MAIL,
                sender="alice@example.test",
                recipients=["bob@example.test"],
                hostname=host,
                port=port,
                tls_context=tls_context,
            )
            return attempt
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused):
            await asyncio.sleep(0.01)
    raise RuntimeError("given up")


def test_greylisting_is_survived():
    async def scenario():
        async with AsyncMailServer() as server:
            server.faults.greylist()
            sending = asyncio.create_task(
                send_patiently(server.host, server.ports["smtp"], server.client_context())
            )
            mail = await server.wait_for(to="bob@example.test")
            assert mail["Subject"] == "Hello"
            assert await sending == 2

    asyncio.run(scenario())


def test_a_program_that_trusts_the_usual_cas_only():
    async def scenario():
        async with AsyncMailServer(starttls=False) as server:
            assert await send_patiently(server.host, server.ports["smtp"]) == 1
            assert len(await server.outbox()) == 1

    asyncio.run(scenario())
