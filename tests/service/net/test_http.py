"""The HTTP server: right requests are answered, and nobody can keep it busy."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pillarbox.net import http
from pillarbox.net.http import Answer, HttpServer

GET = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"


async def page(path: str) -> Answer | None:
    return Answer(200, b"text\n") if path == "/page" else None


@asynccontextmanager
async def serving(
    answer: Callable[[str], Awaitable[Answer | None]] = page,
) -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(answer)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await server.start([sock])
    try:
        yield server, port
    finally:
        await server.close()


async def ask(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """All that the server says until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(pause_s)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


def asked(*pieces: bytes, pause_s: float = 0.0) -> bytes:
    async def main() -> bytes:
        async with serving() as (_, port):
            return await ask(port, *pieces, pause_s=pause_s)

    return asyncio.run(main())


def test_a_get_is_answered_and_the_connection_ends() -> None:
    head, _, body = asked(GET).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert {b"Content-Length: 5", b"Connection: close"} <= set(lines)
    assert body == b"text\n"


def test_the_answer_to_head_has_no_body() -> None:
    """RFC 9110 §9.3.2"""
    head, _, body = asked(GET.replace(b"GET", b"HEAD")).partition(b"\r\n\r\n")
    assert b"Content-Length: 5" in head
    assert body == b""


def test_a_request_may_come_octet_by_octet() -> None:
    pieces = [GET[index : index + 1] for index in range(len(GET))]
    assert asked(*pieces, pause_s=0.001).startswith(b"HTTP/1.1 200 ")


def test_what_comes_behind_a_request_is_not_looked_at() -> None:
    """Nor does it cost the client its answer."""
    said = asked(GET + GET.replace(b"page", b"none") * 20)
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.endswith(b"text\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"page", b"other"), 404),
        (GET.replace(b"GET", b"POST"), 405),
        (GET.replace(b"GET", b"DELETE"), 405),
        (GET.replace(b"Host: a\r\n", b""), 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000, 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000, 431),
        (GET.replace(b"HTTP/1.1", b"HTTP/3.0"), 505),
    ],
)
def test_what_cannot_be_answered_gets_its_status(request_: bytes, status: int) -> None:
    said = asked(request_)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert (b"\r\nAllow: GET, HEAD\r\n" in said) == (status == 405), "RFC 9110 §15.5.6"


def test_who_sends_a_head_too_slowly_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busily: the time counts from the start."""
    monkeypatch.setattr(http, "HEAD_S", 0.2)
    said = asked(*[b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 10], pause_s=0.04)
    assert said.startswith(b"HTTP/1.1 408 ")


def test_who_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_S", 0.1)

    async def main() -> None:
        async with serving() as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            await reader.read()
            assert server.peers
            await asyncio.sleep(0.3)
            assert not server.peers
            writer.close()

    asyncio.run(main())


def test_who_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_S", 0.3)

    async def large(_path: str) -> Answer:
        return Answer(200, bytes(1 << 24))

    async def main() -> None:
        async with serving(large) as (server, port):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(GET)
            await asyncio.sleep(0.1)
            assert server.peers
            await asyncio.sleep(0.5)
            assert not server.peers
            sock.close()

    asyncio.run(main())


def test_silent_peers_make_room_for_those_who_ask() -> None:
    """The oldest of them goes at once."""

    async def main() -> None:
        async with serving() as (server, port):
            silent = [
                await asyncio.open_connection("127.0.0.1", port) for _ in range(http.MOST_PEERS)
            ]
            silent[0][1].write(b"GET /page HTTP/1.1\r\n")
            for _ in range(5):
                assert (await ask(port, GET)).startswith(b"HTTP/1.1 200 ")
            assert len(server.peers) <= http.MOST_PEERS
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(silent[0][0].read(), 5) == b""
            silent[-1][1].write(GET)
            assert (await silent[-1][0].read()).startswith(b"HTTP/1.1 200 ")
            for _, writer in silent:
                writer.close()

    asyncio.run(main())


def test_so_many_are_answered_at_once() -> None:
    """Who waits for an answer of ours is never sent away for another."""

    async def main() -> None:
        may_end = asyncio.Event()

        async def slow(_path: str) -> Answer:
            await may_end.wait()
            return Answer(200, b"text\n")

        async with serving(slow) as (_, port):
            waiting = []
            for _ in range(http.MOST_PEERS):
                waiting.append(asyncio.ensure_future(ask(port, GET)))
                await asyncio.sleep(0.005)
            assert (await ask(port, GET)).startswith(b"HTTP/1.1 503 ")
            may_end.set()
            assert all(said.startswith(b"HTTP/1.1 200 ") for said in await asyncio.gather(*waiting))

    asyncio.run(main())


def test_an_answer_that_takes_too_long_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_S", 0.1)

    async def never(_path: str) -> Answer | None:
        await asyncio.sleep(60)
        return None

    async def main() -> None:
        async with serving(never) as (_, port):
            assert (await ask(port, GET)).startswith(b"HTTP/1.1 503 ")

    asyncio.run(main())


def test_a_bug_is_a_500_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_path: str) -> Answer | None:
        raise ZeroDivisionError

    async def main() -> None:
        async with serving(broken) as (_, port):
            assert (await ask(port, GET)).startswith(b"HTTP/1.1 500 ")

    asyncio.run(main())
    assert "ZeroDivisionError" in caplog.text


def test_who_closes_its_side_first_still_gets_the_answer() -> None:
    """As `printf ... | nc` does."""

    async def slow(_path: str) -> Answer | None:
        await asyncio.sleep(0.1)
        return Answer(200, b"late\n")

    async def main() -> None:
        async with serving(slow) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            writer.write_eof()
            assert (await reader.read()).endswith(b"late\n")
            writer.close()

    asyncio.run(main())
