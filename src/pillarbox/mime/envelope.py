"""ENVELOPE in wire form (RFC 3501 §7.4.2, RFC 9051 §7.5.2)."""

from pillarbox.mime.address_list import AddressStructure, parse_address_list
from pillarbox.mime.header import HeaderValues
from pillarbox.mime.wire import nstring

_ADDRESS_FIELDS = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
ENVELOPE_FIELDS = frozenset((*_ADDRESS_FIELDS, b"date", b"subject", b"in-reply-to", b"message-id"))

Addresses = dict[bytes, list[AddressStructure]]
"""Address lists by lower-case field name; empty lists are left out."""


def parse_addresses(values: HeaderValues) -> Addresses:
    """The address lists of the header fields that ENVELOPE has."""
    return {
        name: entries
        for name in _ADDRESS_FIELDS
        if (value := values.get(name)) and (entries := parse_address_list(value))
    }


def render_envelope(values: HeaderValues, addresses: Addresses) -> bytes:
    """ENVELOPE, parenthesised. Values stay as they came: encoded words, 8-bit octets (as literals).

    An absent field is NIL, an empty one of the four that are strings is `""`; an absent or empty Sender or Reply-To
    is the From.
    """
    from_ = _render_addresses(addresses.get(b"from"))
    sender = addresses.get(b"sender")
    reply_to = addresses.get(b"reply-to")
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(values.get(b"date")),
        nstring(values.get(b"subject")),
        from_,
        from_ if sender is None else _render_addresses(sender),
        from_ if reply_to is None else _render_addresses(reply_to),
        _render_addresses(addresses.get(b"to")),
        _render_addresses(addresses.get(b"cc")),
        _render_addresses(addresses.get(b"bcc")),
        nstring(values.get(b"in-reply-to")),
        nstring(values.get(b"message-id")),
    )


def _render_addresses(entries: list[AddressStructure] | None) -> bytes:
    if not entries:
        return b"NIL"
    rendered = [
        b"(%b %b %b %b)"
        % (nstring(entry.name), nstring(entry.adl), nstring(entry.mailbox), nstring(entry.host))
        for entry in entries
    ]
    return b"(%b)" % b"".join(rendered)
