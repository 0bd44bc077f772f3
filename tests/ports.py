"""Ports of loopback for programs that tests start."""

import random
import socket


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """So many that nobody has: not of those that connections get, of which another test may have any a moment later."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen(1)
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
