"""Line ends of messages: each CR with its LF, whatever the size."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.mime import lines
from pillarbox.mime.lines import has_bare_cr_or_lf

BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


@given(st.lists(st.sampled_from((b"\r", b"\n", b"\r\n", b"a", b"\0\xff")), max_size=12))
def test_a_bare_cr_or_lf_is_found_wherever_it_is(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    expected = BARE.search(octets) is not None
    assert has_bare_cr_or_lf(octets) is expected
    around = b"line\r\n" * 4000
    assert has_bare_cr_or_lf(around + b"x" + octets + b"x" + around) is expected


@pytest.mark.parametrize("size", [1000, 100_000])
@pytest.mark.parametrize(
    ("octets", "expected"),
    [(b"\r\n", False), (b"\r", True), (b"\n", True), (b"\n\r", True), (b"a", False)],
)
def test_messages_of_nothing_else(octets: bytes, expected: bool, size: int) -> None:
    assert has_bare_cr_or_lf(octets * size) is expected


@pytest.mark.parametrize(
    ("ends", "expected"), [(b"\r\n", False), (b"\ra", True), (b"a\n", True), (b"\r", True)]
)
def test_line_ends_across_what_is_looked_at_in_one_call(ends: bytes, expected: bool) -> None:
    text = b"a" * (lines._LOOKED_AT_OCTETS - 1) + ends
    assert has_bare_cr_or_lf(text) is expected
    assert has_bare_cr_or_lf(memoryview(text)) is expected
