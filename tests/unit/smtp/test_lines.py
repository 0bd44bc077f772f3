"""Framing of command lines (RFC 5321 §2.3.8, §4.5.3.1.4)."""

import pytest

from pillarbox.smtp.lines import ENDLESS, MAX_DROPPED_OCTETS, TOO_LONG, BadLine, CommandLines


def lines_of(pieces: list[bytes], limit: int = 16) -> list[bytes | BadLine]:
    lines = CommandLines()
    found: list[bytes | BadLine] = []
    for piece in pieces:
        lines.feed(piece)
        while (line := lines.next_line(limit)) is not None:
            found.append(line)
        assert len(lines) <= limit
    return found


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\nb\r\n", [b"a\nb"]),
        (b"a\rb\r\n", [b"a\rb"]),
        (b"a\r\r\n", [b"a\r"]),
        (b"\r\n", [b""]),
        (b"a\r", []),
        (b"12345678901234\r\n", [b"12345678901234"]),
        (b"123456789012345\r\na\r\n", [TOO_LONG, b"a"]),
        (b"x" * 100 + b"\r" * 20 + b"\nb\r\n", [TOO_LONG, b"b"]),
    ],
)
def test_only_crlf_ends_a_line(data: bytes, lines: list[bytes | BadLine]) -> None:
    assert lines_of([data]) == lines
    assert lines_of([bytes([octet]) for octet in data]) == lines
    for at in range(len(data)):
        assert lines_of([data[:at], data[at:]]) == lines


def test_an_endless_line_is_given_up() -> None:
    lines = CommandLines()
    found: bytes | BadLine | None = None
    for _ in range(MAX_DROPPED_OCTETS // 65536 + 2):
        lines.feed(b"x" * 65536)
        found = lines.next_line(512)
        assert len(lines) <= 1
    assert found is ENDLESS
    assert lines_of([b"x" * (MAX_DROPPED_OCTETS + 1) + b"\r\n"]) == [ENDLESS]


def test_take_gives_what_no_line_has_used() -> None:
    lines = CommandLines()
    lines.feed(b"DATA\r\nbody")
    lines.feed(b" and more")
    assert lines.next_line(512) == b"DATA"
    assert len(lines) == 13
    assert lines.take() == b"body and more"
    assert len(lines) == 0
