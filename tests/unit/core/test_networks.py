"""Sets of IP networks."""

import pytest

from pillarbox.core.networks import NO_NETWORKS, parse_networks


def test_addresses_and_networks_of_both_families() -> None:
    networks = parse_networks(["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"])
    for inside in ("192.0.2.255", "198.51.100.7", "2001:db8:1::1"):
        assert inside in networks
    for outside in ("192.0.3.0", "198.51.100.8", "2001:db9::1", "", "unix", "::ffff:192.0.2.1"):
        assert outside not in networks
    assert "127.0.0.1" not in NO_NETWORKS


@pytest.mark.parametrize("text", ["", "example.org", "192.0.2.1/24", "192.0.2.0/33", "1.2.3"])
def test_what_is_no_network_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f'"{text}" is not an IP address or network'):
        parse_networks([text])
