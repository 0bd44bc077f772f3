"""The header of an internationalized message (RFC 6532) for a client that takes ASCII only (RFC 6856 §2.1).

Texts become encoded words; an address that cannot be written in ASCII is replaced by one that nobody has, with the name
or the address itself as its name; other fields that are not ASCII are left out. ASCII fields stay as they are. Linear.
"""

import re

from pillarbox.mime.address_list import AddressStructure, parse_address_list
from pillarbox.mime.build import encode_words, format_field
from pillarbox.mime.header import MAX_VALUE, decode_header, field_value, split_header

NOBODY = b"<not-in-ascii@address.invalid>"
"""There is no such domain."""

_ADDRESSES = frozenset(
    prefix + name
    for prefix in (b"", b"resent-")
    for name in (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
)
_TEXTS = frozenset((b"subject", b"comments", b"keywords", b"content-description", b"thread-topic"))
_PARAMETERS = frozenset((b"content-type", b"content-disposition"))
_DOT_ATOM = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_PHRASE = re.compile(r"[A-Za-z0-9 !#$%&'*+/=?^_`{|}~-]*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def ascii_header(block: bytes) -> bytes:
    """A header block with its blank line, in ASCII; itself if it is that already.

    `"Subject: ä\\r\\n\\r\\n"` -> `b"Subject: =?utf-8?B?w6Q=?=\\r\\n\\r\\n"`.
    """
    if block.isascii():
        return block
    fields = [
        raw
        if (raw := block[start:end]).isascii()
        else _field(name, raw, field_value(block, start, end))
        for name, start, end in split_header(block)
    ]
    return b"".join((*fields, b"\r\n"))


def _field(name: bytes, raw: bytes, value: bytes) -> bytes:
    """A whole field, b"" if it cannot be shown."""
    value = value[:MAX_VALUE]
    shown = raw.partition(b":")[0].strip()
    if not shown.isascii() or len(shown) > 76:
        return b""
    if name in _TEXTS:
        return format_field(shown.decode("ascii"), _CONTROLS.sub(" ", decode_header(value)))
    if name in _ADDRESSES:
        return shown + b": " + _addresses(parse_address_list(value)) + b"\r\n"
    if name in _PARAMETERS:
        # A name of a file with marks in place of letters is better than no file.
        text = _CONTROLS.sub(" ", value.decode("utf-8", "replace"))
        return shown + b": " + _NOT_ASCII.sub("_", text).strip().encode("ascii") + b"\r\n"
    return b""


def _addresses(entries: list[AddressStructure]) -> bytes:
    shown: list[bytes] = []
    separator = b""
    for entry in entries:
        if entry.host is None and entry.mailbox is None:
            shown.append(b";")
            separator = b",\r\n "
        elif entry.host is None:
            shown.append(separator + _name(entry.mailbox or b"") + b":")
            separator = b" "
        else:
            shown.append(separator + _address(entry))
            separator = b",\r\n "
    return b"".join(shown)


def _address(entry: AddressStructure) -> bytes:
    local, host = entry.mailbox or b"", entry.host or b""
    if not (local.isascii() and host.isascii()):
        return _name(entry.name or b"%b@%b" % (local, host)) + b" " + NOBODY
    if not _DOT_ATOM.fullmatch(local):
        local = b'"%b"' % re.sub(rb'(["\\])', rb"\\\1", local)
    address = b"%b@%b" % (local, host) if host else local
    return b"%b <%b>" % (_name(entry.name), address) if entry.name else address


def _name(octets: bytes) -> bytes:
    """A phrase (RFC 5322 §3.2.5, RFC 2047 §5): words, a quoted string or encoded words."""
    text = _CONTROLS.sub(" ", decode_header(octets)).strip()
    if text.isascii() and "=?" not in text:
        if _PHRASE.fullmatch(text):
            return text.encode("ascii")
        return b'"%b"' % re.sub(r'(["\\])', r"\\\1", text).encode("ascii")
    return encode_words(text)
