"""Replies as a client reads them (RFC 5321 §4.2), mail data on its way out (§4.5.2), and addresses in its commands."""

import pytest

from pillarbox.core.address import Address
from pillarbox.smtp.client_commands import mail_command, rcpt_command
from pillarbox.smtp.client_data import DataEncoder
from pillarbox.smtp.client_events import Envelope, Recipient
from pillarbox.smtp.client_reply import (
    GARBAGE,
    MAX_LINES,
    BadReply,
    Peer,
    ReplyReader,
    parse_hello_reply,
)
from pillarbox.smtp.reply import Reply


def read(data: bytes) -> Reply | BadReply | None:
    reader = ReplyReader()
    reader.feed(data)
    return reader.next_reply()


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"250 2.1.0 Ok\r\n", Reply(250, "2.1.0", "Ok")),
        (b"250\r\n", Reply(250, "", "")),
        (b"250 \r\n", Reply(250, "", "")),
        (b"550-5.1.1 a\r\n550-5.1.1 b\r\n550 5.1.1 c\r\n", Reply(550, "5.1.1", "a\nb\nc")),
        (b"550-5.1.1 a\r\n550 b\r\n", Reply(550, "5.1.1", "a\nb")),
        (b"550 4.1.1 class differs\r\n", Reply(550, "", "4.1.1 class differs")),
        (b"550 5.1.1\r\n", Reply(550, "5.1.1", "")),
        (b"550 5.1.1000 x\r\n", Reply(550, "", "5.1.1000 x")),
        (b"250-a\r\n450 b\r\n", Reply(450, "", "a\nb")),
        (b"550 caf\xc3\xa9 \xff\x00\r\n", Reply(550, "", "café \ufffd?")),
        (b"250 Ok\n250 Ok\r\n", Reply(250, "", "Ok?250 Ok")),
        (b"250-a\r\n", None),
        (b"250 a", None),
        (b"hello\r\n", GARBAGE),
        (b"150 no\r\n", GARBAGE),
        (b"250ok\r\n", GARBAGE),
        (b"600 no\r\n", GARBAGE),
        (b"\r\n", GARBAGE),
        (b"250 " + b"x" * 5000 + b"\r\n", GARBAGE),
        (b"250-x\r\n" * (MAX_LINES + 1), GARBAGE),
        (b"250-" + b"x" * 4000 + b"\r\n", None),
        ((b"250-" + b"x" * 4000 + b"\r\n") * 5, GARBAGE),
    ],
)
def test_replies(data: bytes, reply: Reply | BadReply | None) -> None:
    assert read(data) == reply


def test_hello_tells_extensions() -> None:
    peer = parse_hello_reply(
        Reply(250, "", "MX.example hi\nsize 500\n\nAUTH PLAIN  Login\nDSN\nDSN x")
    )
    assert peer == Peer("mx.example", {"SIZE": "500", "AUTH": "PLAIN Login", "DSN": ""})
    assert peer.size_limit_bytes == 500
    assert peer.mechanisms == ["PLAIN", "LOGIN"]


@pytest.mark.parametrize("value", ["", "0", "-1", "1e9", "9" * 21, "²"])
def test_odd_sizes_are_no_limit(value: str) -> None:
    assert Peer("x", {"SIZE": value}).size_limit_bytes is None


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n.b", b"a\r\n..\r\n..b\r\n.\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r.\r\nb\r", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.\nMAIL FROM:<x@y>\n", b"a\r\n..\r\nMAIL FROM:<x@y>\r\n.\r\n"),
        (b"..\r\n...", b"...\r\n....\r\n.\r\n"),
    ],
)
def test_dots_and_line_ends_of_outgoing_data(message: bytes, wire: bytes) -> None:
    for size in range(1, len(message) + 2):
        encoder = DataEncoder()
        cut = [message[at : at + size] for at in range(0, len(message), size)]
        assert b"".join([*map(encoder.feed, cut), encoder.finish()]) == wire


@pytest.mark.parametrize("char", ["\r", "\n", "\r\n", "\0", "\x7f"])
def test_no_address_makes_a_second_command(char: str) -> None:
    """Whatever got into the queue: neither of two lines is sent."""
    peer = Peer("mx.example")
    evil = Address(f"a{char}RCPT TO:<victim@far.example>", "b.example")
    with pytest.raises(ValueError, match="control character"):
        rcpt_command(Recipient(evil), peer)
    with pytest.raises(ValueError, match="control character"):
        mail_command(Envelope(evil, [], size_bytes=1), peer)
