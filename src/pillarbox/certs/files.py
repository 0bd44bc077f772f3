"""Writing keys and certificates."""

import os
from pathlib import Path


def write_whole(path: Path, octets: bytes, mode: int) -> None:
    """Under its name only when whole, and on the disk. Raises OSError."""
    unfinished = path.with_name(path.name + ".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
