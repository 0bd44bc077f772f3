"""Sections of a message, partial ones, and BODY made from BODYSTRUCTURE."""

import pytest

from pillarbox.imap.syntax_fetch import Section
from pillarbox.imapd.body import body_of
from pillarbox.imapd.sections import Message, Span, fields_of, locate
from pillarbox.mime.message import parse_message

INNER = b"Subject: in\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\n\r\nplain\r\n--i--\r\n"
OCTETS = (
    b"From: a@b\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n"
    b"--o\r\nContent-Type: text/html\r\n\r\n<p>\r\n"
    b"--o\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n--o--\r\n"
)
SINGLE = b"Subject: one\r\n\r\ntext\r\n"


def read(octets: bytes, section: Section, partial: tuple[int, int] | None = None) -> bytes | None:
    message = parse_message(octets)
    header, body = octets[: message.header_size], octets[message.header_size :]
    span = locate(section, Message(header, len(body), message.parts))
    if span is None:
        return None
    span = span.clip(partial)
    found = span.head + body[span.start : span.end]
    assert span.size == len(found)
    return found


@pytest.mark.parametrize(
    ("octets", "section", "expected"),
    [
        (OCTETS, Section(), OCTETS),
        (OCTETS, Section((1,)), b"<p>"),
        (OCTETS, Section((1,), "MIME"), b"Content-Type: text/html\r\n\r\n"),
        (OCTETS, Section((1,), "HEADER"), None),
        (OCTETS, Section((1, 1)), None),
        (OCTETS, Section((2,)), INNER),
        (OCTETS, Section((2,), "HEADER"), INNER[: INNER.index(b"--i")]),
        (OCTETS, Section((2,), "TEXT"), INNER[INNER.index(b"--i") :]),
        (OCTETS, Section((2, 1)), b"plain"),
        (OCTETS, Section((3,)), None),
        (SINGLE, Section((1,)), b"text\r\n"),
        (SINGLE, Section((1,), "MIME"), b"Subject: one\r\n\r\n"),
        (SINGLE, Section((1,), "TEXT"), None),
        (SINGLE, Section((2,)), None),
        (SINGLE, Section(text="TEXT"), b"text\r\n"),
        (SINGLE, Section(text="HEADER"), b"Subject: one\r\n\r\n"),
    ],
)
def test_sections_are_those_of_rfc_3501(
    octets: bytes, section: Section, expected: bytes | None
) -> None:
    assert read(octets, section) == expected


@pytest.mark.parametrize("first", [0, 3, 15, 16, 20, 21, 22, 99])
@pytest.mark.parametrize("count", [1, 5, 16, 17, 100])
def test_a_partial_is_a_slice_that_may_reach_behind_the_end(first: int, count: int) -> None:
    assert read(SINGLE, Section(), (first, count)) == SINGLE[first : first + count]


def test_clipping_a_span_without_a_head_moves_its_start() -> None:
    assert Span(b"", 10, 20).clip((3, 4)) == Span(b"", 13, 17)


def test_header_fields_are_given_with_a_blank_line() -> None:
    header = b"A: 1\r\nB: 2\r\n\r\n"
    assert (
        b"".join(fields_of(Section(text="HEADER.FIELDS", fields=(b"B",)), header))
        == b"B: 2\r\n\r\n"
    )
    assert (
        b"".join(fields_of(Section(text="HEADER.FIELDS.NOT", fields=(b"B",)), header))
        == b"A: 1\r\n\r\n"
    )


@pytest.mark.parametrize(
    "octets",
    [
        SINGLE,
        OCTETS,
        b"",
        b"Content-Type: image/png\r\n\r\nx",
        b'Content-Type: text/plain; name="a\\"(b"\r\nContent-Description: \xff {3}\r\n\r\nx',
        b"Content-Type: message/rfc822\r\n\r\nSubject: (\r\n\r\nx",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\nnone",
        b'Content-Type: text/plain\r\nContent-Disposition: attachment; filename="a b"\r\n'
        b"Content-Language: en, de\r\n\r\n",
    ],
)
def test_body_is_bodystructure_without_extension_data(octets: bytes) -> None:
    message = parse_message(octets)
    assert body_of(message.bodystructure) == message.body


def test_body_of_deep_nesting() -> None:
    octets = b"x"
    for level in range(120):
        octets = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n%b\r\n--b%d--" % (
            level,
            level,
            octets,
            level,
        )
    message = parse_message(octets)
    assert body_of(message.bodystructure) == message.body
