"""Server responses and their parts in wire form (RFC 3501 §7, §9).

Functions named after a response give it whole, with CRLF; those named after a part or a response code give just that.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from pillarbox.core.flags import SYSTEM_FLAG_TEXT
from pillarbox.imap.seqset import format_ranges, format_seqset
from pillarbox.imap.utf7 import encode_utf7
from pillarbox.mime.wire import nstring, string

_ATOM = re.compile(rb"[!#$&'+-\[\]^-z|}~]+")
_NOT_TEXT = dict.fromkeys((*range(32), 127), " ")


def astring(octets: bytes) -> bytes:
    """As it is if it can be, else a quoted string or a literal. Never an atom that reads as NIL."""
    if _ATOM.fullmatch(octets) is not None and octets.upper() != b"NIL":
        return octets
    return string(octets)


def mailbox(name: str, utf8: bool = False) -> bytes:
    """A mailbox name in modified UTF-7, or with `utf8` in UTF-8 (RFC 6855 §3)."""
    if utf8 and not name.isascii():
        octets = name.encode("utf-8", "replace")
        return b'"%b"' % octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return astring(name.encode("ascii") if utf8 else encode_utf7(name))


def flag_list(system: int, keywords: Iterable[bytes] = (), recent: bool = False) -> bytes:
    """`system` is bits of `core.flags`: `b"(\\\\Seen \\\\Recent $Junk)"`."""
    names = [SYSTEM_FLAG_TEXT[system]] if system else []
    if recent:
        names.append(b"\\Recent")
    return b"(%b)" % b" ".join([*names, *keywords])


def status_text(status: bytes, text: str, code: bytes = b"") -> bytes:
    """`OK [CODE] text`, without tag and CRLF. What is not printable ASCII in `text` becomes a space or "?"."""
    printable = text.translate(_NOT_TEXT).encode("ascii", "replace")
    return b"%b [%b] %b" % (status, code, printable) if code else b"%b %b" % (status, printable)


def capability(names: Sequence[bytes]) -> bytes:
    return b"* CAPABILITY %b\r\n" % b" ".join(names)


def enabled(names: Sequence[bytes]) -> bytes:
    return b"* ENABLED %b\r\n" % b" ".join(names) if names else b"* ENABLED\r\n"


def listing(
    attributes: Sequence[bytes],
    separator: str,
    name: str,
    response: bytes = b"LIST",
    extended: bytes = b"",
    utf8: bool = False,
) -> bytes:
    """A LIST or LSUB response; an empty `separator` is NIL: the name is flat. `extended` is extended data items as
    they go between parentheses (RFC 5258 §6)."""
    delimiter = nstring(separator.encode("ascii") if separator else None)
    more = b" (%b)" % extended if extended else b""
    words = b" ".join(attributes)
    return b"* %b (%b) %b %b%b\r\n" % (response, words, delimiter, mailbox(name, utf8), more)


def childinfo(selection: Iterable[str]) -> bytes:
    """The extended data item for names whose children a LIST selects (RFC 5258 §3.5)."""
    names = b" ".join(b'"%b"' % name.encode("ascii") for name in selection)
    return b'"CHILDINFO" (%b)' % names


def oldname(name: str, utf8: bool = False) -> bytes:
    """The extended data item for a mailbox that was renamed (RFC 5465 §5.4)."""
    return b'"OLDNAME" (%b)' % mailbox(name, utf8)


def status(name: str, items: Mapping[str, int | bytes], utf8: bool = False) -> bytes:
    """Values that are octets are in wire form."""
    values = b" ".join(
        b"%b %b" % (item.encode("ascii"), value if isinstance(value, bytes) else b"%d" % value)
        for item, value in items.items()
    )
    return b"* STATUS %b (%b)\r\n" % (mailbox(name, utf8), values)


def namespace(prefixes: tuple[str, str], separator: str) -> bytes:
    """One personal namespace and one of other users, with their prefixes; none that all share (RFC 2342 §5). A prefix
    is followed by the separator, but for an empty one."""
    delimiter = string(separator.encode("ascii"))
    spaces = [
        b"((%b %b))" % (string(encode_utf7(prefix + separator if prefix else "")), delimiter)
        for prefix in prefixes
    ]
    return b"* NAMESPACE %b NIL\r\n" % b" ".join(spaces)


def acl(mailbox_name: str, entries: Iterable[tuple[str, str]], utf8: bool = False) -> bytes:
    """The ACL response: identifiers and rights (RFC 4314 §3.6)."""
    words = [mailbox(mailbox_name, utf8)]
    for identifier, rights in entries:
        words += [astring(identifier.encode("utf-8")), astring(rights.encode("ascii"))]
    return b"* ACL %b\r\n" % b" ".join(words)


def listrights(
    mailbox_name: str, identifier: str, rights: Iterable[str], utf8: bool = False
) -> bytes:
    """The LISTRIGHTS response; of `rights` the first ones are always granted, the others may be (RFC 4314 §3.7)."""
    words = [mailbox(mailbox_name, utf8), astring(identifier.encode("utf-8"))]
    words += [astring(text.encode("ascii")) for text in rights]
    return b"* LISTRIGHTS %b\r\n" % b" ".join(words)


def myrights(mailbox_name: str, rights: str, utf8: bool = False) -> bytes:
    """The MYRIGHTS response (RFC 4314 §3.8)."""
    return b"* MYRIGHTS %b %b\r\n" % (mailbox(mailbox_name, utf8), astring(rights.encode("ascii")))


def quotaroot(mailbox_name: str, roots: Iterable[bytes], utf8: bool = False) -> bytes:
    """The QUOTAROOT response (RFC 9208 §4.2.2)."""
    names = [mailbox(mailbox_name, utf8), *(string(root) for root in roots)]
    return b"* QUOTAROOT %b\r\n" % b" ".join(names)


def quota(root: bytes, resources: Iterable[tuple[bytes, int, int]]) -> bytes:
    """The QUOTA response; resources, at least one, are name, usage and limit (RFC 9208 §4.2.1)."""
    triplets = b" ".join(b"%b %d %d" % resource for resource in resources)
    return b"* QUOTA %b (%b)\r\n" % (string(root), triplets)


def metadata(
    mailbox_name: str, entries: Iterable[tuple[str, bytes | None]], utf8: bool = False
) -> bytes:
    """The METADATA response with values; a mailbox "" is the server (RFC 5464 §4.4.1)."""
    name = mailbox(mailbox_name, utf8) if mailbox_name else b'""'
    pairs = b" ".join(
        b"%b %b" % (astring(entry.encode("ascii")), _value(value)) for entry, value in entries
    )
    return b"* METADATA %b (%b)\r\n" % (name, pairs)


def metadata_changed(mailbox_name: str, entries: Iterable[str], utf8: bool = False) -> bytes:
    """The METADATA response that only names entries (RFC 5464 §4.4.2); a mailbox "" is the server."""
    name = mailbox(mailbox_name, utf8) if mailbox_name else b'""'
    words = b" ".join(astring(entry.encode("ascii")) for entry in entries)
    return b"* METADATA %b %b\r\n" % (name, words)


def _value(value: bytes | None) -> bytes:
    if value is not None and b"\0" in value:
        return b"~{%d}\r\n%b" % (len(value), value)
    return nstring(value)


def identity(parameters: Mapping[str, str] | None) -> bytes:
    """The ID response (RFC 2971 §3.2)."""
    if not parameters:
        return b"* ID NIL\r\n"
    pairs = (string(word.encode()) for pair in parameters.items() for word in pair)
    return b"* ID (%b)\r\n" % b" ".join(pairs)


def appenduid(uidvalidity: int, uids: Iterable[int]) -> bytes:
    """Response code (RFC 4315 §3); the UIDs ascend."""
    return b"APPENDUID %d %b" % (uidvalidity, format_seqset(uids))


def copyuid(uidvalidity: int, source_uids: Iterable[int], target_uids: Iterable[int]) -> bytes:
    """Response code (RFC 4315 §3); the UIDs of both ascend and belong together one by one."""
    sets = format_seqset(source_uids), format_seqset(target_uids)
    return b"COPYUID %d %b %b" % (uidvalidity, *sets)


def permanentflags(system: int, keywords: Iterable[bytes], new_keywords: bool) -> bytes:
    """Response code; `new_keywords`: the client can make new ones (`\\*`)."""
    star = (b"\\*",) if new_keywords else ()
    return b"PERMANENTFLAGS " + flag_list(system, (*keywords, *star))


def vanished(ranges: Iterable[tuple[int, int]], *, earlier: bool = False) -> bytes:
    """UIDs that are gone; `earlier`: from before this client's view (RFC 7162 §3.2.10)."""
    word = b"VANISHED (EARLIER)" if earlier else b"VANISHED"
    return b"* %b %b\r\n" % (word, format_ranges(ranges))


def highestmodseq(modseq: int) -> bytes:
    """Response code (RFC 7162 §3.1.2.1)."""
    return b"HIGHESTMODSEQ %d" % modseq
