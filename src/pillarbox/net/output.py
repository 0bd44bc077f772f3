"""What an engine says, on its way to the transport."""

import asyncio

JOINED_OCTETS = 1024
"""Pieces of output that are smaller, on average, are written as one: the copy costs less than what the loop does about
each piece."""


def write(transport: asyncio.Transport, parts: list[bytes]) -> None:
    """All pieces, in order, by one call."""
    if len(parts) > 1 and sum(map(len, parts)) < JOINED_OCTETS * len(parts):
        parts = [b"".join(parts)]
    if len(parts) == 1:
        transport.write(parts[0])
    elif parts:
        transport.writelines(parts)
