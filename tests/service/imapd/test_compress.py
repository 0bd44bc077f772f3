"""COMPRESS=DEFLATE (RFC 4978), also against bombs, and its end by UNAUTHENTICATE (RFC 8437 §4.1)."""

import asyncio
import contextlib
import os
import re
import resource
import ssl
import zlib
from pathlib import Path
from typing import Any

import pytest
import trustme
from imap_harness import PASSWORD, USER, Imap, Line, serving

from pillarbox.net.compression import PIECE_OCTETS, CompressionLayer


class Deflated(Line):
    """A client behind COMPRESS."""

    def __init__(self, line: Line) -> None:
        super().__init__(line.reader, line.writer)
        self._deflate = zlib.compressobj(wbits=-15)
        self._inflate = zlib.decompressobj(-15)
        self._plain = b""

    async def send(self, line: bytes) -> None:
        await self.send_raw(self._deflate.compress(line + b"\r\n"))
        await self.send_raw(self._deflate.flush(zlib.Z_SYNC_FLUSH))

    async def send_raw(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def read(self) -> bytes:
        while b"\n" not in self._plain:
            octets = await asyncio.wait_for(self.reader.read(65536), 5)
            if not octets:
                return b"<closed>"
            self._plain += self._inflate.decompress(octets)
        line, _, self._plain = self._plain.partition(b"\n")
        return line.removesuffix(b"\r")

    async def response(self) -> bytes:
        line = await self.read()
        while size := re.search(rb"\{(\d+)\}$", line):
            while len(self._plain) < int(size[1]):
                self._plain += self._inflate.decompress(await self.reader.read(65536))
            literal, self._plain = self._plain[: int(size[1])], self._plain[int(size[1]) :]
            line += b"\r\n" + literal + await self.read()
        return line

    async def finish(self, line: bytes, plain: bytes) -> None:
        """The last line, the end of the stream, and what comes behind it as it is."""
        octets = self._deflate.compress(line + b"\r\n") + self._deflate.flush(zlib.Z_FINISH)
        await self.send_raw(octets + plain)

    @property
    def ended(self) -> bool:
        return self._inflate.eof

    @property
    def behind_the_end(self) -> bytes:
        return self._inflate.unused_data


def in_service(tmp_path: Path, test: Any, tls: ssl.SSLContext | None = None) -> None:
    async def run() -> None:
        async with serving(tmp_path, tls) as imap:
            await test(imap)

    asyncio.run(run())


async def compressed(imap: Imap, mailbox: bytes = b"") -> Deflated:
    client = await imap.login(mailbox)
    await client.ok(b"COMPRESS DEFLATE")
    return Deflated(client)


def test_both_directions_are_compressed(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        body = b"Subject: x\r\n\r\n" + b"The same line again and again.\r\n" * 60_000
        client = await compressed(imap)
        await client.append(b"INBOX", body)
        await client.ok(b"SELECT INBOX")
        (answer,) = await client.ok(b"FETCH 1 BODY.PEEK[]")
        assert body in answer
        assert (await client.command(b"LOGOUT"))[-1].startswith(b"OK")
        assert await client.read() == b"<closed>"

    in_service(tmp_path, test)


def test_compression_is_inside_of_tls(tmp_path: Path) -> None:
    # RFC 4978 §3: first COMPRESS, then TLS
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def test(imap: Imap) -> None:
        line = await imap.connect()
        await line.read()
        await line.ok(b"STARTTLS")
        await line.writer.start_tls(trusting, server_hostname="localhost")
        await line.ok(f"LOGIN {USER} {PASSWORD}".encode())
        await line.ok(b"COMPRESS DEFLATE")
        client = Deflated(line)
        assert await client.ok(b"STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]

    in_service(tmp_path, test, server)


def test_what_is_wrong_about_compress_is_bad(tmp_path: Path) -> None:
    # RFC 4978 §3: unknown mechanism, active already, commands before the answer
    async def test(imap: Imap) -> None:
        client = await imap.login()
        for bad in (b"COMPRESS", b"COMPRESS GZIP", b"COMPRESS DEFLATE NOW"):
            assert (await client.command(bad))[-1].startswith(b"BAD"), bad
        client.writer.write(b"a COMPRESS DEFLATE\r\nb NOOP\r\n")
        assert (await client.read()).startswith(b"a BAD ")
        assert (await client.read()).startswith(b"b OK ")
        await client.ok(b"COMPRESS DEFLATE")
        deflated = Deflated(client)
        assert (await deflated.command(b"COMPRESS DEFLATE"))[-1].startswith(b"BAD")
        await deflated.ok(b"NOOP")
        stranger = await imap.connect()
        await stranger.read()
        assert (await stranger.command(b"COMPRESS DEFLATE"))[-1].startswith(b"BAD")

    in_service(tmp_path, test)


def test_what_is_not_deflate_ends_the_connection(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await compressed(imap)
        await client.send_raw(b"a NOOP\r\n" * 10)
        with contextlib.suppress(ConnectionResetError):
            assert await client.reader.read() == b""

    in_service(tmp_path, test)


def test_commands_come_through_however_they_are_cut(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await compressed(imap)
        deflate = zlib.compressobj(wbits=-15)
        octets = deflate.compress(b"".join(b"a%d NOOP\r\n" % number for number in range(300)))
        octets += deflate.flush(zlib.Z_SYNC_FLUSH)
        for place in range(len(octets)):
            await client.send_raw(octets[place : place + 1])
            if place % 50 == 0:
                await asyncio.sleep(0)
        for number in range(300):
            assert (await client.read()).startswith(b"a%d OK" % number)

    in_service(tmp_path, test)


def test_a_bomb_takes_neither_memory_nor_the_loop(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await compressed(imap)
        other = await imap.login()
        deflate = zlib.compressobj(9, wbits=-15)
        bomb = deflate.compress(b"x APPEND INBOX {100000+}\r\n")
        bomb += b"".join(deflate.compress(bytes(1 << 20)) for _ in range(300))
        bomb += deflate.flush(zlib.Z_SYNC_FLUSH)
        assert len(bomb) < 400_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sending = asyncio.create_task(client.send_raw(bomb))
        for _ in range(20):
            loop = asyncio.get_running_loop()
            began = loop.time()
            await other.ok(b"NOOP")
            assert loop.time() - began < 0.5
            await asyncio.sleep(0.01)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB
        client.writer.close()
        sending.cancel()

    in_service(tmp_path, test)


def test_input_at_the_end_of_the_stream_is_still_answered(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await compressed(imap)
        message = b"Subject: x\r\n\r\n" + b"0123456789abcdef" * 20_000
        command = b"a APPEND INBOX {%d+}\r\n%b\r\nb LOGOUT" % (len(message), message)
        await client.send(command)
        client.writer.write_eof()
        assert (await client.read()).startswith(b"a OK [APPENDUID ")

    in_service(tmp_path, test)


@pytest.mark.parametrize("finishes", [True, False])
def test_unauthenticate_ends_compression(tmp_path: Path, finishes: bool) -> None:
    # RFC 8437 §4.1
    async def test(imap: Imap) -> None:
        client = await compressed(imap)
        login = f"b LOGIN {USER} {PASSWORD}\r\n".encode()
        if finishes:
            await client.finish(b"a UNAUTHENTICATE", login)
        else:
            await client.send(b"a UNAUTHENTICATE")
        assert await client.read() == b"a OK Unauthenticated."
        if not finishes:
            await client.send_raw(login)
        octets = b""
        while not octets.endswith(b"Logged in\r\n"):
            octets += client.behind_the_end if not octets else b""
            if octets.endswith(b"Logged in\r\n"):
                break
            read = await asyncio.wait_for(client.reader.read(65536), 5)
            octets += read if client.ended else client._inflate.decompress(read)
            if not octets:
                continue
        assert b"b OK [CAPABILITY " in octets
        plain = Line(client.reader, client.writer)
        await plain.ok(b"NOOP")
        await plain.ok(b"COMPRESS DEFLATE")
        await Deflated(plain).ok(b"NOOP")

    in_service(tmp_path, test)


def test_a_layer_gives_bounded_pieces() -> None:
    deflate = zlib.compressobj(9, wbits=-15)
    octets = deflate.compress(bytes(1 << 22)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    layer = CompressionLayer()
    total = len(layer.receive(octets))
    while layer.has_more:
        piece = layer.receive(b"")
        assert len(piece) <= PIECE_OCTETS
        total += len(piece)
    assert total == 1 << 22
    assert layer.rest() == b""


def test_a_layer_knows_what_is_behind_the_end() -> None:
    deflate = zlib.compressobj(wbits=-15)
    octets = deflate.compress(b"abc") + deflate.flush(zlib.Z_FINISH)
    for cut in range(len(octets) + 5):
        layer = CompressionLayer()
        whole = octets + b"plain"
        assert layer.receive(whole[:cut]) + layer.receive(whole[cut:]) == b"abc"
        assert not layer.has_more
        assert layer.rest() == b"plain"
    layer.receive(bytes(PIECE_OCTETS - 10))
    with pytest.raises(zlib.error):
        layer.receive(bytes(10))


def test_a_layer_reads_what_it_writes() -> None:
    layer, other = CompressionLayer(), CompressionLayer()
    text = os.urandom(100_000) + b"a" * 100_000
    octets = layer.send([text[:50], text[50:]])
    while layer.is_behind:
        octets += layer.send([])
    plain = other.receive(octets)
    while other.has_more:
        plain += other.receive(b"")
    assert plain == text
