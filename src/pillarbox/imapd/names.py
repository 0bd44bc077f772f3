"""Mailbox names: components in the store, one text with separators on the wire.

A component that holds the separator (made under another separator, or by another way in) shows it as `^` and two hex
digits: with ".", the component `a.b` is `a^2Eb`. A `^` that could be read as the start of such an escape is `^5E`.
So every name has one wire form, and every wire form one name.
"""

import re
from functools import lru_cache

from pillarbox.store.mailboxes import Name


@lru_cache(maxsize=8)
def _patterns(separator: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What needs an escape, and what is one."""
    digits = f"{ord(separator):02X}"
    needs_escape = re.compile(rf"\^(?=5E|{digits})|{re.escape(separator)}")
    return needs_escape, re.compile(rf"\^(5E|{digits})")


def to_wire(name: Name, separator: str) -> str:
    """`("a", "b")` -> `"a.b"`."""
    text = separator.join(name)
    if "^" not in text and text.count(separator) == len(name) - 1:
        return text
    needs_escape = _patterns(separator)[0]
    return separator.join(
        needs_escape.sub(lambda match: f"^{ord(match[0]):02X}", component) for component in name
    )


def from_wire(text: str, separator: str) -> Name:
    """`"a.b"` -> `("a", "b")`. Components may be empty; the store refuses such names where it matters."""
    components = text.split(separator)
    if "^" in text:
        is_escape = _patterns(separator)[1]
        components = [
            is_escape.sub(lambda match: chr(int(match[1], 16)), component)
            for component in components
        ]
    return tuple(components)


def new_from_wire(text: str, separator: str) -> Name:
    """The name that CREATE makes: a separator at the end only says what is planned (RFC 3501 §6.3.3)."""
    return from_wire(text.removesuffix(separator), separator)
