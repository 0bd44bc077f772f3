"""Passwords that others verify: a web service, an LDAP server, a class of one's own."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from http.client import BadStatusLine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from web_service import WebService

from pillarbox.auth import http as http_module
from pillarbox.auth import lines, outside
from pillarbox.auth.failure import NoAnswer, with_cause, words_of
from pillarbox.auth.http import HttpSource
from pillarbox.auth.ldap import LdapSource
from pillarbox.auth.limited import trusting
from pillarbox.auth.login import Authenticator
from pillarbox.auth.outcomes import TOO_MANY, WRONG
from pillarbox.auth.outside import Doors, Outside
from pillarbox.auth.passwords import LONGEST_PASSWORD, make_verifier
from pillarbox.auth.peer import PROTOCOLS, BadToken, Denied, Login, Peer
from pillarbox.auth.source import Claimant, ensure_usable, make_source
from pillarbox.auth.throttle import MOST_WITH_ACCOUNT
from pillarbox.auth.web import ask
from pillarbox.config.logins import directory_problems, oauth_problems
from pillarbox.config.schema import DirectorySettings, Oauth
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import Credentials
from pillarbox.store.directory import Directory
from pillarbox.store.run import LoginFailures

PEER = Peer("192.0.2.1", "imap")


LogIn = Callable[[str, Peer], Awaitable[Login | Denied]]
"""A password and from where."""


def claimant(user: str, password: str) -> Claimant:
    return Claimant(user, Secret(password), "192.0.2.1", "imap")


NO_ADDRESSES = (
    "bob",
    "@example.test",
    "bob@",
    " bob@example.test",
    "bob@example.test\n",
    "bob@example.test\r\n",
    "bob@exa\nmple.test",
    "bo b@example.test",
    "bob@example.test\0",
    "\x1b[2J@example.test",
    "\ud800@example.test",
)
"""What services say, and none of which is an address."""


def answer(body: bytes) -> tuple[int, Any]:
    asked = json.loads(body)
    right = asked["user"] == "bob@example.test" and asked["password"] == "right"
    return 200, {"address": "bob@example.test" if right else None}


@pytest.fixture
def web() -> Iterator[WebService]:
    service = WebService(answer)
    yield service
    service.close()


# The web service


def test_a_web_service_is_asked_with_all_it_needs(web: WebService, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    source = HttpSource(DirectorySettings("http", url=web.url, token_file=str(token)))
    assert source.check(claimant("bob@example.test", "right")) == "bob@example.test"
    headers, body = web.requests[0]
    assert headers["Authorization"] == "Bearer t0ken"
    assert json.loads(body) == {
        "user": "bob@example.test",
        "password": "right",
        "client": "192.0.2.1",
        "protocol": "imap",
    }


def test_wrong_passwords_are_remembered_for_a_while(web: WebService) -> None:
    now = [0.0]
    source = HttpSource(DirectorySettings("http", url=web.url), lambda: now[0])
    for _ in range(5):
        assert source.check(claimant("bob@example.test", "wrong")) is None
    assert len(web.requests) == 1
    now[0] += http_module.REMEMBERED_S + 1
    assert source.check(claimant("bob@example.test", "wrong")) is None
    assert len(web.requests) == 2


def test_what_was_wrong_for_one_protocol_or_client_is_asked_for_another(web: WebService) -> None:
    def only_imap_at_home(body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)
        is_right = (asked["protocol"], asked["client"]) == ("imap", "192.0.2.1")
        return 200, {"address": asked["user"] if is_right else None}

    web.answer = only_imap_at_home
    source = HttpSource(DirectorySettings("http", url=web.url))
    bob, right = "bob@example.test", Secret("right")
    assert source.check(Claimant(bob, right, "192.0.2.1", "pop3")) is None
    assert source.check(Claimant(bob, right, "192.0.2.2", "imap")) is None
    assert source.check(Claimant(bob, right, "192.0.2.1", "imap")) == bob
    assert source.check(Claimant(bob, right, "192.0.2.1", "pop3")) is None
    assert len(web.requests) == 3, "the last one was known"


@pytest.mark.parametrize(
    ("status", "value"),
    [
        (500, {}),
        (302, {}),
        (400, {}),
        (401, {}),
        (401, {"address": None}),
        (403, {}),
        (404, {}),
        (429, {}),
        (200, b"no JSON"),
        (200, []),
        (200, b"[" * 100_000),
        (200, b" " * 300_000),
        *((200, {"address": each}) for each in NO_ADDRESSES),
        (200, {"address": ""}),
        (200, {"address": False}),
        (200, {"address": ["bob@example.test"]}),
        (200, {"error": "the database is down"}),
        (200, {}),
    ],
)
def test_odd_answers_let_nobody_in_and_count_as_no_wrong_password(
    web: WebService, status: int, value: Any
) -> None:
    web.answer = lambda _body: (status, value)
    source = HttpSource(DirectorySettings("http", url=web.url))
    with pytest.raises(Unavailable):
        source.check(claimant("bob@example.test", "right"))
    web.answer = answer
    assert source.check(claimant("bob@example.test", "right")) == "bob@example.test"


def test_there_is_one_word_for_a_wrong_password(web: WebService) -> None:
    web.answer = lambda _body: (200, {"address": None})
    assert HttpSource(DirectorySettings("http", url=web.url)).check(claimant("b", "x")) is None


@pytest.mark.parametrize(
    ("status", "value", "words"),
    [
        (500, {}, "answers with status 500"),
        (418, {}, "answers with status 418"),
        (401, {}, "answers with status 401: see directory.token_file"),
        (403, {}, "answers with status 403: see directory.token_file"),
        (404, {}, "answers with status 404: see directory.url"),
        (200, b"no JSON", "does not send JSON"),
        (200, [], "does not send a JSON object"),
        (200, b" " * 300_000, "sends more than 262144 octets"),
        (200, {"error": "down"}, "sends no address, and no null either"),
    ],
)
def test_the_cause_says_which_service_answers_what_and_no_secret(
    web: WebService, status: int, value: Any, words: str
) -> None:
    """The log has the cause."""
    web.answer = lambda _body: (status, value)
    with pytest.raises(Unavailable) as failure:
        HttpSource(DirectorySettings("http", url=f"{web.url}?token=secret")).check(
            claimant("bob", "right")
        )
    assert str(failure.value.__cause__) == f"{web.url} {words}"


def test_the_cause_does_not_tell_a_token_that_is_no_header_field(web: WebService) -> None:
    with pytest.raises(Unavailable) as failure:
        ask(web.url, b"{}", {"Authorization": "Bearer secret\nof two lines"}, 5)
    assert str(failure.value.__cause__) == f"{web.url}: ValueError"


@pytest.mark.parametrize("query", ["token=secret of words", "token=s\u00e9cret"])
def test_the_cause_does_not_tell_a_url_that_is_none(web: WebService, query: str) -> None:
    with pytest.raises(Unavailable) as failure:
        ask(f"{web.url}?{query}", b"{}", {}, 5)
    assert "cret" not in str(failure.value.__cause__)


def test_a_slow_service_is_given_up(web: WebService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "TIMEOUT_S", 0.2)

    def slow(_body: bytes) -> tuple[int, Any]:
        time.sleep(1)
        return 200, {}

    web.answer = slow
    with pytest.raises(Unavailable):
        HttpSource(DirectorySettings("http", url=web.url)).check(claimant("bob", "right"))


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_drips_is_given_up(beginning: bytes) -> None:
    """A second for all of it: each octet comes soon enough, the answer as a whole does not."""
    given_up = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(beginning)
            for octet in b"X" * 100 + b'\r\n\r\n{"address": "bob@example.test"}':
                connection.sendall(bytes([octet]))
                if given_up.wait(0.1):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(Unavailable) as failure:
                ask(f"http://127.0.0.1:{listener.getsockname()[1]}/", b"{}", {}, 1)
            assert "timed out" in str(failure.value.__cause__)
        finally:
            given_up.set()
            thread.join()


@pytest.mark.parametrize("version", [b"500 unknown command: ", b"XTTP ", b"HTTP/1.1 200 OK\r\n"])
def test_a_service_that_repeats_what_it_got_tells_the_log_no_secret(
    tmp_path: Path, version: bytes
) -> None:
    (tmp_path / "token").write_text("s3cret token\n")

    def echo() -> None:
        connection, _ = listener.accept()
        with connection:
            got = b""
            while not got.endswith(b"}"):
                got += connection.recv(65536)
            connection.sendall(version + got.replace(b"\r\n", b" ") + b"\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=echo)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        settings = DirectorySettings("http", url=url, token_file=str(tmp_path / "token"))
        with pytest.raises(Unavailable) as failure:
            HttpSource(settings).check(claimant("bob", "s3cret password"))
        thread.join()
    assert with_cause(failure.value).startswith("the login service does not answer")
    assert "s3cret" not in with_cause(failure.value)


class OfALibrary(OSError):
    """As those of some HTTP libraries, with what their peer said in it."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "[Errno -2] Name or service not known"),
        (OfALibrary("500 unknown command: s3cret"), "OfALibrary"),
        (BadStatusLine("500 unknown command: s3cret"), "BadStatusLine"),
        (KeyError("s3cret"), "KeyError"),
    ],
)
def test_only_words_that_no_peer_can_choose_are_told(error: Exception, words: str) -> None:
    assert words_of(error) == words


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "beginning",
    [
        CHUNKED + b"-1\r\n",
        CHUNKED + b"-100\r\n",
        CHUNKED + b"7fffffffffffffff\r\n",
        CHUNKED + b"0\r\n",  # lines behind it without end
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ],
)
@pytest.mark.parametrize(
    "rest", [b"x" * 65535, b"a: b\r\n" * 10_000, b"HTTP/1.1 100 Continue\r\n\r\n" * 2000]
)
def test_no_framing_leads_past_the_limit(beginning: bytes, rest: bytes) -> None:
    """Python's http.client reads a chunk of -1 octets to the end of the stream."""
    sent = 0

    def flood() -> None:
        nonlocal sent
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(beginning)
            while sent < 64 << 20:
                sent += connection.send(rest)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=flood)
        thread.start()
        with pytest.raises(Unavailable):
            ask(f"http://127.0.0.1:{listener.getsockname()[1]}/", b"{}", {}, 30)
        thread.join()
    assert sent < 32 << 20  # most of that is in buffers of the kernel, on both sides


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("http", "token_file"),
        ("ldap", "bind_password_file"),
        ("http", "ca_file"),
        ("ldap", "ca_file"),
    ],
)
def test_pipes_in_the_place_of_files_keep_no_thread(
    tmp_path: Path, kind: str, setting: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "https" if kind == "http" else "ldaps"
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        files = {setting: str(tmp_path / "pipe")}
        source = make_source(DirectorySettings(kind, url=url, base="dc=x", **files))
        assert source is not None
        with pytest.raises(Unavailable) as failure:
            source.check(claimant("bob@example.test", "right"))
    assert "it is no regular file, put one in its place" in with_cause(failure.value)


@pytest.mark.parametrize("content", ["", "no PEM", "ü\n"])
def test_a_file_of_cas_without_any_trusts_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(NoAnswer, match=r"ca\.pem: it is not PEM with a certificate"):
        trusting(str(tmp_path / "ca.pem"))


# In the authenticator


class Fixed:
    """A class of one's own."""

    def __init__(self, settings: DirectorySettings) -> None:
        self.password = settings.settings["password"]
        self.asked: list[str] = []

    def check(self, user: Claimant) -> str | None:
        self.asked.append(user.username)
        return user.username if user.password.reveal() == self.password else None


def fixed() -> Any:
    name = f"{Fixed.__module__}:Fixed"
    import sys

    sys.modules[Fixed.__module__] = sys.modules.get(Fixed.__module__) or sys.modules[__name__]
    settings = DirectorySettings("python", python_class=name, settings={"password": "right"})
    return make_source(settings)


def logins(tmp_path: Path, attempts: list[tuple[str, str]], **doors: Any) -> list[Login | Denied]:
    async def run() -> list[Login | Denied]:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        if not directory.domains():
            directory.add_domain("example.test")
            bob = directory.add_account("bob@example.test", "", "")
            scram = make_verifier(Secret("for the phone"))
            directory.credentials.add_app_password(bob.id, "phone", scram, PROTOCOLS, None)
        failures = LoginFailures(tmp_path / "run.db", clock=time.time)
        authenticator = Authenticator(directory, failures, doors=Doors(**doors), failure_delay_s=0)
        assert not any("SCRAM" in name for name in authenticator.mechanisms(PEER))
        found = [
            await authenticator.login(Credentials("", user, Secret(password)), PEER)
            for user, password in attempts
        ]
        authenticator.close()
        return found

    return asyncio.run(run())


def test_one_class_is_enough_to_verify_passwords(tmp_path: Path) -> None:
    source = fixed()
    right, again, wrong, app, empty, stranger = logins(
        tmp_path,
        [
            ("bob@example.test", "right"),
            ("bob@example.test", "right"),
            ("bob@example.test", "wrong"),
            ("bob@example.test", "for the phone"),
            ("bob@example.test", ""),
            ("carol@example.test", "right"),
        ],
        source=source,
    )
    assert isinstance(right, Login)
    assert isinstance(again, Login)
    assert isinstance(app, Login)
    for each in (wrong, empty, stranger):
        assert isinstance(each, Denied)
    assert source.asked == ["bob@example.test", "bob@example.test", "carol@example.test"]


class AtHome(Fixed):
    """Decides by the protocol and the client as well."""

    def check(self, user: Claimant) -> str | None:
        is_right = (user.protocol, user.client) == ("imap", "192.0.2.1")
        return super().check(user) if is_right else None


def test_what_was_right_for_one_protocol_and_client_is_right_for_no_other(tmp_path: Path) -> None:
    bob = Credentials("", "bob@example.test", Secret("right"))
    elsewhere = (Peer("192.0.2.1", "smtp"), Peer("192.0.2.2", "imap"))

    async def run() -> None:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        directory.add_domain("example.test")
        directory.add_account("bob@example.test", "", "")
        failures = LoginFailures(tmp_path / "run.db", clock=time.time)
        source = AtHome(DirectorySettings("python", settings={"password": "right"}))
        authenticator = Authenticator(
            directory, failures, doors=Doors(source=source), failure_delay_s=0
        )
        for peer in (PEER, *elsewhere, PEER):
            found = await authenticator.login(bob, peer)
            assert isinstance(found, Login if peer is PEER else Denied), peer
        assert len(source.asked) == 1, "the second time, it was known"
        authenticator.close()
        directory.close()
        failures.close()

    asyncio.run(run())


def test_nobody_is_asked_about_a_password_that_is_too_long(tmp_path: Path) -> None:
    """It is as wrong as any other, and counts."""
    source = fixed()
    longest, too_long = ("p" * length for length in (LONGEST_PASSWORD, LONGEST_PASSWORD + 1))
    tried = [longest, too_long, *(f"{each}{too_long}" for each in range(MOST_WITH_ACCOUNT))]
    found = logins(tmp_path, [("bob@example.test", each) for each in tried], source=source)
    assert source.asked == ["bob@example.test"]
    count = MOST_WITH_ACCOUNT
    assert found == [Denied(WRONG)] * count + [Denied(TOO_MANY)] * (len(tried) - count)


def test_a_turn_needs_no_task_until_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step of a session's handler runs in none, or in one that is about to end (`net.connection`)."""
    monkeypatch.setattr(outside, "ASKED_AT_ONCE", 1)
    monkeypatch.setattr(outside, "WAIT_S", 0.1)

    steps: list[Any] = []

    def step(turn: AbstractAsyncContextManager[float]) -> None:
        assert asyncio.current_task() is None
        try:
            steps.append(turn.__aenter__().__await__().send(None))
        except StopIteration:
            steps.append("has it")

    async def run() -> None:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        others = Outside(Doors(source=fixed()), directory, time.time)
        turns = [others.turn(PEER) for _ in range(2)]
        for turn in turns:
            asyncio.get_running_loop().call_soon(step, turn)
        await asyncio.sleep(0.01)
        assert steps == ["has it", None], "the second one would go on in a task"
        with pytest.raises(Unavailable):
            async with others.turn(PEER):
                pass
        await turns[0].__aexit__(None, None, None)
        others.close()
        directory.close()

    asyncio.run(run())


def test_who_waits_for_others_keeps_no_app_password_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connections try passwords, or tokens, while those who verify them are silent."""
    monkeypatch.setattr(outside, "WAIT_S", 60)
    monkeypatch.setattr(lines, "MOST_WAITING", 20)
    monkeypatch.setattr(lines, "MOST_IN_LINE", 10)
    gate = threading.Event()

    class Silent:
        def check(self, user: Claimant) -> str | None:
            assert gate.wait(60)
            return None

    class Mute:
        def known(self, _token: Secret) -> None:
            return None

        def ask(self, _token: Secret, _timeout_s: float) -> BadToken:
            assert gate.wait(60)
            return BadToken("bad token")

    async def run() -> None:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        directory.add_domain("example.test")
        bob = directory.add_account("bob@example.test", "", "")
        scram = make_verifier(Secret("for the phone"))
        directory.credentials.add_app_password(bob.id, "phone", scram, PROTOCOLS, None)
        failures = LoginFailures(tmp_path / "run.db", clock=time.time)
        doors = Doors(source=Silent(), tokens=Mute())
        authenticator = Authenticator(directory, failures, doors=doors, failure_delay_s=0)

        async def login(password: str, address: str) -> Login | Denied:
            credentials = Credentials("", "bob@example.test", Secret(password))
            return await authenticator.login(credentials, Peer(address, "imap"))

        flood = [
            asyncio.create_task(login(f"wrong {number}", f"198.51.100.{number % 4}"))
            for number in range(80)
        ]
        finished = asyncio.as_completed(flood)
        for _ in range(70):
            with pytest.raises(Unavailable):
                await next(finished)
        for address in ("192.0.2.1", "192.0.2.2", "198.51.100.1"):
            assert isinstance(await login("for the phone", address), Login)
        with pytest.raises(Unavailable):
            await login("right", "192.0.2.1")
        with pytest.raises(Unavailable):
            await authenticator.user_of_token(Secret("token"), "", PEER)
        gate.set()
        outcomes = await asyncio.gather(*flood, return_exceptions=True)
        assert sum(isinstance(each, Unavailable) for each in outcomes) == 70
        authenticator.close()
        directory.close()
        failures.close()

    asyncio.run(run())


class Gate:
    """Says yes when it may."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked = threading.Semaphore(0)

    async def wait_for(self, questions: int) -> None:
        for _ in range(questions):
            assert await asyncio.to_thread(self.asked.acquire, timeout=30)

    def is_asked_more(self) -> bool:
        return self.asked.acquire(blocking=False)

    def check(self, user: Claimant) -> str | None:
        self.asked.release()
        assert self.open.wait(60)
        return user.username


def gated(tmp_path: Path, gate: Gate, try_it: Callable[[LogIn], Awaitable[None]]) -> None:
    """Runs a test with a way to log in."""

    async def run() -> None:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        directory.add_domain("example.test")
        directory.add_account("bob@example.test", "", "")
        failures = LoginFailures(tmp_path / "run.db", clock=time.time)
        authenticator = Authenticator(
            directory, failures, doors=Doors(source=gate), failure_delay_s=0
        )

        async def login(password: str, peer: Peer) -> Login | Denied:
            credentials = Credentials("", "bob@example.test", Secret(password))
            return await authenticator.login(credentials, peer)

        try:
            await try_it(login)
        finally:
            gate.open.set()
            authenticator.close()
            directory.close()
            failures.close()

    asyncio.run(run())


def test_the_time_in_line_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether others of the network are before one, or those of others are in all threads."""
    monkeypatch.setattr(outside, "WAIT_S", 0.2)
    gate = Gate()

    async def try_it(login: LogIn) -> None:
        networks = [f"198.51.100.{each}" for each in range(3)]
        waiting = [
            asyncio.create_task(login(f"{network} {each}", Peer(network, "imap")))
            for network in networks
            for each in range(5)
        ]
        finished = asyncio.as_completed(waiting)
        for _ in range(len(waiting) - outside.ASKING_THREADS):
            with pytest.raises(Unavailable, match="too many logins"):
                await next(finished)
        await gate.wait_for(outside.ASKING_THREADS)
        gate.open.set()
        for _ in range(outside.ASKING_THREADS):
            assert isinstance(await next(finished), Login)
        assert not gate.is_asked_more(), "nobody is asked for those who gave up"

    gated(tmp_path, gate, try_it)


def test_nobody_is_asked_for_who_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "WAIT_S", 60)
    gate, left = Gate(), False

    async def try_it(login: LogIn) -> None:
        nonlocal left
        peer = Peer("192.0.2.1", "imap", has_left=lambda: left)
        first = [asyncio.create_task(login(f"first {each}", peer)) for each in range(4)]
        await gate.wait_for(4)
        waiting = asyncio.create_task(login("later", peer))
        await asyncio.sleep(0)
        left = True
        gate.open.set()
        assert all(isinstance(each, Login) for each in await asyncio.gather(*first))
        with pytest.raises(ConnectionError):
            await waiting
        assert not gate.is_asked_more()

    gated(tmp_path, gate, try_it)


def test_time_that_a_login_waited_counts(web: WebService) -> None:
    late = Claimant("bob", Secret("right"), "192.0.2.1", "imap", time.monotonic() - 3600)
    with pytest.raises(Unavailable) as failure:
        HttpSource(DirectorySettings("http", url=web.url)).check(late)
    assert with_cause(failure.value).endswith("timed out)")
    assert not web.requests


class Says:
    def __init__(self, address: Any) -> None:
        self.address = address

    def check(self, _user: Claimant) -> Any:
        return self.address


@pytest.mark.parametrize("said", [*NO_ADDRESSES, "", 5, True])
def test_what_is_no_address_counts_as_no_wrong_password(tmp_path: Path, said: Any) -> None:
    """Whoever says so: a class of one's own, too."""
    with pytest.raises(Unavailable):
        logins(tmp_path, [("bob@example.test", "right")], source=Says(said))


@pytest.mark.parametrize("said", ["carol@example.test", "s3cret@elsewhere.test"])
def test_an_account_that_is_not_there_counts_as_no_wrong_password(
    tmp_path: Path, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of somebody who has one here. Others do not hear that their password would be right elsewhere."""
    with caplog.at_level("INFO", "pillarbox.auth"):
        with pytest.raises(Unavailable):
            logins(tmp_path, [("bob@example.test", "right")], source=Says(said))
        (stranger,) = logins(tmp_path, [("dora@example.test", "right")], source=Says(said))
    assert isinstance(stranger, Denied)
    assert ("there is no account carol@example.test" in caplog.text) == said.startswith("carol")
    assert "s3cret" not in caplog.text


def test_a_name_cannot_forge_fields_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever bans by lines of the log would ban a victim."""
    name = "x client=8.8.8.8 protocol=imap reason=wrong password"
    with caplog.at_level("INFO", "pillarbox.auth"):
        logins(tmp_path, [(name, "wrong"), (f'"{name}"@example.test', "wrong")], source=fixed())
    lines = [each.getMessage() for each in caplog.records]
    assert len(lines) == 2
    for line in lines:
        assert re.findall(r"\b(\w+)=", line) == ["user", "client", "protocol", "reason"]
        assert " client=192.0.2.1 protocol=imap reason=" in line


def test_accounts_are_made_only_where_that_is_wanted_and_the_domain_is_ours(tmp_path: Path) -> None:
    carol, dora = logins(
        tmp_path,
        [("carol@example.test", "right"), ("dora@elsewhere.test", "right")],
        source=fixed(),
        creates_accounts=True,
    )
    assert isinstance(carol, Login)
    assert carol.account.address == "carol@example.test"
    assert isinstance(dora, Denied)


ALICE, BOB, CAROL = (f"{name}@example.test" for name in ("alice", "bob", "carol"))


@pytest.mark.parametrize(
    ("users", "authzid", "who", "made"),
    [
        ([CAROL], "", CAROL, [CAROL]),
        (["Carol@Example.test", CAROL], "", CAROL, [CAROL]),
        ([ALICE, CAROL], "", None, []),  # who of them?
        ([ALICE, CAROL], CAROL, CAROL, [CAROL]),
        ([ALICE, CAROL], BOB, None, []),
        ([ALICE, BOB, CAROL], "", BOB, []),
        ([ALICE, BOB, CAROL], "bob", BOB, []),
        ([ALICE, BOB, CAROL], "Carol@example.test", CAROL, [CAROL]),
        (["carol@elsewhere.test"], "", None, []),
        ([], "", None, []),
    ],
)
def test_who_vouches_for_several_makes_no_account_but_of_the_one_who_is_meant(
    tmp_path: Path, users: list[str], authzid: str, who: str | None, made: list[str]
) -> None:
    """A client certificate with several addresses."""

    async def run() -> None:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        directory.add_domain("example.test")
        directory.add_account(BOB, "", "")
        failures = LoginFailures(tmp_path / "run.db", clock=time.time)
        doors = Doors(source=fixed(), creates_accounts=True)
        authenticator = Authenticator(directory, failures, doors=doors, failure_delay_s=0)
        found = await authenticator.vouched(users, authzid, PEER, "EXTERNAL")
        assert (found.account.address if isinstance(found, Login) else None) == who
        assert [each for each in (ALICE, CAROL) if directory.account(each)] == made
        authenticator.close()
        directory.close()
        failures.close()

    asyncio.run(run())


MODULE = """
class Office:
    def __init__(self, settings):
        raise AssertionError("a check makes none")
    def check(self, user):
        return None
class Empty:
    pass
class Bare:
    def __init__(self):
        pass
    def check(self, user):
        return None
def open_office(settings):
    return None
def closed_office(settings):
    from pillarbox.core.errors import Refused
    raise Refused("closed today")
def leave(settings):
    raise SystemExit("hunter2")
"""


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("no_such_office:Office", "there is no module no_such_office; install it for "),
        ("office_of_tests:Nobody", "office_of_tests has no class Nobody with a method check(user)"),
        ("office_of_tests:Empty", "office_of_tests has no class Empty with a method check(user)"),
        ("office_of_tests:", "office_of_tests has no class (without a name)"),
        ("broken_office:Office", "cannot be imported, mend its module: SyntaxError: "),
        ("failing_office:Office", "mend its module: ZeroDivisionError: division by zero"),
        ("lonely_office:Office", "there is no module no_such_library; install it for "),
        ("leaving_office:Office", "mend its module: SystemExit: 3"),
        (":Office", "mend its module: ValueError: "),
        ("office_of_tests:Bare", "it must take one argument, the settings of [directory]"),
        ("os:getcwd", "it must take one argument, the settings of [directory]"),
    ],
)
def test_a_class_that_cannot_be_used_is_told_at_the_start_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, said: str
) -> None:
    (tmp_path / "office_of_tests.py").write_text(MODULE)
    (tmp_path / "broken_office.py").write_text("class Office(:\n")
    (tmp_path / "failing_office.py").write_text("1 / 0\n")
    (tmp_path / "lonely_office.py").write_text("import no_such_library\n")
    (tmp_path / "leaving_office.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = DirectorySettings("python", python_class=named)
    for usable in (ensure_usable, make_source):
        with pytest.raises(Refused) as refused:
            usable(settings)
        assert refused.value.text.startswith(f'directory.class: "{named}"')
        assert said in refused.value.text
        assert "\n" not in refused.value.text
    ensure_usable(DirectorySettings("python", python_class="office_of_tests:Office"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "Office",
            'office_of_tests:Office" cannot be made, mend it or the settings of [directory]: ',
        ),
        ("Office", "AssertionError in /"),
        ("leave", "SystemExit in /"),
        ("open_office", "it gives a NoneType without a method check(user)"),
        ("closed_office", "closed today"),
    ],
)
def test_a_class_that_cannot_be_made_is_told_at_the_start_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    (tmp_path / "office_of_tests.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Refused) as refused:
        make_source(DirectorySettings("python", python_class=f"office_of_tests:{name}"))
    assert said in refused.value.text
    assert "\n" not in refused.value.text
    assert "hunter2" not in refused.value.text, "it may be what somebody said whom it asked"


# LDAP

LDIF = """\
dn: dc=example,dc=test
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: cn=bob,dc=example,dc=test
objectClass: inetOrgPerson
cn: bob
sn: Builder
uid: bob
mail: bob@example.test
userPassword: right (pass)*

dn: cn=carol,dc=example,dc=test
objectClass: inetOrgPerson
cn: carol
sn: Carol
uid: carol
mail: carol@example.test
userPassword: of carol
"""


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an OpenLDAP server with two people."""
    if shutil.which("slapd") is None:
        pytest.skip("slapd is not installed")
    folder = tmp_path_factory.mktemp("slapd")
    (folder / "db").mkdir()
    config = folder / "slapd.conf"
    config.write_text(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n"
        "include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\n"
        f"moduleload back_mdb\npidfile {folder}/pid\ndatabase mdb\nsuffix dc=example,dc=test\n"
        f"rootdn cn=admin,dc=example,dc=test\nrootpw admin\ndirectory {folder}/db\n"
        "access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n"
    )
    (folder / "people.ldif").write_text(LDIF)
    subprocess.run(
        ["slapadd", "-f", config, "-l", folder / "people.ldif"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    url = f"ldap://127.0.0.1:{port}"
    server = subprocess.Popen(
        ["slapd", "-f", config, "-h", url, "-d", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def ldap(url: str, **changes: Any) -> LdapSource:
    settings = {"url": url, "base": "dc=example,dc=test", "filter": "(|(mail={user})(uid={user}))"}
    return LdapSource(DirectorySettings("ldap", **{**settings, **changes}))


@pytest.mark.parametrize(
    "text",
    [
        "mail={user}",
        "(mail={user}",
        "((mail={user}))",
        "(a={user})(b=c)",
        "({user})",
        "(&)(a={user}",
    ],
)
def test_what_is_no_ldap_filter_is_told_at_the_start(text: str) -> None:
    with pytest.raises(Refused, match=r"^directory\.filter: .* is no LDAP filter"):
        ldap("ldap://127.0.0.1:1", filter=text)
    ensure_usable(DirectorySettings("http", url="http://localhost:1/"))
    for good in (
        "(mail={user})",
        "(&(objectClass=x)(|(mail={user})(!(uid={user}))))",
        "(a={user}*)",
    ):
        ldap("ldap://127.0.0.1:1", filter=good)


def test_ldap_finds_the_entry_and_binds(slapd: str, tmp_path: Path) -> None:
    source = ldap(slapd)
    for user in ("bob@example.test", "bob"):
        assert source.check(claimant(user, "right (pass)*")) == "bob@example.test"
        assert source.check(claimant(user, "wrong")) is None
        assert source.check(claimant(user, "of carol")) is None
    assert source.check(claimant("nobody", "right (pass)*")) is None
    (tmp_path / "password").write_text("admin\n")
    named = {
        "bind_dn": "cn=admin,dc=example,dc=test",
        "bind_password_file": str(tmp_path / "password"),
    }
    assert ldap(slapd, **named).check(claimant("carol", "of carol")) == "carol@example.test"
    (tmp_path / "password").write_text("wrong\n")
    with pytest.raises(Unavailable) as failure:
        ldap(slapd, **named).check(claimant("carol", "of carol"))
    assert str(failure.value.__cause__) == "cn=admin,dc=example,dc=test: invalidCredentials"


def test_a_base_that_is_not_there_is_nobodys_wrong_password(slapd: str) -> None:
    with pytest.raises(Unavailable) as failure:
        ldap(slapd, base="dc=exmaple,dc=test").check(claimant("bob", "right (pass)*"))
    assert str(failure.value.__cause__) == "dc=exmaple,dc=test: noSuchObject"


@pytest.mark.parametrize(
    "user",
    [
        "*",
        "bo*",
        "b?b",
        "bob)(uid=*",
        "*)(uid=*))(|(uid=*",
        "bob\\2a",
        "bob\0",
        "(",
        "x)(|(objectClass=*)",
        "bob@example.test)(cn=*",
        "ü" * 100,
    ],
)
def test_nothing_can_be_injected_into_the_filter(slapd: str, user: str) -> None:
    for password in ("right (pass)*", "of carol"):
        assert ldap(slapd).check(claimant(user, password)) is None


def test_more_than_one_entry_is_none(slapd: str) -> None:
    source = ldap(slapd, filter="(|(uid={user})(objectClass=inetOrgPerson))")
    assert source.check(claimant("bob", "right (pass)*")) is None


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        ldap("ldap://127.0.0.1:1").check(claimant("bob", "right"))


def test_a_server_without_tls_gets_no_password_where_tls_is_wanted(slapd: str) -> None:
    with pytest.raises(Unavailable):
        ldap(slapd, start_tls=True).check(claimant("bob", "right (pass)*"))


# The configuration


def test_what_is_not_filled_in_is_told() -> None:
    """Else it is searched for as it stands, and finds nobody."""
    wrong = DirectorySettings(
        "ldap",
        url="ldaps://ldap.example.org",
        base="dc=x",
        filter="(|(mail={user})(uid={usr})(cn={usr}))",
    )
    (problem,) = directory_problems(wrong)
    assert problem.startswith("directory.filter: {usr} is not filled in, only {user}")
    assert not list(directory_problems(msgspec.structs.replace(wrong, filter="(mail={user}{})")))


@pytest.mark.parametrize(
    "settings",
    [
        DirectorySettings("http", url="http://login.example.org/"),
        DirectorySettings("python", python_class="module"),
        DirectorySettings("ldap", url="ldap://ldap.example.org", base="dc=example"),
        DirectorySettings("ldap", url="ldaps://ldap.example.org", base="dc=x", filter="(mail=bob)"),
        DirectorySettings("ldap", url="ldaps://ldap.example.org"),
        DirectorySettings("ldap", url="http://ldap.example.org", base="dc=x"),
    ],
)
def test_unsafe_directories_are_refused(settings: DirectorySettings) -> None:
    assert list(directory_problems(settings))


@pytest.mark.parametrize(
    "settings",
    [
        Oauth(jwks="https://login.example.org/keys"),
        Oauth("i", "a", jwks="http://login.example.org/keys"),
        Oauth("i", "a", jwks="https://x/", introspection_url="https://x/"),
        Oauth(introspection_url="http://login.example.org/"),
        Oauth("i", "a", "https://x/", clock_skew="2h"),
        Oauth("i", "a", "https://x/", user_claim=""),
        Oauth("i", "a", "https://x/", client_id="x"),
    ],
)
def test_unsafe_issuers_are_refused(settings: Oauth) -> None:
    assert list(oauth_problems(settings))


BAD_URLS = [
    ("//x:99999/", "must have a port from 1 to 65535, or none"),
    ("//x:abc/", "must have a port from 1 to 65535, or none"),
    ("//x:0", "must have a port from 1 to 65535, or none"),
    ("//x y/", "must have no spaces or control characters"),
    ("//x/\n", "must have no spaces or control characters"),
    ("//a..b/", 'must have a host name, and "a..b" is none'),
    (f"//{'a' * 64}/", "must have a host name"),
    ("//[::1/", "must have an IPv6 address whole in brackets"),
    ("//x/ü", "must be ASCII behind its host: write other characters as %XX"),
]


@pytest.mark.parametrize(("rest", "words"), BAD_URLS)
def test_a_url_that_nobody_could_ask_is_told(rest: str, words: str) -> None:
    web, ldaps = f"https:{rest}", f"ldaps:{rest}"
    for found, setting in (
        (oauth_problems(Oauth("i", "a", web)), "oauth.jwks"),
        (oauth_problems(Oauth(introspection_url=web)), "oauth.introspection_url"),
        (directory_problems(DirectorySettings("http", url=web)), "directory.url"),
        (directory_problems(DirectorySettings("ldap", url=ldaps, base="dc=x")), "directory.url"),
    ):
        (problem,) = found
        assert problem.startswith(f"{setting}: {words}")


@pytest.mark.parametrize(
    "host", ["x", "x:636", "[::1]:636", "ü.example", "ldap_1.example.", "x/dc=x"]
)
def test_a_url_that_can_be_asked_makes_a_source(host: str) -> None:
    for kind, scheme in (("ldap", "ldaps"), ("http", "https")):
        settings = DirectorySettings(kind, url=f"{scheme}://{host}", base="dc=x")
        assert not list(directory_problems(settings))
        assert make_source(settings) is not None
        assert make_source(msgspec.structs.replace(settings, url=f"{settings.url}/")) is not None


def test_safe_settings_have_no_problems() -> None:
    assert not list(oauth_problems(Oauth("i", "a", "https://login.example.org/keys")))
    ldaps = DirectorySettings("ldap", url="ldaps://ldap.example.org", base="dc=example")
    assert not list(directory_problems(ldaps))


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (OSError("two\nlines"), "two\\nlines"),
        (ValueError("Invalid header value b'Bearer s3cret'"), "ValueError"),
    ],
)
def test_the_log_says_once_in_a_minute_why_nobody_can_log_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, failure: Exception, words: str
) -> None:
    class Silent:
        def check(self, user: Claimant) -> str | None:
            if user.password.reveal() == "works":
                return None
            raise Unavailable("the directory of users does not answer") from failure

    class Mute:
        def known(self, _token: Secret) -> None:
            return None

        def ask(self, _token: Secret, _timeout_s: float) -> str:
            raise Unavailable("the issuer of tokens does not let us ask") from failure

    async def run() -> None:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        directory.add_domain("example.test")
        failures = LoginFailures(tmp_path / "run.db", clock=time.time)
        doors = Doors(source=Silent(), tokens=Mute())
        authenticator = Authenticator(directory, failures, doors=doors, failure_delay_s=0)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await authenticator.login(Credentials("", "bob", Secret("right")), PEER)
            works = Credentials("", "bob", Secret("works"))  # now and then: that changes nothing
            assert isinstance(await authenticator.login(works, PEER), Denied)
            with pytest.raises(Unavailable):
                await authenticator.user_of_token(Secret("token"), "?", PEER)
        authenticator.close()
        directory.close()
        failures.close()

    asyncio.run(run())
    lines = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert lines == [
        f"no password can be verified: the directory of users does not answer ({words})",
        f"no token can be verified: the issuer of tokens does not let us ask ({words})",
    ]
