"""Peers that connect and then do nothing go away in time, whatever state they are in."""

import asyncio
from pathlib import Path

import pytest

from pillarbox.app.server import Server
from pillarbox.config.schema import Config, Listen
from pillarbox.net import connection as connection_module


@pytest.mark.parametrize("service", ["submissions", "imaps", "pop3s"])
def test_a_handshake_that_never_comes_is_not_awaited_for_ever(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_S", 0.2)

    async def scenario() -> None:
        server = Server(
            Config("mail.example.test", str(tmp_path), listen=Listen(**{service: ["127.0.0.1:0"]}))
        )
        await server.start()
        try:
            _host, port = server.addresses[service][0]
            for beginning in (b"", b"\x16\x03\x01"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(beginning)
                assert await asyncio.wait_for(reader.read(), 5) == b""
                writer.close()
        finally:
            await server.stop(0)

    asyncio.run(scenario())
