import pytest

from pillarbox.mime.message import parse_message
from pillarbox.mime.parts import PartKind, find_part

INNER = b"Subject: in\r\n\r\ninner text\r\n"
OCTETS = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\none\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n"
    b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nthree one\r\n--c--\r\n"
    b"--b--\r\n"
)


def section(octets: bytes, *numbers: int) -> bytes | None:
    message = parse_message(octets)
    span = find_part(message.parts, numbers)
    if span is None:
        return None
    return octets[message.header_size + span.body_start : message.header_size + span.end]


def test_parts_by_number() -> None:
    assert section(OCTETS, 1) == b"one"
    assert section(OCTETS, 2) == INNER
    assert section(OCTETS, 2, 1) == b"inner text\r\n"
    assert section(OCTETS, 3, 1) == b"three one"


@pytest.mark.parametrize("numbers", [(0,), (4,), (1, 1), (2, 2), (2, 1, 1), (3, 2), (3, 1, 1)])
def test_numbers_that_do_not_exist(numbers: tuple[int, ...]) -> None:
    assert section(OCTETS, *numbers) is None


def test_header_text_and_mime_of_a_contained_message() -> None:
    message = parse_message(OCTETS)
    span = find_part(message.parts, (2,))
    assert span is not None
    assert span.kind == PartKind.MESSAGE
    assert span.text_start is not None
    base = message.header_size
    mime = OCTETS[base + span.header_start : base + span.body_start]
    assert mime == b"Content-Type: message/rfc822\r\n\r\n"
    header = OCTETS[base + span.body_start : base + span.text_start]
    assert header == b"Subject: in\r\n\r\n"
    assert OCTETS[base + span.text_start : base + span.end] == b"inner text\r\n"


def test_header_and_text_exist_only_in_messages() -> None:
    message = parse_message(OCTETS)
    for numbers in ((1,), (3,), (2, 1)):
        span = find_part(message.parts, numbers)
        assert span is not None
        assert span.text_start is None


def test_message_that_is_a_message_has_part_one_and_in_it_part_one() -> None:
    octets = b"Content-Type: message/rfc822\r\n\r\n" + INNER
    assert section(octets, 1) == INNER
    assert section(octets, 1, 1) == b"inner text\r\n"
    assert section(octets, 2) is None
    assert section(octets, 1, 2) is None


def test_multipart_in_a_contained_message_takes_no_number() -> None:
    octets = b"Content-Type: message/rfc822\r\n\r\n" + OCTETS
    assert section(octets, 1, 1) == b"one"
    assert section(octets, 1, 2, 1) == b"inner text\r\n"


def test_single_part_needs_no_table() -> None:
    assert parse_message(b"Subject: x\r\n\r\nhi").parts == b""
    assert find_part(b"", (1,)) is None
