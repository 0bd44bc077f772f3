"""Writing keys and certificates."""

import os
from pathlib import Path

from pillarbox.store.new_file import open_new


def write_whole(path: Path, octets: bytes, mode: int) -> None:
    """Under its name only when whole, and on the disk. Raises OSError."""
    unfinished = path.with_name(path.name + ".new")
    with os.fdopen(open_new(unfinished, mode), "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
