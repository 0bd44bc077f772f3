"""Sizes as people write them."""

import pytest

from pillarbox.core.size import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0", 0), ("7", 7), ("1K", 1024), ("500m", 500 << 20), ("2 GB", 2 << 30), ("1TiB", 1 << 40)],
)
def test_a_size_has_a_unit_or_is_octets(text: str, octets: int) -> None:
    assert parse_size(text) == octets


@pytest.mark.parametrize("text", ["", "K", "1.5G", "-1", "1X", "9" * 16])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


def test_sizes_are_shown_shortly() -> None:
    assert [format_size(octets) for octets in (0, 1023, 1536, 1 << 30)] == [
        "0",
        "1023",
        "1.5K",
        "1G",
    ]
