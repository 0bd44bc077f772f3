"""SMTP over any input: cutting changes nothing, nothing raises, nothing grows."""

import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.mime.lines import has_bare_cr_or_lf
from pillarbox.smtp import reply as replies
from pillarbox.smtp.data import DataDecoder, LineEndNormalizer
from pillarbox.smtp.events import (
    Auth,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    DataStart,
    Delay,
    Event,
    Hello,
    Mail,
    Rcpt,
    Reset,
    Xclient,
)
from pillarbox.smtp.options import Limits, ServerOptions
from pillarbox.smtp.server import SmtpServer

OPTIONS = ServerOptions(
    "host.example",
    200,
    mechanisms=("PLAIN", "LOGIN"),
    cleartext_auth=True,
    limits=Limits(command_line=64, auth_line=80, recipients=3, errors=9, commands=40),
)

LMTP = replace(OPTIONS, lmtp=True, limits=replace(OPTIONS.limits, error_delay_s=1.0))

PIECES = [
    b"EHLO x\r\n",
    b"HELO x\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"MAIL FROM:<> SIZE=300\r\n",
    b"RCPT TO:<a@b>\r\n",
    b"RCPT TO:<a@b> NOTIFY=DELAY ORCPT=rfc822;+2B\r\n",
    b"RCPT TO:<postmaster>\r\n",
    b"DATA\r\n",
    "MAIL FROM:<jö@ü.example> SMTPUTF8\r\n".encode(),
    "RCPT TO:<jö@b> ORCPT=utf-8;ö\r\n".encode(),
    b"RCPT TO:<\xff@b>\r\n",
    b"MAIL FROM:<a@b> BODY=BINARYMIME\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 7\r\n",
    b"BDAT 12 LAST\r\n",
    b"BDAT 300\r\n",
    b"BDAT x\r\n",
    b".\r\n",
    b"\r\n.\r\n",
    b"..\r\n",
    b"text\r\n",
    b"x" * 70,
    b"\r",
    b"\n",
    b".",
    b"\0",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"XCLIENT ADDR=192.0.2.1\r\n",
    b"LHLO x\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH LOGIN dGlt\r\n",
    b"AGEAYg==\r\n",
    b"*\r\n",
    b"bad\r\n",
    b"QUIT\r\n",
]
dialogues = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=40).map(b"".join)
near_data = st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n."]), max_size=30)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


def answer(engine: SmtpServer, event: Event) -> None:
    match event:
        case Hello():
            engine.send(engine.hello_reply())
        case Mail():
            engine.send(replies.SENDER_OK)
        case Rcpt():
            engine.send(replies.RECIPIENT_OK)
        case DataStart():
            engine.send(replies.START_MAIL_INPUT)
        case BodyEnd():
            engine.send(replies.TOO_BIG if event.too_big else replies.queued("X"))
        case Xclient():
            engine.send(replies.greeting("host.example"))
        case Delay():
            engine.end_delay()
        case Auth(initial=None):
            engine.send_challenge(b"go on")
        case Auth() | AuthResponse():
            engine.send(replies.AUTHENTICATION_FAILED)


def run(pieces: list[bytes], options: ServerOptions = OPTIONS) -> tuple[list[Event], bytes, bool]:
    engine = SmtpServer(options, xclient=True)
    engine.send(replies.greeting("host.example"))
    events: list[Event] = []
    body = b""
    for piece in pieces:
        engine.receive(piece)
        while not isinstance(event := engine.next_event(), Wait):
            if isinstance(event, BodyChunk):
                assert event.data
                body += event.data
                continue
            if isinstance(event, BodyEnd):
                # What came of a message that is too big, and of one whose chunks stop, depends on the cuts.
                events.append(BodyChunk(b"" if event.too_big else body))
                body = b""
            elif isinstance(event, Reset | Hello):
                body = b""
            events.append(event)
            answer(engine, event)
        assert event is (PAUSED if engine.closing else NEED_DATA)
        assert len(engine._lines) <= OPTIONS.limits.auth_line
    return events, b"".join(engine.data_to_send()), engine.closing


@given(dialogues, st.lists(st.integers(1, 9), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_cutting_gives_the_same_conversation(data: bytes, sizes: list[int]) -> None:
    for options in (OPTIONS, LMTP):
        whole = run([data] if data else [], options)
        assert run(cut(data, sizes), options) == whole
        assert run([bytes([octet]) for octet in data], options) == whole


REPLY = re.compile(rb"(?:(\d{3})-[\t -~]*\r\n)*\d{3} [\t -~]*\r\n")


@given(st.lists(st.binary(max_size=200), max_size=20))
@settings(max_examples=100, deadline=None)
def test_random_octets_get_well_formed_replies(pieces: list[bytes]) -> None:
    _, output, _ = run([b"EHLO x\r\n", *[piece + b"\r\n" for piece in pieces]])
    assert re.fullmatch(rb"(?:%b)+" % REPLY.pattern, output)
    assert all(len(line) <= 512 for line in output.splitlines(keepends=True))


def stuff(message: bytes) -> bytes:
    """RFC 5321 §4.5.2, line by line."""
    lines = message.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)


@given(near_data.map(b"".join), st.lists(st.integers(1, 5), max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_stuffed_message_comes_back(text: bytes, sizes: list[int]) -> None:
    message = text + b"\r\n"
    decoder = DataDecoder()
    received = b""
    for piece in cut(stuff(message) + b".\r\nNEXT", sizes):
        received += decoder.feed(piece) if decoder.rest is None else b""
    assert received == message
    assert decoder.size == len(message)
    assert decoder.bare_cr_or_lf == has_bare_cr_or_lf(message)


@given(near_data.map(b"".join), st.lists(st.integers(1, 5), max_size=60))
@settings(max_examples=200, deadline=None)
def test_normalized_line_ends_equal_the_naive_way(data: bytes, sizes: list[int]) -> None:
    normalizer = LineEndNormalizer()
    result = b"".join([normalizer.feed(piece) for piece in cut(data, sizes)])
    result += normalizer.finish()
    assert result == re.sub(rb"\r\n|\r|\n", b"\r\n", data)
    assert not has_bare_cr_or_lf(result)
