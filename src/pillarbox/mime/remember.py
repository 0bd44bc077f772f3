"""What short header fields came to, kept for the next of the same octets: the same people write to the same people, and
most mail has one of a few types. Bounded, so that nobody fills it."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")


def remembering(parse: Callable[[bytes], T], *, longest: int, most: int) -> Callable[[bytes], T]:
    """`parse` with a memory of `most` values up to `longest` octets. What it returns is shared, to be left as it is."""
    remembered = lru_cache(most)(parse)
    return lambda value: remembered(value) if len(value) <= longest else parse(value)
