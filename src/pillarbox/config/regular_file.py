"""What stands in a file that the configuration names.

Whoever opens a pipe waits for somebody at its other end, and lets all wait who wait for him, so nothing but a regular
file is read here, whatever was put in its place since the start.
"""

import errno
import os
import re
import stat
from pathlib import Path

MOST_OCTETS = 1_000_000
"""The CAs that a machine trusts take some 200,000."""


def read_regular(path: Path) -> bytes:
    """All octets of it. Blocks as a disk does. Raises OSError with words that say what to do, also for what is no
    regular file, and for more than MOST_OCTETS."""
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(path, flags)
    except ValueError as error:
        raise OSError(errno.EINVAL, "no path has a NUL, write another one", str(path)) from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _no_regular_file(path) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _no_regular_file(path)
        with open(descriptor, "rb", closefd=False) as file:
            octets = file.read(MOST_OCTETS + 1)
    finally:
        os.close(descriptor)
    if octets is None:  # some of the kernel's have nothing to say yet
        raise _no_regular_file(path)
    if len(octets) > MOST_OCTETS:
        words = f"it has more than {MOST_OCTETS} octets, put the right file in its place"
        raise OSError(errno.EFBIG, words, str(path))
    return octets


def read_secret(path: Path) -> str:
    """The one line of it, without its end. Raises OSError as `read_regular` does, and for what is no such line."""
    octets = read_regular(path)
    if why := why_no_secret(octets):
        raise OSError(errno.EINVAL, f"it {why}", str(path))
    return octets.decode("utf-8").rstrip("\r\n")


def why_no_secret(octets: bytes) -> str:
    """What a file with a password or a token must be; "" where it is."""
    try:
        text = octets.decode("utf-8").rstrip("\r\n")
    except ValueError:
        text = ""
    is_line = text.strip() and not re.search(r"[\0-\x1f\x7f]", text)
    return "" if is_line else "must be one line of UTF-8: the secret"


def _no_regular_file(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is no regular file, put one in its place", str(path))
