"""Spans of time as people write them."""

import pytest

from pillarbox.core.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("45s", 45), ("90m", 5400), ("4h", 14400), ("5d", 432000)]
)
def test_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "5 d", "-1d", "1.5h", "1w", "9999999s", "५d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        parse_duration(text)
