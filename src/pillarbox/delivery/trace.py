"""Trace fields at final delivery: Return-Path and Delivered-To, and the loops that they show (RFC 5321 §4.4, §6.3).

Looks into the header block of whole messages only where a cheap search says that there is something to see.
"""

import re
from collections.abc import Collection

MOST_RECEIVED_FIELDS = 100
"""RFC 5321 §6.3: a limit should be 100 or more."""


def field_pattern(names: bytes) -> re.Pattern[bytes]:
    """Matches whole fields with their folded lines, in a header block; `names` are separated by "|"."""
    return re.compile(
        rb"^(?:%b)[ \t]*+:[^\n]*+\n?(?:[ \t][^\n]*+\n?)*+" % names, re.MULTILINE | re.IGNORECASE
    )


_DELIVERED_TO = re.compile(rb"^delivered-to[ \t]*:[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_RETURN_PATH = field_pattern(b"return-path")


def is_loop(block: bytes, addresses: Collection[str]) -> bool:
    """Whether a header block shows that the message was here before: too many Received fields, or a Delivered-To
    that names one of the canonical `addresses`."""
    lower = b"\n" + block.lower()
    if lower.count(b"\nreceived:") > MOST_RECEIVED_FIELDS:
        return True
    if b"\ndelivered-to" not in lower:
        return False
    delivered = {value.strip() for value in _DELIVERED_TO.findall(lower)}
    return any(address.encode() in delivered for address in addresses)


def remove_return_path(block: bytes) -> bytes:
    """The header block without Return-Path fields: only final delivery writes one (RFC 5321 §4.4)."""
    return _RETURN_PATH.sub(b"", block) if b"return-path" in block.lower() else block


def delivery_fields(reverse_path: str, address: str, received: bytes) -> bytes:
    """What stands in front of a delivered message. `reverse_path` has no angle brackets; "" is the null path."""
    return b"Return-Path: <%b>\r\nDelivered-To: %b\r\n%b" % (
        reverse_path.encode(),
        address.encode(),
        received,
    )
