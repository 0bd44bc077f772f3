"""A message, parsed once at delivery: all that IMAP and POP3 will ask for (RFC 5322, RFC 2045, RFC 3501 §7.4.2).

Any octets are a message. Nothing is changed in them and nothing here raises because of them; what a field says wrongly
is left out or has the default that its RFC gives. Not done here: DKIM, policy, and anything that needs the clock.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from pillarbox.mime.bodystructure import render_structure
from pillarbox.mime.date import parse_date
from pillarbox.mime.decode import preview
from pillarbox.mime.envelope import (
    ENVELOPE_FIELDS,
    Addresses,
    parse_addresses,
    render_envelope,
)
from pillarbox.mime.fold import order_key
from pillarbox.mime.header import (
    FieldSpan,
    HeaderValues,
    decode_ordered,
    header_end,
    header_values,
    split_header,
)
from pillarbox.mime.parts import pack_parts
from pillarbox.mime.structure import MIME_FIELDS, Part, parse_structure
from pillarbox.mime.subject import base_subject

__all__ = [
    "MAX_REFERENCES",
    "Message",
    "Part",
    "SortKeys",
    "parse_message",
    "parse_message_ids",
    "sort_keys",
]

MAX_REFERENCES = 1000
"""Message ids of one References field that are kept: the last, which are the nearest ancestors."""

_WANTED = ENVELOPE_FIELDS | MIME_FIELDS | {b"references"}
_MESSAGE_ID = re.compile(rb"<([^<>@]*+@[^<>]*+)>")
_QUOTING = re.compile(rb'\\(.)|"', re.DOTALL)


class SortKeys(NamedTuple):
    """What SORT and THREAD compare of a message."""

    base_subject: str
    """RFC 5256 §2.1, as `fold.order_key` has it, like the three keys below."""
    is_reply: bool
    """Whether the subject says reply or forward (RFC 5256 §3, REFERENCES)."""
    from_key: str
    """addr-mailbox of the first address (RFC 5256 §3), `""` without one."""
    to_key: str
    cc_key: str


@dataclass(slots=True)
class Message:
    """What is known of a message after one pass over its octets. Wire forms fit in any IMAP4rev1 response."""

    header_size: int
    """Octets of the header block including its blank line; all of them where there is no blank line."""
    root: Part
    fields: list[FieldSpan]
    """The first MAX_FIELDS header fields in order: lower-case name, start and end in the header block."""
    envelope: bytes
    bodystructure: bytes
    body: bytes
    """BODY: BODYSTRUCTURE without extension data."""
    parts: bytes
    """The packed part table (`mime.parts`)."""
    sent: int | None
    """The Date field, packed (`core.dates`); None if absent or unusable."""
    keys: SortKeys
    message_id: bytes
    """Without angle brackets and quoting (RFC 5256 §3); b"" if absent or unusable."""
    references: list[bytes]
    """Likewise, oldest first: the ids of References, else the first of In-Reply-To."""
    preview: str
    """At most 200 characters (RFC 8970)."""


def parse_message(octets: bytes | memoryview) -> Message:
    """Parses a whole message, in time and memory linear in its size."""
    if isinstance(octets, memoryview):
        octets = octets.tobytes()
    header_size = header_end(octets)
    block = octets[:header_size]
    fields = split_header(block)
    values = header_values(block, fields, _WANTED)
    addresses = parse_addresses(values)
    root = parse_structure(octets, header_size, values)
    body, bodystructure = render_structure(root)
    message_ids = parse_message_ids(values.get(b"message-id", b""))
    references = parse_message_ids(values.get(b"references", b""))[-MAX_REFERENCES:]
    return Message(
        header_size=header_size,
        root=root,
        fields=fields,
        envelope=render_envelope(values, addresses),
        bodystructure=bodystructure,
        body=body,
        parts=pack_parts(root),
        sent=parse_date(values[b"date"]) if b"date" in values else None,
        keys=sort_keys(values, addresses),
        message_id=message_ids[0] if message_ids else b"",
        references=references or parse_message_ids(values.get(b"in-reply-to", b""))[:1],
        preview=preview(octets, root),
    )


def parse_message_ids(value: bytes) -> list[bytes]:
    """The message ids of an unfolded References, In-Reply-To or Message-ID field, normalised (RFC 5256 §3).

    `b'<"a"@b> <c@d>'` -> `[b"a@b", b"c@d"]`. White space, which folding may leave inside of an id, goes.
    """
    return [
        b"".join(_QUOTING.sub(rb"\1", message_id).split())
        for message_id in _MESSAGE_ID.findall(value)
    ]


def sort_keys(values: HeaderValues, addresses: Addresses) -> SortKeys:
    """From the values of Subject, From, To and Cc, and the address lists in these."""
    subject, is_text = decode_ordered(values.get(b"subject", b""))
    base, is_reply = base_subject(subject)
    return SortKeys(
        order_key(base, is_text=is_text),
        is_reply,
        _address_key(addresses, b"from"),
        _address_key(addresses, b"to"),
        _address_key(addresses, b"cc"),
    )


def _address_key(addresses: Addresses, name: bytes) -> str:
    found = addresses.get(name)
    return "" if found is None else found.key
