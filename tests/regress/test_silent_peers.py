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


@pytest.mark.parametrize("service", ["submissions", "imaps", "pop3s"])
def test_a_peer_that_leaves_before_its_handshake_is_gone_at_once(
    service: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        server = Server(
            Config("mail.example.test", str(tmp_path), listen=Listen(**{service: ["127.0.0.1:0"]}))
        )
        await server.start()
        try:
            _host, port = server.addresses[service][0]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"\x16\x03\x01")
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        finally:
            await server.stop(0)

    asyncio.run(scenario())


def test_a_stop_lets_the_message_in_hand_be_finished(tmp_path: Path) -> None:
    """RFC 5321 §3.8: what is under way is ended in good order, then comes 421."""

    async def scenario() -> None:
        server = Server(
            Config("mail.example.test", str(tmp_path), listen=Listen(smtp=["127.0.0.1:0"])),
        )
        await server.start()
        assert server.store is not None
        server.store.directory.add_domain("example.test")
        server.store.directory.add_account("a@example.test", "", "")
        _host, port = server.addresses["smtp"][0]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        idle, _ = await asyncio.open_connection("127.0.0.1", port)
        assert (await idle.readline()).startswith(b"220")
        for line in ("HELO x", "MAIL FROM:<>", "RCPT TO:<a@example.test>", "DATA"):
            await reader.readline()
            writer.write(line.encode() + b"\r\n")
        assert (await reader.readline()).startswith(b"354")
        writer.write(b"Subject: half\r\n")
        stopping = asyncio.ensure_future(server.stop(5))
        assert (await idle.read()).startswith(b"421")
        writer.write(b"\r\nthe rest\r\n.\r\n")
        assert (await reader.readline()).startswith(b"250 ")
        assert (await reader.read()).startswith(b"421 ")
        await stopping

    asyncio.run(asyncio.wait_for(scenario(), 20))
