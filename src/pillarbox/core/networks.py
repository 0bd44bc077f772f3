"""Sets of IP networks, as a configuration names them, and what counts as one client."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(slots=True, frozen=True)
class Networks:
    """Example: `"192.0.2.7" in parse_networks(["192.0.2.0/24"])` is True."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    def __contains__(self, address: str) -> bool:
        """Whether an IP address, as text, is in one of them. What is no address is in none."""
        if not self.networks:
            return False
        try:
            parsed = _parse(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


_parse = lru_cache(maxsize=1024)(
    ipaddress.ip_address
)  # a peer is asked about for each of its commands

NO_NETWORKS = Networks()


def parse_networks(texts: Iterable[str]) -> Networks:
    """Addresses ("192.0.2.7", "2001:db8::1") and networks ("192.0.2.0/24"). Raises ValueError, naming what is none."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(
                f'"{text}" is not an IP address or network like "192.0.2.0/24" ({error})'
            ) from None
    return Networks(tuple(networks))


def without_mapping(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The IPv4 network that IPv4-mapped addresses (::ffff:192.0.2.7) stand for; any other stays as it is."""
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        number = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((number, network.prefixlen - _MAPPED.prefixlen))
    return network


_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


@lru_cache(maxsize=1024)  # asked for each login and message
def network_of(address: str) -> str:
    """What counts as one client for limits: an IPv4 address, or an IPv6 /64. Other text stays as it is."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))
