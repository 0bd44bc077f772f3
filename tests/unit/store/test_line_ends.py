"""The octets that POP3 adds to messages whose lines do not all end with CRLF."""

import random

import pytest

from pillarbox.pop3.multiline import with_crlf
from pillarbox.store.content import PIECE_OCTETS, count_line_ends_added


@pytest.mark.parametrize(
    "octets", [b"", b"a", b"a\n", b"a\r\n", b"a\r", b"a\nb", b"\n\n\r\n", b"a\r\r\nb\n\r", b"\r\n"]
)
def test_added_line_ends_are_those_that_pop3_sends(octets: bytes) -> None:
    assert count_line_ends_added(octets) == len(with_crlf(octets)) - len(octets)


@pytest.mark.parametrize("seam", [b"\r\n", b"\n\n", b"x\n", b"\rx"])
def test_line_ends_across_pieces_count_once(seam: bytes) -> None:
    octets = b"y" * (PIECE_OCTETS - 1) + seam + b"z"
    assert count_line_ends_added(memoryview(octets)) == len(with_crlf(octets)) - len(octets)


def test_any_mixture_counts_as_it_is_sent() -> None:
    dice = random.Random(7)
    for _ in range(300):
        octets = bytes(dice.choices(b"\r\na", k=dice.randrange(12)))
        assert count_line_ends_added(octets) == len(with_crlf(octets)) - len(octets)
