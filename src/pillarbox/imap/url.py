"""IMAP URLs of messages and their parts, relative to the server (RFC 5092 §11, as CATENATE needs them: RFC 4469 §3).

Only what names a message of the session's own account is parsed: no scheme, no server, no search, no URLAUTH.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from pillarbox.core.errors import Failure
from pillarbox.imap.grammar import Cursor, fold_inbox
from pillarbox.imap.seqset import MAX_NUMBER
from pillarbox.imap.syntax_fetch import Section, parse_section

_CHARS = r"(?:[A-Za-z0-9\-._~!$'()*+,&=:@/]|%[0-9A-Fa-f]{2})"
_MESSAGE_PART = re.compile(
    rf"(?![A-Za-z][A-Za-z0-9+.\-]*:|//)(?:/?(?P<mailbox>{_CHARS}+?)(?:;UIDVALIDITY=(?P<uidvalidity>[1-9][0-9]{{0,9}}))?/)?"
    rf";UID=(?P<uid>[1-9][0-9]{{0,9}})"
    rf"(?:/;SECTION=(?P<section>{_CHARS}+?))?"
    r"(?:/;PARTIAL=(?P<first>[0-9]{1,10})(?:\.(?P<count>[1-9][0-9]{0,9}))?)?",
    re.IGNORECASE,
)


@dataclass(slots=True)
class MessageUrl:
    """`mailbox` None: the selected one. `uidvalidity` 0: any. `partial` is (first octet, count)."""

    mailbox: str | None
    uidvalidity: int
    uid: int
    section: Section
    partial: tuple[int, int] | None


def parse_message_url(url: bytes) -> MessageUrl:
    """`b"/Drafts;UIDVALIDITY=3/;UID=20/;SECTION=1.MIME"`; ValueError if it is not the URL of a message or part."""
    match = _MESSAGE_PART.fullmatch(url.decode("ascii"))
    if match is None:
        raise ValueError("not a relative IMAP URL of a message or a part of one")
    mailbox = match["mailbox"]
    name = None if mailbox is None else fold_inbox(unquote_to_bytes(mailbox).decode("utf-8"))
    partial = None
    if match["first"] is not None:
        partial = int(match["first"]), int(match["count"] or MAX_NUMBER)
    uidvalidity = int(match["uidvalidity"] or 0)
    return MessageUrl(name, uidvalidity, int(match["uid"]), _section(match["section"]), partial)


def _section(text: str | None) -> Section:
    if text is None:
        return Section()
    cursor = Cursor(b"[%b]" % unquote_to_bytes(text))
    try:
        section, _ = parse_section(cursor)
        cursor.end()
    except Failure as failure:
        raise ValueError(failure.text) from None
    return section
