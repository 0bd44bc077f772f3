"""Files in memory, for OpenSSL, which takes certificates and keys from files only."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def as_files(contents: Sequence[bytes]) -> Iterator[list[Path]]:
    """A path for each, of this process only, and until the end."""
    with ExitStack() as stack:
        paths = []
        for content in contents:
            descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
            stack.callback(os.close, descriptor)
            os.write(descriptor, content)
            paths.append(Path(f"/proc/self/fd/{descriptor}"))
        yield paths
