"""Byte-stuffing, line ends, octet counts (RFC 1939 §3, §7, §11)."""

import pytest

from pillarbox.pop3.multiline import Stuffer, first_lines, stuff, with_crlf


@pytest.mark.parametrize(
    ("octets", "sent"),
    [
        (b"", b""),
        (b"a\r\n", b"a\r\n"),
        (b"a", b"a\r\n"),
        (b".", b"..\r\n"),
        (b".\r\n", b"..\r\n"),
        (b"a\r\n.\r\n", b"a\r\n..\r\n"),
        (b"a\r\n..b\r\nc.d\r\n", b"a\r\n...b\r\nc.d\r\n"),
        (b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n"),
        (b"a\r.\rb\r\n", b"a\r.\rb\r\n"),
        (b"a\r", b"a\r\r\n"),
        (b"a\r\n\r", b"a\r\n\r\r\n"),
        (b"\n", b"\r\n"),
    ],
)
def test_lines_that_begin_with_a_dot_get_another(octets: bytes, sent: bytes) -> None:
    assert stuff(with_crlf(octets)) == sent
    for at in range(len(octets) + 1):
        stuffer = Stuffer()
        pieces = [stuffer.feed(octets[:at]), stuffer.feed(octets[at:]), stuffer.finish()]
        assert b"".join(pieces) == sent


def test_octet_counts_are_of_what_is_sent_without_stuffing() -> None:
    assert len(with_crlf(b".a\nb")) == len(b".a\r\nb\r\n")


@pytest.mark.parametrize(
    ("count", "lines"),
    [(0, b""), (1, b"a\r\n"), (2, b"a\r\n\r\n"), (3, b"a\r\n\r\nb"), (999, b"a\r\n\r\nb")],
)
def test_first_lines(count: int, lines: bytes) -> None:
    assert first_lines(b"a\r\n\r\nb", count) == lines
