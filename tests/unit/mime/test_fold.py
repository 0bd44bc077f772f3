"""How strings are compared: i;unicode-casemap (RFC 5051), and octets behind it (RFC 5255 §4.6)."""

from unicodedata import combining

import pytest
from tests.casemap import casemap

from pillarbox.mime.charset import decode_valid
from pillarbox.mime.fold import FOLDED_PIECE, _is_mark, fold, order_key
from pillarbox.mime.header import decode_ordered, decode_searched_header

ALL = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def test_every_code_point_is_prepared_as_the_rfc_says() -> None:
    assert [each for each in ALL if fold(each) != casemap(each)] == []
    # Within a text, too, of many pieces
    text = "".join(ALL)
    assert fold(text) == casemap(text)


def test_what_has_several_characters_in_titlecase_has_no_simple_one() -> None:
    """Where the full mapping (SpecialCasing.txt) hides what UnicodeData.txt has, that is nothing: no capital has such a
    character as its small letter, but for the capital sharp s, which is nobody's titlecase."""
    several = {each for each in ALL if len(each.title()) > 1}
    assert {each for each in ALL if each.lower() in several and each not in several} == {"\u1e9e"}


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("", ""),
        ("Hello, World", "HELLO, WORLD"),
        ("\u01c4", "Dz\u030c"),  # RFC 5051 §2 has this as its example
        ("\u01c5\u01c6", "Dz\u030cDz\u030c"),
        ("caf\u00e9", "CAFE\u0301"),
        ("CAFE\u0301", "CAFE\u0301"),
        ("stra\u00dfe", "STRA\u00dfE"),
        ("\u1e9e", "\u1e9e"),
        ("\u0130i\u0131", "I\u0307II"),
        ("\u03c3\u03c2\u03a3", "\u03a3\u03a3\u03a3"),
        ("\ufb01x", "fiX"),  # titlecase comes first, and of the ligature there is none
        ("\ud55c", "\u1112\u1161\u11ab"),
        ("\u212b\u00e5", "A\u030aA\u030a"),
        ("\uff21\uff42\u3000c", "AB C"),
        ("\u10d0\u1c90", "\u10d0\u1c90"),
        ("\u1fb3\u1f80", "\u0391\u0345\u0391\u0313\u0345"),
        ("a\u0301\u0323", "A\u0323\u0301"),
    ],
)
def test_prepared_text(text: str, prepared: str) -> None:
    assert fold(text) == prepared


@pytest.mark.parametrize("length", [FOLDED_PIECE, FOLDED_PIECE + 1, 9 * FOLDED_PIECE // 8 + 1])
@pytest.mark.parametrize("letter", ["\u00e9", "\u00df", "\u10d0", "\uac00", "\u4e00"])
def test_long_texts_are_prepared_like_short_ones(letter: str, length: int) -> None:
    assert fold(letter * length) == fold(letter) * length


def test_what_may_be_put_before_others_is_known_as_a_mark() -> None:
    """No text is cut before it, and runs of it are found."""
    assert [each for each in ALL if combining(casemap(each)[0]) and not _is_mark(each)] == []


@pytest.mark.parametrize("length", [15, 16, 127, 128, 129, 1000, 1200, 3000])
@pytest.mark.parametrize("before", [0, 1, 15, 500, 1023, 1024, 1150, 1151, 1153])
@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u4e00", "\u0345"])
def test_runs_of_marks_are_put_in_order_wherever_a_text_is_cut(
    length: int, before: int, letter: str
) -> None:
    marks = "\u0315\u0301\u0344\u0323\u0f73\uff9f\u0e38\u0345\u05b0\u0334\u0301"
    run = "".join(mark * (length // len(marks) + 1) for mark in marks)[:length]
    for text in (letter * before + run, letter * before + run[::-1] + letter + run + "x"):
        assert fold(text) == casemap(text)


def test_octets_come_behind_all_text() -> None:
    """RFC 5255 §4.6; each group by itself, also behind the last code point that there is."""
    texts = [
        "",
        "a",
        "B",
        "\u00e9",
        "\uffff",
        "\U0001f600",
        "\U0010ffff",
        "\U0010ffff\1",
        "\U0010ffff\U0010ffff",
    ]
    octets = ["A", "a", "\u00e9", "\u00ff\u00ff"]
    keys = [order_key(each) for each in texts] + [order_key(each, is_text=False) for each in octets]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert order_key("", is_text=False) == ""


@pytest.mark.parametrize(
    ("raw", "text", "is_text"),
    [
        (b" =?utf-8?q?caf=C3=A9?= x", "caf\u00e9 x", True),
        (b"=?koi8-r?q?=E1?=", "\u0410", True),
        (b"caf\xe9", "caf\u00e9", True),  # nothing is labelled: it is guessed
        (b"caf\xc3\xa9", "caf\u00e9", True),
        (b"=?utf-8?q?caf=E9?= x", "caf\u00e9 x", False),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "\u00e9", True),
        (b"=?utf-8?q?=C0=80?=", "\u00c0\u0080", False),  # overlong
        (b"=?x-unknown?q?abc?=", "abc", False),
        (b"=?us-ascii?q?=C3=A9?=", "\u00c3\u00a9", False),
        (b"=?koi8-r?q?=E1?= =?x-unknown?q?=E1?= \xc3\xa9", "\u00e1\u00e1 \u00c3\u00a9", False),
    ],
)
def test_what_is_ordered_is_text_or_octets(raw: bytes, text: str, is_text: bool) -> None:
    assert decode_ordered(raw) == (text, is_text)


@pytest.mark.parametrize(
    ("raw", "searched"),
    [
        (b"=?utf-8?q?caf=E9?=", "caf\ufffd"),
        (b"=?us-ascii?q?caf=C3=A9?=", "caf\u00e9"),
        (b"a =?x-unknown?q?caf=E9=C3=A9?=", "a caf\u00e9\u00c3\u00a9\na caf\ufffd\u00e9"),
        (b"=?iso-2022-jp?q?caf=C3=A9?=", "caf\ufffd\ufffd\ncaf\u00e9"),
    ],
)
def test_octets_are_searched_beside_what_people_would_read(raw: bytes, searched: str) -> None:
    assert decode_searched_header(raw) == searched


@pytest.mark.parametrize(
    ("octets", "charset"),
    [
        (b"\xff", b"utf-8"),
        (b"\xed\xa0\x80", b"UTF-8"),
        (b"\x80", b"us-ascii"),
        (b"a", b"x-unknown"),
        (b"a", b"base64"),
        (b"\x81", b"windows-1252"),
        (b"a", b"utf-16"),
        (b"+2AA-", b"utf-7"),
        (b"\x1b$B\xff\xff", b"iso-2022-jp"),
    ],
)
def test_what_is_not_valid_is_no_text(octets: bytes, charset: bytes) -> None:
    with pytest.raises(ValueError):
        decode_valid(octets, charset)
