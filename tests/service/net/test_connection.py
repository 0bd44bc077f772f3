"""The driver, with an engine of one line a command over real sockets."""

import asyncio
import contextlib
import itertools
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from pillarbox.app.run import loop_factory
from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.core.networks import NO_NETWORKS, parse_networks
from pillarbox.net import admission as admission_module
from pillarbox.net import connection as connection_module
from pillarbox.net import patience
from pillarbox.net.admission import Admission
from pillarbox.net.connection import Connection
from pillarbox.net.listener import Listeners, bind
from pillarbox.net.service import Service
from pillarbox.net.tls import server_context
from pillarbox.net.turns import TURN_S


class LineEngine:
    """One line is one event; each is answered by `answer`."""

    is_amid_message = False

    def __init__(self) -> None:
        self.closing = self.wants_tls = self.secure = False
        self.waiting = False
        self.buffer = b""
        self.output: list[bytes] = []
        self.silence_s: float | None = None
        self.ended = asyncio.Event()

    def receive(self, data: bytes) -> None:
        self.buffer += data
        if not data:
            self.ended.set()

    def next_event(self) -> bytes | Wait:
        if self.waiting:
            return PAUSED
        line, end, rest = self.buffer.partition(b"\n")
        if not end:
            return NEED_DATA
        self.buffer = rest
        self.waiting = True
        return line.strip()

    def answer(self, data: bytes) -> None:
        self.waiting = False
        self.output.append(data)

    def data_to_send(self) -> list[bytes]:
        output, self.output = self.output, []
        return output

    def tls_started(self) -> None:
        self.wants_tls = False
        self.secure = True

    def timeout(self) -> float | None:
        return self.silence_s

    def timed_out(self) -> None:
        self.output.append(b"silence\n")
        self.closing = True


class EchoSession:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.engine = LineEngine()
        self.was_closed = self.worked = 0
        self.failures: list[bytes] = []
        self.had_left: list[bool] = []

    def secured(self) -> None:
        pass

    def opened(self) -> None:
        self.engine.output.append(b"hello\n")

    async def handle(self, event: bytes) -> None:
        engine = self.engine
        if event == b"sleep":
            await asyncio.sleep(0.05)
        elif event == b"work":
            self.worked += 1
            end = time.monotonic() + TURN_S
            while time.monotonic() < end:
                pass
        elif event == b"nap":
            await asyncio.sleep(0.5)
        elif event == b"to the end":
            self.had_left.append(self.connection.has_left())
            engine.output.append(b"waiting\n")
            self.connection.flush()
            await engine.ended.wait()
            self.had_left.append(self.connection.has_left())
        elif event == b"bug":
            raise ZeroDivisionError
        elif event == b"late bug":
            await asyncio.sleep(0)
            raise ZeroDivisionError
        elif event == b"flood":
            for _ in range(200):
                engine.output.append(b"x" * 65536)
                await self.connection.drained()
        elif event == b"tls":
            engine.wants_tls = True
        elif event == b"quit":
            engine.closing = True
        engine.answer(b"<" + event + (b" secure" if engine.secure else b"") + b">\n")

    def failed(self, event: bytes) -> None:
        self.failures.append(event)
        self.engine.answer(b"our bug\n")

    def stop(self) -> None:
        self.engine.output.append(b"stopping\n")
        self.engine.closing = True

    def closed(self) -> None:
        self.was_closed += 1


class Rig:
    def __init__(self, folder: Path) -> None:
        self.sessions: list[EchoSession] = []
        self.admission = Admission(100, 100)
        self.listeners = Listeners(self.admission)
        self.port = 0
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(folder / "key.pem")
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(folder / "cert.pem", append=number > 0)
        self.context = server_context(folder / "cert.pem", folder / "key.pem")
        self.client_context = ssl.create_default_context()
        authority.configure_trust(self.client_context)

    def session(self, connection: Connection) -> EchoSession:
        made = EchoSession(connection)
        self.sessions.append(made)
        return made

    async def start(self, implicit_tls: bool = False) -> None:
        service = self.service = Service(
            "imap", self.session, b"too many\n", implicit_tls, lambda: self.context
        )
        sock = bind("127.0.0.1:0")
        self.port = sock.getsockname()[1]
        await self.listeners.listen(sock, service)

    async def connect(self, **options) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, **options)


def run(
    folder: Path, scenario: Callable[[Rig], Awaitable[None]], *, implicit_tls: bool = False
) -> Rig:
    async def main() -> Rig:
        rig = Rig(folder)
        await rig.start(implicit_tls)
        try:
            await asyncio.wait_for(scenario(rig), 20)
        finally:
            await rig.listeners.close(1)
        return rig

    return asyncio.run(main())


def test_pipelined_commands_are_answered_in_order_though_one_waits(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        reader, writer = await rig.connect()
        writer.write(b"a\nsleep\nb\nquit\nnever\n")
        assert await reader.read() == b"hello\n<a>\n<sleep>\n<b>\n<quit>\n"

    run(tmp_path, scenario)


def test_a_long_pipeline_is_answered_wholly(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        reader, writer = await rig.connect()
        writer.write(b"c\n" * 5000 + b"quit\n")
        assert (await reader.read()).count(b"<c>") == 5000

    run(tmp_path, scenario)


def test_commands_that_take_long_leave_the_loop_to_others(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        reader, writer = await rig.connect()
        writer.write(b"work\n" * 20 + b"quit\n")
        done = [0]
        while done[-1] < 20:
            await asyncio.sleep(0)
            if rig.sessions:
                done.append(rig.sessions[0].worked)
        assert max(after - before for before, after in itertools.pairwise(done)) == 1
        assert (await reader.read()).count(b"<work>") == 20

    run(tmp_path, scenario)


@pytest.mark.parametrize("command", [b"bug", b"late bug"])
def test_a_bug_is_answered_and_the_session_goes_on(tmp_path: Path, command: bytes) -> None:
    async def scenario(rig: Rig) -> None:
        reader, writer = await rig.connect()
        writer.write(command + b"\nnext\nquit\n")
        assert await reader.read() == b"hello\nour bug\n<next>\n<quit>\n"

    rig = run(tmp_path, scenario)
    assert rig.sessions[0].failures == [command]


def test_what_was_sent_before_the_end_of_input_is_answered(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        reader, writer = await rig.connect()
        writer.write(b"sleep\nb\n")
        writer.write_eof()
        assert await reader.read() == b"hello\n<sleep>\n<b>\n"

    rig = run(tmp_path, scenario)
    assert rig.sessions[0].was_closed == 1


def test_a_peer_has_left_that_closes_within_tls(tmp_path: Path) -> None:
    """Without TLS the end of input may be all that was to be said, and the answer be waited for (nc)."""

    async def half(rig: Rig) -> None:
        reader, writer = await rig.connect()
        writer.write(b"to the end\n")
        writer.write_eof()
        assert await reader.read() == b"hello\nwaiting\n<to the end>\n"
        assert rig.sessions[0].had_left == [False, False]
        assert rig.sessions[0].connection.has_left()

    async def whole(rig: Rig) -> None:
        reader, writer = await rig.connect(ssl=rig.client_context, server_hostname="localhost")
        writer.write(b"to the end\n")
        await reader.readuntil(b"waiting\n")
        writer.close()
        await rig.sessions[0].engine.ended.wait()
        await asyncio.sleep(0)
        assert rig.sessions[0].had_left == [False, True]

    run(tmp_path, half)
    run(tmp_path, whole, implicit_tls=True)


def test_starttls_and_implicit_tls(tmp_path: Path) -> None:
    async def upgrade(rig: Rig) -> None:
        reader, writer = await rig.connect()
        await reader.readline()
        writer.write(b"tls\n")
        assert await reader.readline() == b"<tls>\n"
        await writer.start_tls(rig.client_context, server_hostname="localhost")
        writer.write(b"a\nquit\n")
        assert await reader.read() == b"<a secure>\n<quit secure>\n"

    async def implicit(rig: Rig) -> None:
        reader, writer = await rig.connect(ssl=rig.client_context, server_hostname="localhost")
        writer.write(b"a\nquit\n")
        assert await reader.read() == b"hello\n<a>\n<quit>\n"
        assert not rig.admission.connections or await asyncio.sleep(0.05) is None

    run(tmp_path, upgrade)
    run(tmp_path, implicit, implicit_tls=True)


def test_garbage_instead_of_a_handshake_closes_that_connection_alone(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        reader, writer = await rig.connect()
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await reader.read()
        reader, writer = await rig.connect(ssl=rig.client_context, server_hostname="localhost")
        writer.write(b"quit\n")
        assert (await reader.read()).endswith(b"<quit>\n")

    run(tmp_path, scenario, implicit_tls=True)


def test_silence_ends_a_connection_and_single_octets_do_not_keep_it(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        original = LineEngine.timeout
        LineEngine.timeout = lambda self: 0.3
        try:
            reader, writer = await rig.connect()

            async def drip() -> None:
                while True:
                    writer.write(b"x")
                    await asyncio.sleep(0.05)

            task = asyncio.ensure_future(drip())
            begin = asyncio.get_running_loop().time()
            assert await reader.read() == b"hello\nsilence\n"
            assert asyncio.get_running_loop().time() - begin < 2
            task.cancel()
        finally:
            LineEngine.timeout = original

    run(tmp_path, scenario)


@pytest.mark.parametrize(("rate", "stays"), [(100, False), (100_000, True)])
def test_a_message_that_drips_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, stays: bool
) -> None:
    """Though each piece is an event."""
    monkeypatch.setattr(patience, "LEAST_RATE", 10_000)
    monkeypatch.setattr(LineEngine, "is_amid_message", True)
    monkeypatch.setattr(LineEngine, "timeout", lambda self: 0.3)
    monkeypatch.setattr(patience, "LONGEST_NAP_S", 0.05)

    async def scenario(rig: Rig) -> None:
        reader, writer = await rig.connect()
        piece = b"x" * (rate // 100 - 1) + b"\n"
        begin = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - begin < 1.5:
            writer.write(piece)
            await asyncio.sleep(0.01)
            if rig.sessions and rig.sessions[0].was_closed:
                break
        writer.write(b"quit\n")
        with contextlib.suppress(ConnectionError):
            assert (b"silence\n" in await reader.read()) != stays
        assert (rig.sessions[0].engine.output == []) or stays
        assert (asyncio.get_running_loop().time() - begin < 1) != stays

    run(tmp_path, scenario)


def test_a_peer_that_does_not_read_holds_little_memory_and_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "WRITE_STALL_S", 0.2)

    async def scenario(rig: Rig) -> None:
        _reader, writer = await rig.connect(limit=1024)
        writer.transport.pause_reading()
        writer.write(b"flood\n")
        await asyncio.sleep(0.1)
        (session,) = rig.sessions
        held = session.connection._transport.get_write_buffer_size()
        assert 0 < held < 1_000_000
        for _ in range(100):
            if session.was_closed:
                break
            await asyncio.sleep(0.05)
        assert session.was_closed == 1

    run(tmp_path, scenario)


def test_too_many_connections_are_turned_away_by_address(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.admission.most_per_address = 2
        kept = [await rig.connect() for _ in range(2)]
        for reader, _ in kept:
            assert await reader.readline() == b"hello\n"
        reader, _ = await rig.connect()
        assert await reader.read() == b"too many\n"
        kept[0][1].write(b"quit\n")
        await kept[0][0].read()
        await asyncio.sleep(0.05)
        reader, _ = await rig.connect()
        assert await reader.readline() == b"hello\n"

    run(tmp_path, scenario)


def test_a_full_server_lets_the_oldest_stranger_go_for_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However busily it pretends to be alive; who logged in, or waits for us, stays."""
    monkeypatch.setattr(admission_module, "MADE_ROOM", 1)

    async def scenario(rig: Rig) -> None:
        rig.admission.most = 4
        now = 1000.0
        rig.admission.clock = lambda: now
        made = [await rig.connect() for _ in range(4)]
        for reader, _ in made:
            assert await reader.readline() == b"hello\n"
        for session in rig.sessions:
            session.connection._since = now
        rig.sessions[0].connection.account = 7
        made[1][1].write(b"nap\n")
        made[2][1].write(b"a\n")
        assert await made[2][0].readline() == b"<a>\n"
        turned_away, _ = await rig.connect()
        assert await turned_away.read() == b"too many\n", "nobody has been here for long"
        now += admission_module.GRACE_S + 1
        reader, writer = await rig.connect()
        assert await reader.readline() == b"hello\n"
        assert await made[2][0].read() == b"too many\n"
        made[1][1].write(b"quit\n")
        assert await made[1][0].read() == b"<nap>\n<quit>\n"
        made[0][1].write(b"quit\n")
        assert await made[0][0].read() == b"<quit>\n"
        writer.write(b"quit\n")
        assert await reader.read() == b"<quit>\n"
        made[3][1].close()

    rig = run(tmp_path, scenario)
    assert rig.admission.by_address == {}
    assert all(session.was_closed == 1 for session in rig.sessions)


@pytest.mark.parametrize("state", ["handshake", "tls", "not reading", "proxy header"])
def test_a_stranger_in_any_state_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(admission_module, "GRACE_S", -1.0)

    async def scenario(rig: Rig) -> None:
        rig.admission.most = 1
        reader, writer = await rig.connect(limit=1024)
        if state == "proxy header":
            behind_a_proxy(rig)
            reader, writer = await rig.connect()
            await asyncio.sleep(0.05)
            rig.admission.proxies = NO_NETWORKS
        elif state == "not reading":
            writer.transport.pause_reading()
            writer.write(b"flood\n")
            await asyncio.sleep(0.1)
            rig.sessions[0].connection._task.cancel()
            await asyncio.sleep(0)
        else:
            await reader.readline()
            writer.write(b"tls\n")
            assert await reader.readline() == b"<tls>\n"
            if state == "tls":
                await writer.start_tls(rig.client_context, server_hostname="localhost")
        fresh, _ = await rig.connect()
        assert await asyncio.wait_for(fresh.readline(), 5) == b"hello\n"
        assert len(rig.admission.connections) == 1
        if state == "tls":
            assert await reader.read() == b"too many\n"
        for _ in range(100):
            if rig.sessions[0].was_closed:
                break
            await asyncio.sleep(0.02)
        assert rig.sessions[0].was_closed == 1

    run(tmp_path, scenario)


def test_shutdown_lets_a_command_finish_and_says_goodbye(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        idle, _ = await rig.connect()
        busy, writer = await rig.connect()
        assert await idle.readline() == b"hello\n"
        assert await busy.readline() == b"hello\n"
        writer.write(b"sleep\nnever\n")
        await asyncio.sleep(0.02)
        await rig.listeners.close(2)
        assert await idle.read() == b"stopping\n"
        assert await busy.read() == b"<sleep>\nstopping\n"

    rig = run(tmp_path, scenario)
    assert [session.was_closed for session in rig.sessions] == [1, 1]


def test_one_peer_with_much_input_leaves_the_loop_to_others(tmp_path: Path) -> None:
    """uvloop would go on to read from it, up to 32 times."""

    async def scenario() -> None:
        rig = Rig(tmp_path)
        await rig.start()
        with socket.create_connection(("127.0.0.1", rig.port)) as sock:
            sock.setblocking(False)
            while not rig.sessions:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            sent = 0
            with contextlib.suppress(
                BlockingIOError
            ):  # all that the kernel takes, before we read any
                while sent < 8 << 20:
                    sent += sock.send(b"x" * 65536)
            buffered, turns = [0], 0
            while buffered[-1] < sent:
                await asyncio.sleep(0)
                turns += 1
                buffered.append(len(rig.sessions[0].engine.buffer))
                assert turns < 100_000
            steps = [after - before for before, after in itertools.pairwise(buffered)]
            assert sent > 1 << 20
            assert max(steps) <= 256_000
        await rig.listeners.close(1)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(asyncio.wait_for(scenario(), 20))


def test_large_and_small_input_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "BULK_OCTETS", 500)

    async def scenario(rig: Rig) -> None:
        reader, writer = await rig.connect()
        await reader.readline()
        commands = [b"%d" % number for number in range(3000)]
        for start in range(0, 3000, 100):
            writer.write(b"".join(command + b"\n" for command in commands[start : start + 100]))
            if start % 500 == 0:
                await asyncio.sleep(0.001)
        for command in commands:
            assert await reader.readline() == b"<" + command + b">\n"

    run(tmp_path, scenario)


def test_half_a_command_is_acknowledged_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer's kernel may hold the other half until then. Whole ones have their answer, with which the ACK goes."""
    acknowledge, was_called = connection_module.Connection._acknowledge, asyncio.Event()
    calls = 0

    def counted(connection: Connection) -> None:
        nonlocal calls
        calls += 1
        acknowledge(connection)
        was_called.set()

    monkeypatch.setattr(connection_module.Connection, "_acknowledge", counted)

    async def scenario(rig: Rig) -> None:
        reader, writer = await rig.connect()
        await reader.readline()
        for command in (b"whole", b"sleep", b"to", b"tle"):
            writer.write(command + b"\n")
            assert await reader.readline() == b"<" + command + b">\n"
        assert calls == 0
        writer.write(b"one ha")
        await was_called.wait()
        writer.write(b"lf\n")
        assert await reader.readline() == b"<one half>\n"
        assert calls == 1

    run(tmp_path, scenario)


HEADER = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n"


def behind_a_proxy(rig: Rig, most_per_address: int = 100) -> None:
    rig.admission.proxies = parse_networks(["127.0.0.1"])
    rig.admission.most_per_address = most_per_address


def test_a_proxy_tells_who_the_client_is_in_whatever_pieces(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        behind_a_proxy(rig)
        for cut in range(0, len(HEADER) + 4, 3):
            reader, writer = await rig.connect()
            octets = HEADER + b"a\nquit\n"
            writer.write(octets[:cut])
            await writer.drain()
            await asyncio.sleep(0.002)
            writer.write(octets[cut:])
            assert await reader.read() == b"hello\n<a>\n<quit>\n"
        assert {session.connection.peer for session in rig.sessions} == {("192.0.2.7", 4711)}

    rig = run(tmp_path, scenario)
    assert rig.admission.by_address == {}
    assert all(session.was_closed == 1 for session in rig.sessions)


def test_nothing_is_said_before_the_header_and_without_one_the_connection_ends(
    tmp_path: Path,
) -> None:
    async def scenario(rig: Rig) -> None:
        behind_a_proxy(rig)
        reader, writer = await rig.connect()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        writer.write(b"EHLO me\r\n")
        assert await reader.read() == b""

    rig = run(tmp_path, scenario)
    assert not rig.admission.connections


@pytest.mark.parametrize("header", [b"", HEADER[:-1], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xff"])
def test_half_a_header_is_not_awaited_for_long_however_it_drips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: bytes
) -> None:
    monkeypatch.setattr(connection_module, "PROXY_HEADER_S", 0.3)

    async def scenario(rig: Rig) -> None:
        behind_a_proxy(rig)
        reader, writer = await rig.connect()

        async def drip() -> None:
            for place in range(len(header)):
                writer.write(header[place : place + 1])
                await asyncio.sleep(0.02)

        task = asyncio.ensure_future(drip())
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert asyncio.get_running_loop().time() - began < 2
        task.cancel()

    rig = run(tmp_path, scenario)
    assert not rig.admission.connections
    assert rig.admission.by_address == {}


def test_a_session_is_made_for_the_client_not_for_its_proxy(tmp_path: Path) -> None:
    """What the client may do depends on its address, and sessions look at that at once."""
    seen: list[tuple[str, int]] = []

    async def scenario(rig: Rig) -> None:
        behind_a_proxy(rig)
        make = rig.session

        def note(connection: Connection) -> EchoSession:
            seen.append(connection.peer)
            return make(connection)

        rig.service.new_session = note
        reader, writer = await rig.connect()
        await asyncio.sleep(0.05)
        assert not seen
        writer.write(HEADER + b"quit\n")
        assert await reader.read() == b"hello\n<quit>\n"

    run(tmp_path, scenario)
    assert seen == [("192.0.2.7", 4711)]


def test_a_stop_does_not_wait_for_headers(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        behind_a_proxy(rig)
        reader, _writer = await rig.connect()
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        await rig.listeners.close(5)
        assert asyncio.get_running_loop().time() - began < 2
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""

    run(tmp_path, scenario)


def test_the_time_for_a_header_is_not_that_of_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PROXY_HEADER_S", 0.1)

    async def scenario(rig: Rig) -> None:
        behind_a_proxy(rig)
        reader, writer = await rig.connect()
        writer.write(HEADER)
        await asyncio.sleep(0.3)
        writer.write(b"quit\n")
        assert await reader.read() == b"hello\n<quit>\n"

    run(tmp_path, scenario)


def test_connections_through_a_proxy_count_for_their_clients(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        behind_a_proxy(rig, most_per_address=1)
        open_ones = []
        for last in range(3):
            reader, writer = await rig.connect()
            writer.write(HEADER.replace(b"192.0.2.7", b"192.0.2.%d" % last))
            assert await reader.readline() == b"hello\n"
            open_ones.append(writer)
        reader, writer = await rig.connect()
        writer.write(HEADER.replace(b"192.0.2.7", b"192.0.2.1") + b"quit\n")
        assert await reader.read() == b"too many\n"

    rig = run(tmp_path, scenario)
    assert rig.admission.by_address == {}
    assert not rig.admission.connections


def test_tls_begins_behind_the_header(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        behind_a_proxy(rig)
        reader, writer = await rig.connect()
        writer.write(HEADER)
        await writer.start_tls(rig.client_context, server_hostname="localhost")
        assert await reader.readline() == b"hello\n"
        writer.close()

    rig = run(tmp_path, scenario, implicit_tls=True)
    assert rig.sessions[0].connection.peer == ("192.0.2.7", 4711)
    assert rig.sessions[0].connection.channel.is_tls
