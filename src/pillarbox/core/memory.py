"""Memory that was freed goes back to the system."""

import ctypes
from functools import cache


def give_back() -> None:
    """What the C library keeps for later of what was freed, in this process; some milliseconds, for a thread. Does
    nothing where the library has no such call."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> "ctypes._NamedFuncPointer | None":
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
