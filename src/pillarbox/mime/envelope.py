"""ENVELOPE in wire form (RFC 3501 §7.4.2, RFC 9051 §7.5.2)."""

from typing import NamedTuple

from pillarbox.mime.address_list import AddressStructure, parse_address_list
from pillarbox.mime.fold import LONGEST_ORDERED, order_key
from pillarbox.mime.header import HeaderValues, decode_ordered
from pillarbox.mime.remember import remembering
from pillarbox.mime.wire import nstring

_ADDRESS_FIELDS = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
ENVELOPE_FIELDS = frozenset((*_ADDRESS_FIELDS, b"date", b"subject", b"in-reply-to", b"message-id"))


class AddressField(NamedTuple):
    """What is kept of an address list that has an entry."""

    wire: bytes
    """As in ENVELOPE."""
    key: str
    """addr-mailbox of the first entry, as SORT compares it (RFC 5256 §3), of LONGEST_ORDERED characters."""


Addresses = dict[bytes, AddressField]
"""By lower-case field name; empty lists are left out."""


def parse_addresses(values: HeaderValues) -> Addresses:
    """The address lists of the header fields that ENVELOPE has."""
    return {
        name: found
        for name in _ADDRESS_FIELDS
        if (value := values.get(name)) and (found := _parse(value)) is not None
    }


def _parse_field(value: bytes) -> AddressField | None:
    entries = parse_address_list(value)
    if not entries:
        return None
    mailbox, is_text = decode_ordered(entries[0].mailbox or b"")
    key = order_key(mailbox[:LONGEST_ORDERED], is_text=is_text)
    return AddressField(_render_addresses(entries), key)


_parse = remembering(_parse_field, longest=160, most=2048)


def render_envelope(values: HeaderValues, addresses: Addresses) -> bytes:
    """ENVELOPE, parenthesised. Values stay as they came: encoded words, 8-bit octets (as literals).

    An absent field is NIL, an empty one of the four that are strings is `""`; an absent or empty Sender or Reply-To
    is the From.
    """
    from_ = _wire(addresses, b"from")
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(values.get(b"date")),
        nstring(values.get(b"subject")),
        from_,
        _wire(addresses, b"sender", from_),
        _wire(addresses, b"reply-to", from_),
        _wire(addresses, b"to"),
        _wire(addresses, b"cc"),
        _wire(addresses, b"bcc"),
        nstring(values.get(b"in-reply-to")),
        nstring(values.get(b"message-id")),
    )


def _wire(addresses: Addresses, name: bytes, default: bytes = b"NIL") -> bytes:
    found = addresses.get(name)
    return default if found is None else found.wire


def _render_addresses(entries: list[AddressStructure]) -> bytes:
    rendered = [
        b"(%b %b %b %b)"
        % (nstring(entry.name), nstring(entry.adl), nstring(entry.mailbox), nstring(entry.host))
        for entry in entries
    ]
    return b"(%b)" % b"".join(rendered)
