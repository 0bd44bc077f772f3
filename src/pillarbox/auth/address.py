"""What counts as the address of an account where somebody else says whose it is: who verifies passwords, or a token."""

from typing import TypeGuard


def is_address(said: object) -> TypeGuard[str]:
    """Nothing is trimmed or mended: who says " alice@example.org" may mean something else than it seems to."""
    if not isinstance(said, str) or " " in said or not said.isprintable():
        return False  # a lone surrogate, which JSON can have, is not printable either
    local, _, domain = said.rpartition("@")
    return bool(local and domain)
