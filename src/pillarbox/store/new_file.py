"""Files that are made in a folder that may be another user's."""

import os
from pathlib import Path


def open_new(path: Path, mode: int = 0o600) -> int:
    """A descriptor to write to an empty file, in place of what is there: never what a link leads to. Raises OSError."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
