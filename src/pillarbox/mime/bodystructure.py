"""BODY and BODYSTRUCTURE in wire form (RFC 3501 §7.4.2, RFC 9051 §7.5.2)."""

from pillarbox.mime.parameters import Parameters
from pillarbox.mime.structure import Part
from pillarbox.mime.wire import nstring, string


def render_structure(root: Part) -> tuple[bytes, bytes]:
    """BODY, without extension data, and BODYSTRUCTURE, with all of it. Types and names are in lower case."""
    body: list[bytes] = []
    bodystructure: list[bytes] = []
    waiting: list[Part | tuple[bytes, bytes]] = [root]  # parts, and what closes them in either form
    while waiting:
        item = waiting.pop()
        if isinstance(item, tuple):
            body.append(item[0])
            bodystructure.append(item[1])
            continue
        if item.is_multipart:
            opening = b"("
            closing = b" %b" % string(item.subtype)
            extension = b" " + _parameters(item.parameters)
        else:
            opening = b"(" + _basic_fields(item)
            closing = b" %d" % item.lines if item.type == b"text" or item.is_message else b""
            extension = b" " + nstring(item.md5)
            if item.is_message:
                opening += b" " + item.children[0].envelope + b" "
        body.append(opening)
        bodystructure.append(opening)
        waiting.append((closing + b")", b"%b%b%b)" % (closing, extension, _common_extension(item))))
        waiting.extend(reversed(item.children))
    return b"".join(body), b"".join(bodystructure)


def _basic_fields(part: Part) -> bytes:
    return b"%b %b %b %b %b %b %d" % (
        string(part.type),
        string(part.subtype),
        _parameters(part.parameters),
        nstring(part.content_id),
        nstring(part.description),
        string(part.encoding),
        part.end - part.body_start,
    )


def _common_extension(part: Part) -> bytes:
    """Disposition, language, location."""
    if part.disposition is None and not part.language and part.location is None:
        return b" NIL NIL NIL"
    disposition = language = b"NIL"
    if part.disposition is not None:
        kind, parameters = part.disposition
        disposition = b"(%b %b)" % (string(kind), _parameters(parameters))
    if len(part.language) == 1:
        language = string(part.language[0])
    elif part.language:
        language = b"(%b)" % b" ".join(map(string, part.language))
    return b" %b %b %b" % (disposition, language, nstring(part.location))


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(%b)" % b" ".join(
        [b"%b %b" % (string(name), string(value)) for name, value in parameters]
    )
