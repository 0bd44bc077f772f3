"""How much is tried of what could be tried without end: enough for each change in `make test`, more in `make soak`."""

import os

IS_SOAK = "SOAK_S" in os.environ


def tries(suite: int, soak: int) -> int:
    """How many of them."""
    return soak if IS_SOAK else suite
