import pytest

from pillarbox.mime import header
from pillarbox.mime.header import (
    FIELDS_A_SLICE,
    MAX_FIELDS,
    decode_header,
    header_end,
    header_values,
    select_fields,
    split_header,
)


@pytest.mark.parametrize(
    ("octets", "end"),
    [
        (b"A: b\r\n\r\nbody", 8),
        (b"A: b\n\nbody", 6),
        (b"A: b\r\n\nbody", 7),
        (b"\r\nbody", 2),
        (b"\nbody", 1),
        (b"A: b\r\n", 6),
        (b"A: b", 4),
        (b"", 0),
    ],
)
def test_header_ends_after_the_first_blank_line_or_is_all(octets: bytes, end: int) -> None:
    assert header_end(octets) == end


def test_fields_keep_folding_and_line_end() -> None:
    block = b"Subject: a\r\n b\r\nTO : c\r\n\r\n"
    assert [(name, block[start:end]) for name, start, end in split_header(block)] == [
        (b"subject", b"Subject: a\r\n b\r\n"),
        (b"to", b"TO : c\r\n"),
    ]


def test_lines_that_are_no_fields_belong_to_none() -> None:
    block = b"From alice Mon Jan  1\n junk: no\nTo: a@b\nno colon here\nCc: c@d\n\n"
    assert [name for name, _, _ in split_header(block)] == [b"to", b"cc"]


def test_the_number_of_fields_is_bounded() -> None:
    assert len(split_header(b"A: b\r\n" * (MAX_FIELDS + 5))) == MAX_FIELDS


def test_repeated_destinations_are_one_list_and_of_others_the_first_counts() -> None:
    block = b"To: a@b\r\nSubject: one\r\nTo: c@d\r\nSubject: two\r\n\r\n"
    values = header_values(block, split_header(block), frozenset((b"to", b"subject")))
    assert values == {b"to": b"a@b,c@d", b"subject": b"one"}


def test_selected_fields_are_raw_and_end_with_a_blank_line() -> None:
    block = b"From: a@b\r\nSubject: x\r\n\ty\r\nTo: c@d\r\n\r\n"
    names = frozenset((b"subject", b"date"))
    assert b"".join(select_fields(block, names)) == b"Subject: x\r\n\ty\r\n\r\n"
    assert b"".join(select_fields(block, names, invert=True)) == b"From: a@b\r\nTo: c@d\r\n\r\n"
    assert b"".join(select_fields(block, frozenset())) == b"\r\n"
    many = b"A: 1\r\nB: 2\r\n" * FIELDS_A_SLICE
    assert [len(piece) for piece in select_fields(many, frozenset((b"a",)))] == [12288, 12288, 2]
    assert (
        b"".join(select_fields(many, frozenset((b"a",)))) == b"A: 1\r\n" * FIELDS_A_SLICE + b"\r\n"
    )
    assert b"".join(select_fields(b"To: c@d", frozenset((b"to",)))) == b"To: c@d\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b" plain \r\n", "plain"),
        (b"a\r\n b", "a b"),
        # RFC 2047 §8
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        (b"=?utf-8?B?w6Q=?= =?US-ASCII*EN?Q?Keith_Moore?=", "äKeith Moore"),
        (b"=?utf-8?B?w6Q?=", "ä"),
        (b"=?utf-8?Q?=C3?= =?utf-8?Q?=A4?= end", "ä end"),
        (b"=?x-unknown?Q?=E4?=", "ä"),
        (b"=?utf-8?Q?open", "=?utf-8?Q?open"),
        ("grün".encode(), "grün"),
        ("grün".encode("latin-1"), "grün"),
        (b"=?base64?Q?YQ=3D=3D?=", "YQ=="),
        (b"=?utf-7?Q?+2AA-?=", "\ufffd"),
        (b"=?gb2312?B?xOO6ww==?=", "你好"),
    ],
)
def test_header_text(raw: bytes, text: str) -> None:
    assert decode_header(raw) == text


@pytest.mark.parametrize("before", range(8, 16))
@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n"])
def test_a_blank_line_is_found_wherever_the_search_is_cut(
    monkeypatch: pytest.MonkeyPatch, before: int, end: bytes
) -> None:
    monkeypatch.setattr(header, "_FIRST_SEARCHED", 5)
    monkeypatch.setattr(header, "_MOST_SEARCHED", 7)
    block = b"x" * before + end
    for text in (b"text", b"\n\n", b"\n\r\n", b"t\n\nt\n\r\n", b"\r\n\n"):
        assert header_end(block + text) == len(block)
    assert header_end(b"y" * before) == before
