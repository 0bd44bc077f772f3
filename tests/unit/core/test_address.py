"""Domains as they are stored and compared."""

import pytest

from pillarbox.core.address import canonical_domain


def test_a_name_that_is_far_too_long_is_not_turned_into_labels() -> None:
    """It took over a second for a megabyte."""
    with pytest.raises(ValueError, match="not so long"):
        canonical_domain("ä." * 100_000)
