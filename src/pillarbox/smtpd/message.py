"""A message between its reception and its delivery: loops found, mended, parsed (RFC 5321 §4.4, RFC 6409 §8).

Pure, and slow for large messages: over LARGEST_INLINE octets, call `prepare` in a thread.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from pillarbox.delivery.trace import field_pattern, is_loop, remove_return_path
from pillarbox.mime.address_list import parse_address_list
from pillarbox.mime.header import MAX_VALUE, header_end, split_header, unfold
from pillarbox.smtp.reply import MAIL_LOOP, SENDER_NOT_YOURS, Reply
from pillarbox.store.content import Content, make_content

LARGEST_INLINE = 256 * 1024
"""Octets of a message that is prepared on the event loop."""

MOST_AUTHORS = 100
"""Addresses in From and Sender of a submitted message."""

_USUAL_HEADER = 1 << 20

_FIRST_FIELD = re.compile(rb"[!-9;-~]++[ \t]*+:|\r\n")
_AUTHORS = field_pattern(b"from|sender")
_BCC = field_pattern(b"(?:resent-)?bcc")
_HAS_DATE = re.compile(rb"^date[ \t]*+:", re.MULTILINE | re.IGNORECASE)
_HAS_MESSAGE_ID = re.compile(rb"^message-id[ \t]*+:", re.MULTILINE | re.IGNORECASE)


@dataclass(slots=True)
class Additions:
    """What a submitted message gets if it lacks them."""

    date: bytes
    message_id: bytes
    """With angle brackets."""


@dataclass(slots=True)
class Prepared:
    content: Content
    authors: list[str]
    """Of a submitted message: the different addresses in From and Sender, as written."""


def prepare(
    octets: bytes | memoryview, recipients: Collection[str], additions: Additions | None
) -> Prepared | Reply:
    """Check and parse a message for canonical `recipients`; `additions` None: it is not a submission, and nothing is
    changed but that forged Return-Path fields go, and a body without any header gets the blank line before it.

    The reply refuses it: MAIL_LOOP, or SENDER_NOT_YOURS where there are more authors than can be checked.
    """
    block = _header_block(octets)
    if is_loop(block, recipients):
        return MAIL_LOOP
    header = remove_return_path(block)
    if _FIRST_FIELD.match(header) is None and not split_header(header):
        header = (
            b"\r\n" + header
        )  # all of it is body; else the fields put in front would take it in
    authors: list[str] = []
    if additions is not None:
        found = find_authors(header)
        if found is None:
            return SENDER_NOT_YOURS
        authors = found
        header = mend_header(header, additions)
    if header is not block:
        octets = b"".join((header, octets[len(block) :]))
    return Prepared(make_content(octets), authors)


def _header_block(octets: bytes | memoryview) -> bytes:
    if isinstance(octets, memoryview):
        beginning = octets[:_USUAL_HEADER].tobytes()
        end = header_end(beginning)
        octets = beginning if end < _USUAL_HEADER else octets.tobytes()
    return octets[: header_end(octets)]


def find_authors(header: bytes) -> list[str] | None:
    """The different addresses of all From and Sender fields, as written; None if there are over MOST_AUTHORS, or so
    much text that they are not all looked at. An address without a domain ends with "@"."""
    authors: dict[str, None] = {}
    for match in _AUTHORS.finditer(header):
        value = unfold(match[0].partition(b":")[2])
        if len(value) > MAX_VALUE:
            return None
        for entry in parse_address_list(value):
            if entry.host is not None:  # else it opens or closes a group
                address = (entry.mailbox or b"") + b"@" + entry.host
                authors[address.decode("utf-8", "replace")] = None
        if len(authors) > MOST_AUTHORS:
            return None
    return list(authors)


def mend_header(header: bytes, additions: Additions) -> bytes:
    """Of a submission: Bcc goes (RFC 5322 §3.6.3), missing Date and Message-ID come (RFC 6409 §8.2, §8.3)."""
    if b"bcc" in header.lower():
        header = _BCC.sub(b"", header)
    added = b""
    if _HAS_DATE.search(header) is None:
        added += b"Date: %b\r\n" % additions.date
    if _HAS_MESSAGE_ID.search(header) is None:
        added += b"Message-ID: %b\r\n" % additions.message_id
    return added + header if added else header
