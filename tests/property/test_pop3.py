"""POP3 over any input: cutting changes nothing, nothing raises, nothing grows."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.pop3.events import Auth, AuthResponse, Event, List, Login, Retrieve, Top, Uidl
from pillarbox.pop3.multiline import Stuffer, stuff, with_crlf
from pillarbox.pop3.options import Limits, ServerOptions
from pillarbox.pop3.server import Pop3Server

OPTIONS = ServerOptions(
    cleartext_login=True, limits=Limits(command_line=32, auth_line=40, errors=9)
)
PIECES = [
    b"USER u\r\n",
    b"PASS p\n",
    b"USER u\r\nPASS p\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH PLAIN AGEAYg==\r\n",
    b"AGEAYg==\r\n",
    b"*\r\n",
    b"CAPA\r\n",
    b"NOOP\r\n",
    b"STAT\r\n",
    b"LIST\r\n",
    b"UIDL 1\r\n",
    b"RETR 1\r\n",
    b"TOP 1 1\r\n",
    b"DELE 1\r\n",
    b"QUIT\r\n",
    b"x" * 40,
    b"\r",
    b"\n",
    b"\0",
]
dialogues = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=30).map(b"".join)
near_lines = st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n."]), max_size=30)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


def answer(engine: Pop3Server, event: Event) -> None:
    match event:
        case Login(username="u") | AuthResponse():
            engine.send_ok("Logged in.")
        case Auth(initial=None):
            engine.send_challenge(b"")
        case Login() | Auth():
            engine.send_err("No", "AUTH")
        case Retrieve() | Top():
            engine.send_message(b".a\n.")
        case List(number=None) | Uidl(number=None):
            engine.send_lines("", [b"1 1\r\n"])
        case _:
            engine.send_ok("1 1")


def run(pieces: list[bytes]) -> tuple[list[str], bytes, bool]:
    engine = Pop3Server(OPTIONS)
    engine.send_ok("ready")
    events = []
    for piece in pieces:
        engine.receive(piece)
        while not isinstance(event := engine.next_event(), Wait):
            events.append(repr(event))  # secrets have no equality
            answer(engine, event)
        assert event is (PAUSED if engine.closing else NEED_DATA)
        assert len(engine._lines) <= 40
    return events, b"".join(engine.data_to_send()), engine.closing


@given(dialogues, st.lists(st.integers(1, 9), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_cutting_gives_the_same_conversation(data: bytes, sizes: list[int]) -> None:
    whole = run([data] if data else [])
    assert run(cut(data, sizes)) == whole
    assert run([bytes([octet]) for octet in data]) == whole


@given(st.lists(st.binary(max_size=100), max_size=20))
@settings(max_examples=100, deadline=None)
def test_random_octets_get_one_err_each(lines: list[bytes]) -> None:
    _, output, _ = run([line.replace(b"\n", b"") + b"\r\n" for line in lines])
    first, *answers = output.splitlines(keepends=True)
    assert first == b"+OK ready\r\n"
    assert len(answers) == min(len(lines), 10)
    assert all(re.fullmatch(rb"-ERR [ -~]+\r\n", line) for line in answers)


@given(near_lines.map(b"".join), st.lists(st.integers(1, 5), max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_message_comes_back(message: bytes, sizes: list[int]) -> None:
    sent = stuff(with_crlf(message))
    lines = sent.split(b"\r\n")
    assert lines[-1] == b""
    assert b"." not in lines
    assert b"\r\n".join(line.removeprefix(b".") for line in lines) == with_crlf(message)
    stuffer = Stuffer()
    pieces = [stuffer.feed(piece) for piece in cut(message, sizes)]
    assert b"".join(pieces) + stuffer.finish() == sent
