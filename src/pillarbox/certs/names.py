"""Which of several certificates a name gets (RFC 6066 §3 says how a client names it, RFC 9525 §6.3 what fits)."""

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class ByName(Generic[T]):
    """Exact names come before wildcards, the first of equal ones counts. A look-up takes two steps, however many."""

    def __init__(self, pairs: Iterable[tuple[Iterable[str], T]]) -> None:
        """(names of a certificate, what is found by them)"""
        self._found: dict[str, T] = {}
        for names, value in pairs:
            for name in names:
                # RFC 9525 §6.3: a name with a wildcard anywhere else counts as none
                if "*" not in name.removeprefix("*."):
                    self._found.setdefault(name.lower().removesuffix("."), value)

    def find(self, name: str) -> T | None:
        """For a host name as A-labels, in any case; None: none fits."""
        name = name.lower().removesuffix(".")
        if name in self._found:
            return None if name.startswith("*") else self._found[name]
        # RFC 9525 §6.3: a wildcard is the whole leftmost label, and stands for one
        first, dot, rest = name.partition(".")
        return self._found.get(f"*.{rest}") if first and dot else None
