"""A message between its reception and its delivery: loops found, mended, parsed (RFC 5321 §4.4, RFC 6409 §8).

Pure, and slow for large and for binary messages: over `content.LARGEST_INLINE` octets, call `prepare` by
`Store.compute`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from pillarbox.delivery.trace import field_pattern, is_loop, remove_return_path
from pillarbox.mime.address_list import MAX_ADDRESSES, parse_address_list
from pillarbox.mime.convert import Transport, convert
from pillarbox.mime.header import header_end, split_header, unfold
from pillarbox.mime.lines import has_bare_cr_or_lf
from pillarbox.smtp.reply import MAIL_LOOP, NOT_CONVERTED, SENDER_NOT_YOURS, Reply
from pillarbox.store.content import Content, make_content

MOST_AUTHORS = 100
"""Addresses in From and Sender of a submitted message."""

LARGEST_AUTHORS = 8192
"""Octets of a From or Sender field of a submission: of these, the parser of addresses looks at all."""

LARGEST_HEADER = 1 << 20
"""Octets of a header block: what looks through all of it holds up everything else for that long."""

HEADER_TOO_LARGE = Reply(552, "5.3.4", "Message header is too large")

_FIRST_FIELD = re.compile(rb"[!-9;-~]++[ \t]*+:|\r\n")
_AUTHORS = field_pattern(b"from|sender")
_BCC = field_pattern(b"(?:resent-)?bcc")
_HAS_DATE = re.compile(rb"^date[ \t]*+:", re.MULTILINE | re.IGNORECASE)
_HAS_FROM = re.compile(rb"^from[ \t]*+:", re.MULTILINE | re.IGNORECASE)
_HAS_MESSAGE_ID = re.compile(rb"^message-id[ \t]*+:", re.MULTILINE | re.IGNORECASE)


@dataclass(slots=True)
class Additions:
    """What a submitted message gets if it lacks them."""

    date: bytes
    message_id: bytes
    """With angle brackets."""
    author: bytes = b""
    """For From; b"" where a message without it stays so."""


@dataclass(slots=True)
class Prepared:
    content: Content
    authors: list[str]
    """If they are checked: the different addresses in From and Sender, as written."""


def prepare(
    octets: bytes | memoryview,
    loop_marks: Collection[str],
    additions: Additions | None,
    *,
    checks_authors: bool = False,
    is_binary: bool = False,
    rendered: bool = False,
) -> Prepared | Reply:
    """Check a message, which has CRLF only unless it is binary. `loop_marks` are the addresses that Delivered-To of
    its copies will name. `additions` None: it is not a submission, and nothing is changed but that forged Return-Path
    fields go, and a body without any header gets the blank line before it. `checks_authors`: it must be found who they
    are. `rendered`: an account gets it, and as it is large that is done now, in this thread.

    `is_binary`: it came as BINARYMIME, and its binary parts are made base64 first of all.

    The reply refuses it: NOT_CONVERTED, HEADER_TOO_LARGE, MAIL_LOOP, or SENDER_NOT_YOURS where there are more authors
    than can be checked.
    """
    if is_binary:
        octets = convert(bytes(octets), Transport.EIGHT_BIT)
        if b"\0" in octets or has_bare_cr_or_lf(octets):
            return NOT_CONVERTED
    block = bytes(octets[: LARGEST_HEADER + 1])
    block = block[: header_end(block)]
    if not _has_fields(block):
        block = b""  # all of it is body
    if len(block) > LARGEST_HEADER:
        return HEADER_TOO_LARGE
    if is_loop(block, loop_marks):
        return MAIL_LOOP
    header = remove_return_path(block)
    if not _has_fields(header):
        header = b"\r\n" + header  # else the fields put in front would take the body in
    authors = find_authors(header) if checks_authors else []
    if authors is None:
        return SENDER_NOT_YOURS
    if additions is not None:
        header = mend_header(header, additions)
    if header is not block:
        octets = b"".join((header, octets[len(block) :]))
    content = (
        make_content(octets, has_crlf=True)
        if rendered
        else Content(octets, len(header), has_crlf=True)
    )
    return Prepared(content, authors)


def _has_fields(block: bytes) -> bool:
    """Whether a header block has any field, or the blank line that ends it."""
    if block[:1] in (
        b" ",
        b"\t",
    ):  # it would be read on as a part of the field that is put in front
        return False
    return _FIRST_FIELD.match(block) is not None or bool(split_header(block))


def find_authors(header: bytes) -> list[str] | None:
    """The different addresses of all From and Sender fields, as written; None if there are over MOST_AUTHORS, or so
    many fields, or so much text that they are not all looked at. An address without a domain ends with "@"."""
    authors: dict[str, None] = {}
    for number, match in enumerate(_AUTHORS.finditer(header), 1):
        value = unfold(match[0].partition(b":")[2])
        entries = parse_address_list(value) if len(value) <= LARGEST_AUTHORS else []
        if not entries or len(entries) >= MAX_ADDRESSES:
            return None  # not all of it was looked at, or it names nobody
        for entry in entries:
            if entry.host is not None:  # else it opens or closes a group
                address = (entry.mailbox or b"") + b"@" + entry.host
                authors[address.decode("utf-8", "replace")] = None
        if max(number, len(authors)) > MOST_AUTHORS:
            return None
    return list(authors)


def mend_header(header: bytes, additions: Additions) -> bytes:
    """Of a submission: Bcc goes (RFC 5322 §3.6.3), missing Date and Message-ID come (RFC 6409 §8.2, §8.3)."""
    lower = header.lower()
    if b"bcc" in lower:
        header = _BCC.sub(b"", header)
    added = b""
    # What is usual is found without the slower patterns.
    if b"\ndate:" not in lower and _HAS_DATE.search(header) is None:
        added += b"Date: %b\r\n" % additions.date
    if additions.author and _HAS_FROM.search(header) is None:
        added += b"From: %b\r\n" % additions.author
    if b"\nmessage-id:" not in lower and _HAS_MESSAGE_ID.search(header) is None:
        added += b"Message-ID: %b\r\n" % additions.message_id
    return added + header if added else header
