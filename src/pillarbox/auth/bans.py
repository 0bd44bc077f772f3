"""Networks that the administrator turned away: their connections are closed at once, on all ports."""

import ipaddress
import time
from collections.abc import Callable

from pillarbox.core.networks import NO_NETWORKS, Networks
from pillarbox.store.directory import Directory


class Bans:
    """`address in bans`. Asked for each connection: kept by length of prefix, and read anew when the directory changes,
    so thousands of bans cost no more than one."""

    def __init__(
        self,
        directory: Directory,
        exempt: Networks = NO_NETWORKS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._exempt = exempt
        self._clock = clock
        self._version = (-1, -1)
        self._until: dict[tuple[int, int], dict[int, float]] = {}
        """By IP version and prefix length: when the ban of a network (as a number) ends."""

    def __contains__(self, address: object) -> bool:
        version = self._directory.file.version()
        if version != self._version:
            self._read()
            self._version = version
        if not self._until:
            return False
        try:
            ip = ipaddress.ip_address(str(address).partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        number, now = int(ip), self._clock()
        for (family, prefix), networks in self._until.items():
            if family == ip.version:
                host_bits = ip.max_prefixlen - prefix
                if networks.get(number >> host_bits << host_bits, 0.0) > now:
                    return str(ip) not in self._exempt
        return False

    def _read(self) -> None:
        self._until = {}
        for ban in self._directory.bans.all():
            network = ipaddress.ip_network(ban.network)
            ends = float("inf") if ban.until is None else float(ban.until)
            key = (network.version, network.prefixlen)
            self._until.setdefault(key, {})[int(network.network_address)] = ends
