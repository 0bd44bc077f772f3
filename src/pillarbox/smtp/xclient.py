"""XCLIENT: a client that is trusted says for whom it speaks (Postfix's XCLIENT_README).

Values are xtext (RFC 3461 §4); some old clients do not encode them, which makes no difference for what is allowed here.
"""

import re

from pillarbox.dsn.wishes import decode_xtext
from pillarbox.smtp.extensions import XCLIENT_ATTRIBUTES

_ATTRIBUTE = re.compile(rb"([A-Za-z]+)=([!-<>-~]{1,255})")
_UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})


def parse_xclient(argument: bytes) -> dict[str, str] | None:
    """Values by upper-case name, "" where one is unavailable; None if that is no list of known attributes.

    Example: `b"ADDR=192.0.2.1 NAME=[UNAVAILABLE]"` -> `{"ADDR": "192.0.2.1", "NAME": ""}`.
    """
    attributes: dict[str, str] = {}
    for word in argument.split():
        match = _ATTRIBUTE.fullmatch(word)
        name = match[1].decode("ascii").upper() if match else ""
        if match is None or name not in XCLIENT_ATTRIBUTES or name in attributes:
            return None
        value = decode_xtext(match[2].decode("ascii"))
        if not value.isascii() or not value.isprintable():
            return None
        attributes[name] = "" if value.upper() in _UNKNOWN else value
    return attributes or None
