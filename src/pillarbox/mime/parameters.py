"""Content-Type, Content-Disposition and their parameters (RFC 2045 §5.1, RFC 2183 §2, RFC 2231)."""

import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pillarbox.mime.charset import decode_charset
from pillarbox.mime.comments import remove_comments

MAX_PARAMETERS = 100
"""Parameters of one field; later ones are not looked at."""

Parameters = list[tuple[bytes, bytes]]
"""Lower-case name and value without quotes, in order, each name once (the first counts)."""

_TOKEN = rb"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?=]++"
_TYPE = re.compile(rb"\s*+(%b)\s*+/\s*+(%b)\s*+(?=;|\Z)" % (_TOKEN, _TOKEN))
_KEYWORD = re.compile(rb"\s*+(%b)" % _TOKEN)
_PARAMETER = re.compile(
    rb';\s*+([^\s=;"]++)\s*+=\s*+(?:"((?:[^"\\]++|\\.)*+)(?:"|\\?\Z)[^;]*+|([^;]*+))', re.DOTALL
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_CONTINUATION = re.compile(rb"([^*]+)\*(0|[1-9][0-9]{0,2})(\*?)")
_ATTRIBUTE_CHARS = "!#$&+^`{|}"
"""Beside those of `urllib`: what may stand as it is in an extended value (RFC 2231 §7 attribute-char)."""


def parse_content_type(value: bytes) -> tuple[bytes, bytes, Parameters] | None:
    """Type and subtype in lower case, and the parameters; None if it cannot be used.

    `b"Text/HTML; charset=utf-8"` -> `(b"text", b"html", [(b"charset", b"utf-8")])`.
    """
    value = remove_comments(value)
    match = _TYPE.match(value)
    if match is None:
        return None
    return match[1].lower(), match[2].lower(), _parse_parameters(value, match.end())


def parse_disposition(value: bytes) -> tuple[bytes, Parameters] | None:
    """The disposition type in lower case and its parameters; None if it cannot be used."""
    value = remove_comments(value)
    keyword = _KEYWORD.match(value)
    return keyword and (keyword[1].lower(), _parse_parameters(value, keyword.end()))


def parse_keyword(value: bytes) -> bytes | None:
    """The first token in lower case, as in Content-Transfer-Encoding; None without one."""
    keyword = _KEYWORD.match(remove_comments(value))
    return keyword and keyword[1].lower()


def find_parameter(parameters: Parameters, name: bytes) -> bytes | None:
    """The value of `name` (lower case); of its extended form in UTF-8 where there is only that (RFC 2231 §4)."""
    for key, value in parameters:
        if key == name:
            return value
    for key, value in parameters:
        if key == name + b"*":
            charset, _, rest = value.partition(b"'")
            text = decode_charset(unquote_to_bytes(rest.partition(b"'")[2]), charset)
            return text.encode("utf-8", "replace")
    return None


def _parse_parameters(value: bytes, position: int) -> Parameters:
    parameters: dict[bytes, bytes] = {}
    if position >= len(value):
        return []
    continued = False
    for match in _PARAMETER.finditer(value, position):
        name, quoted, plain = match.groups()
        if quoted is None:
            quoted = plain.rstrip()
        elif b"\\" in quoted:
            quoted = _QUOTED_PAIR.sub(rb"\1", quoted)
        parameters.setdefault(name.lower(), quoted)
        continued = continued or b"*" in name
        if len(parameters) >= MAX_PARAMETERS:
            break
    return _join_continuations(parameters) if continued else list(parameters.items())


def _join_continuations(parameters: dict[bytes, bytes]) -> Parameters:
    """`name*0`, `name*1` become `name`; `name*0*`, `name*1` become `name*`, still extended (RFC 2231 §3, §4.1).

    DEVIATES: RFC 9051 §7.5.2 would have `name*` converted to UTF-8, which IMAP4rev1 has no 7-bit form for; an
    extended value in one piece is what clients of either version can decode.
    """
    joined: dict[bytes, list[bytes]] = {}
    extended: set[bytes] = set()
    result: dict[bytes, bytes] = {}
    for key, value in parameters.items():
        match = _CONTINUATION.fullmatch(key)
        if match is None:
            result[key] = value
            continue
        name = match[1]
        if match[2] != b"0":
            continue
        section, first_extended = 0, bool(match[3])
        if first_extended:
            extended.add(name)
        pieces = joined.setdefault(name, [])
        while True:
            plain, encoded = (
                parameters.get(b"%b*%d%b" % (name, section, star)) for star in (b"", b"*")
            )
            piece = encoded if encoded is not None and (first_extended or plain is None) else plain
            if piece is None:
                break
            if first_extended and piece is plain:
                piece = quote_from_bytes(piece, _ATTRIBUTE_CHARS).encode("ascii")
            elif not first_extended and piece is encoded:
                piece = unquote_to_bytes(piece)
            pieces.append(piece)
            section += 1
        result.setdefault(name + b"*" if first_extended else name, b"".join(pieces))
    return list(result.items())
