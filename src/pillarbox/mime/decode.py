"""Text of parts as people read it: for SEARCH, and a preview of the message (RFC 2045 §6, RFC 2046 §4.1, RFC 8970)."""

import re
from collections.abc import Iterator
from html import unescape

from pillarbox.mime.charset import decode_charset, decode_searched
from pillarbox.mime.header import decode_searched_header
from pillarbox.mime.parameters import find_parameter
from pillarbox.mime.structure import Part
from pillarbox.mime.transfer import decode_transfer

MAX_PREVIEW = 200
"""Characters (RFC 8970 §3.3)."""

_PREVIEW_OCTETS = (400, 4096, 65_536)
"""How much of a part is decoded for its preview: first a little, and more if that gives too little text."""
_PREVIEW_PARTS = 3
"""How many text parts are tried until one has text in it."""

# One pass, in which each alternative takes all up to its end or, unfinished, the rest: linear.
_MARKUP = re.compile(
    r"(?P<hidden><!--(?:.*?-->|.*+)|<(?P<name>script|style|title)\b(?:.*?</(?P=name)\s*+>|.*+))"
    r"|(?P<inline></?(?:a|abbr|b|big|code|em|font|i|s|small|span|strong|sub|sup|u)\b[^>]*+>?)"
    r"|<[/!?]?[a-z][^>]*+>?",
    re.IGNORECASE | re.DOTALL,
)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f]++")
_CUT_UTF8 = re.compile(rb"[\xc0-\xff][\x80-\xbf]{0,2}\Z")


def part_text(octets: bytes, part: Part) -> str:
    """What is searched in a text part, of which `octets` are the body."""
    charset = part.parameter(b"charset") or b""
    return decode_searched(decode_transfer(octets, part.encoding), charset)


def search_text(octets: bytes, root: Part) -> str:
    """What SEARCH BODY looks at in the message `octets`: the decoded text parts in order, and the headers of
    contained messages, a line each. Markup stays. The message's own header: `decode_searched_header` of its block."""
    base = -root.header_start
    pieces = []
    for part in _walk(root):
        if part.is_message:
            message = part.children[0]
            pieces.append(
                decode_searched_header(
                    octets[base + message.header_start : base + message.body_start]
                )
            )
        elif part.type == b"text":
            pieces.append(part_text(octets[base + part.body_start : base + part.end], part))
    return "\n".join(pieces)


def part_headers_text(octets: bytes, root: Part) -> str:
    """What SEARCH TEXT looks at beyond that in the message `octets`: the headers of parts, a line each, and what their
    parameters and those of the message say that does not stand there so, as the names of attachments may (RFC 2231)."""
    base = -root.header_start
    pieces = []
    for part in _walk(root):
        block = octets[base + part.header_start : base + part.body_start]
        if part is not root:
            pieces.append(decode_searched_header(block))
        for parameters in (part.parameters, part.disposition[1] if part.disposition else []):
            for name, _ in parameters:
                value = find_parameter(parameters, name.removesuffix(b"*"))
                if value and value not in block:
                    pieces.append(value.decode("utf-8", "replace"))
    return "\n".join(pieces)


def preview(octets: bytes, root: Part) -> str:
    """The first up to MAX_PREVIEW characters of the first text part that is no attachment and not empty, on one line,
    without markup; `""` where there is none (RFC 8970 §3)."""
    base = -root.header_start
    tried = 0
    for part in _walk(root):
        if part.type != b"text" or (part.disposition and part.disposition[0] == b"attachment"):
            continue
        start, end = base + part.body_start, base + part.end
        for limit in _PREVIEW_OCTETS:
            text = _preview_text(octets[start : min(end, start + limit)], part)
            if len(text) >= MAX_PREVIEW or end - start <= limit:
                break
        if text:
            return text[:MAX_PREVIEW]
        tried += 1
        if tried == _PREVIEW_PARTS:
            break
    return ""


def _preview_text(octets: bytes, part: Part) -> str:
    charset = part.parameter(b"charset") or b"us-ascii"
    # A character that the limit cut in two would make it look as if the text were not UTF-8.
    decoded = _CUT_UTF8.sub(b"", decode_transfer(octets, part.encoding))
    text = decode_charset(decoded, charset)
    if part.subtype == b"html":
        text = unescape(_MARKUP.sub(lambda markup: "" if markup["inline"] else " ", text))
    line = " ".join(text.split())
    return line if line.isprintable() else _CONTROLS.sub("", line)


def _walk(root: Part) -> Iterator[Part]:
    waiting = [root]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(reversed(part.children))
