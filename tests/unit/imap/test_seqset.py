"""Sequence sets: parsing to a normal form, and meeting a mailbox (RFC 3501 §9, sequence-set)."""

from array import array

import pytest

from pillarbox.imap.seqset import (
    MAX_RANGES,
    SeqSet,
    format_seqset,
    number_slices,
    parse_seqset,
    uid_slices,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1", SeqSet(((1, 1),))),
        (b"2:4", SeqSet(((2, 4),))),
        (b"4:2", SeqSet(((2, 4),))),
        (b"1,2,3,5", SeqSet(((1, 3), (5, 5)))),
        (b"9,1:3,2:5", SeqSet(((1, 5), (9, 9)))),
        (b"*", SeqSet((), 0xFFFFFFFF)),
        (b"7:*", SeqSet((), 7)),
        (b"*:7,9:*,3", SeqSet(((3, 3),), 7)),
        (b"4294967295", SeqSet(((0xFFFFFFFF, 0xFFFFFFFF),))),
    ],
)
def test_a_set_is_sorted_and_merged_and_keeps_the_star(text: bytes, expected: SeqSet) -> None:
    assert parse_seqset(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"01",
        b"1:",
        b":1",
        b"1,,2",
        b"1,",
        b"1:2:3",
        b"a",
        b"-1",
        b"1 ,2",
        b"**",
        b"1\n",
        b"4294967296",
    ],
)
def test_what_is_not_a_set_of_nonzero_32_bit_numbers_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_seqset(text)


def test_the_number_of_ranges_is_limited() -> None:
    numbers = b",".join(b"%d" % number for number in range(1, 2 * MAX_RANGES, 2))
    assert len(parse_seqset(numbers).ranges) == MAX_RANGES
    with pytest.raises(ValueError):
        parse_seqset(numbers + b",1")


def test_star_is_the_largest_number_even_if_it_is_below_the_other_end() -> None:
    assert list(parse_seqset(b"3291:*").resolve(10)) == [(10, 10)]
    assert list(parse_seqset(b"2,4:7,9,12:*").resolve(15)) == [(2, 2), (4, 7), (9, 9), (12, 15)]
    assert list(parse_seqset(b"*:4,5:7").resolve(10)) == [(4, 10)]


def test_message_numbers_become_positions() -> None:
    assert number_slices(parse_seqset(b"1:3,5"), 5) == [range(3), range(4, 5)]
    assert number_slices(parse_seqset(b"*"), 5) == [range(4, 5)]
    assert number_slices(parse_seqset(b"2:*"), 5) == [range(1, 5)]


@pytest.mark.parametrize(
    ("text", "exists"), [(b"6", 5), (b"1:6", 5), (b"6:*", 5), (b"*", 0), (b"1:*", 0), (b"1", 0)]
)
def test_a_message_number_above_the_last_is_an_error(text: bytes, exists: int) -> None:
    with pytest.raises(ValueError):
        number_slices(parse_seqset(text), exists)


def test_uids_that_do_not_exist_are_passed_over() -> None:
    uids = array("I", [2, 3, 10, 11, 40])
    assert uid_slices(parse_seqset(b"1:9,20:30,11"), uids) == [range(2), range(3, 4)]
    assert uid_slices(parse_seqset(b"50:*"), uids) == [range(4, 5)]
    assert uid_slices(parse_seqset(b"1:*"), uids) == [range(5)]
    assert uid_slices(parse_seqset(b"12:39"), uids) == []
    assert uid_slices(parse_seqset(b"*"), array("I")) == []


def test_numbers_are_written_in_few_ranges() -> None:
    assert format_seqset([1, 2, 3, 5, 7, 8]) == b"1:3,5,7:8"
    assert format_seqset([]) == b""
