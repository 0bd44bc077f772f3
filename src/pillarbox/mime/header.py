"""Header blocks: where they end, their fields, and the text of a field (RFC 5322 §2.2, RFC 2047, RFC 6532).

A field is a name, a colon and a value; lines that begin with a space or a tab continue it. Lines that are
neither (an mbox `From ` line, stray text) belong to no field. CRLF and bare LF both end a line.
"""

import re
from binascii import a2b_qp
from collections.abc import Iterator
from itertools import islice

from pillarbox.mime.charset import decode_charset, decode_guess, decode_valid, with_octets
from pillarbox.mime.transfer import decode_base64

MAX_FIELDS = 10_000
"""Fields of one header block that `split_header` lists; later ones are as if they were not there."""

MAX_VALUE = 65_536
"""Octets of one field that are examined and rendered; the rest of a longer field is not looked at."""

FIELDS_A_SLICE = 4096
"""That are looked at in one go: one to five milliseconds."""

_FIRST_SEARCHED = 1 << 10
_MOST_SEARCHED = 1 << 20
"""Octets that are searched in one call, which lets no other thread run."""

FieldSpan = tuple[bytes, int, int]
"""Lower-case name; start and end (exclusive) of the raw field in its block: name, folding, final line end."""

# RFC 5322 §2.2 and, for white space before the colon, §4.5. Possessive, so that no input makes it back-track.
_FIELD = re.compile(
    rb"^([^\x00-\x20\x7f:]++)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+\n?",
    re.MULTILINE,
)
# RFC 2047 §2, with an RFC 2231 §5 language after the charset; spaces in the text are tolerated.
_ENCODED_WORD = re.compile(rb"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\r\n]*)\?=")


def header_end(octets: bytes, start: int = 0) -> int:
    """Offset of the first octet after the blank line that ends the header block at `start`; without a blank
    line all of it is header (RFC 5322 §2.1).

    `b"A: b\\r\\n\\r\\nbody"` -> 8.
    """
    if octets.startswith(b"\r\n", start):
        return start + 2
    if octets.startswith(b"\n", start):
        return start + 1
    length = _FIRST_SEARCHED
    while True:
        # A regular expression would look at each octet; what is far behind the one blank line keeps nobody from finding
        # the other.
        stop = start + length
        if (crlf := octets.find(b"\n\r\n", start, stop)) >= 0:
            stop = crlf + 1
        if (lf := octets.find(b"\n\n", start, stop)) >= 0:
            return lf + 2
        if crlf >= 0:
            return crlf + 3
        if stop >= len(octets):
            return len(octets)
        start = stop - 2  # it may lie across the cut
        length = min(2 * length, _MOST_SEARCHED)


def split_header(block: bytes) -> list[FieldSpan]:
    """The fields of a header block in order, at most MAX_FIELDS.

    `b"To: a@b\\r\\n\\r\\n"` -> `[(b"to", 0, 9)]`.
    """
    return [
        (match[1].lower(), match.start(), match.end())
        for match in islice(_FIELD.finditer(block), MAX_FIELDS)
    ]


def field_value(block: bytes, start: int, end: int) -> bytes:
    """The value of the raw field at `start` to `end`: unfolded (RFC 5322 §2.2.3), without white space around it,
    cut at MAX_VALUE octets."""
    value = block[block.index(b":", start, end) + 1 : end]
    return unfold(value[:MAX_VALUE])


def unfold(raw: bytes) -> bytes:
    """RFC 5322 §2.2.3: line ends before white space go, and so does white space around the value."""
    value = raw.strip(b" \t\r\n")
    if b"\n" not in value:
        return value
    # A regular expression would look at each octet.
    first, *others = value.split(b"\n")
    pieces = [first]
    for line in others:
        if line.startswith((b" ", b"\t")):
            pieces[-1] = pieces[-1].removesuffix(b"\r")
        else:
            pieces.append(b"\n")
        pieces.append(line)
    return b"".join(pieces)


HeaderValues = dict[bytes, bytes]
"""Unfolded values by lower-case name."""

_DESTINATIONS = frozenset((b"to", b"cc", b"bcc"))


def header_values(block: bytes, fields: list[FieldSpan], wanted: frozenset[bytes]) -> HeaderValues:
    """The values of the `wanted` ones (lower case) of `fields`. Of a repeated field the first counts, but
    destinations are joined to one list (RFC 5322 §4.5.3)."""
    values: HeaderValues = {}
    repeated: dict[bytes, list[bytes]] = {}
    for name, start, end in fields:
        if name in wanted:
            if name not in values:
                values[name] = field_value(block, start, end)
            elif name in _DESTINATIONS:
                repeated.setdefault(name, []).append(field_value(block, start, end))
    for name, more in repeated.items():
        values[name] = b",".join((values[name], *more))[:MAX_VALUE]
    return values


def select_fields(
    block: bytes, names: frozenset[bytes], *, invert: bool = False
) -> Iterator[bytes]:
    """The raw fields with one of `names` (lower case), or with none of them, and a blank line: what
    BODY[HEADER.FIELDS (...)] and BODY[HEADER.FIELDS.NOT (...)] return (RFC 3501 §6.4.5). In pieces, each of what is
    chosen of FIELDS_A_SLICE fields."""
    matches = _FIELD.finditer(block)
    end = b"\r\n"
    while fields := [
        match[0] if (match[1].lower() in names) is not invert else b""
        for match in islice(matches, FIELDS_A_SLICE)
    ]:
        piece = b"".join(fields)
        if piece:
            end = b"\r\n" if piece.endswith(b"\n") else b"\r\n\r\n"
        yield piece
    yield end


def decode_header(raw: bytes) -> str:
    """The text of a field's value, or of a whole header block: unfolded, encoded words decoded (RFC 2047), other
    8-bit octets read as UTF-8 (RFC 6532) or else Latin-1.

    `b"=?utf-8?Q?caf=C3=A9?= au lait"` -> `"café au lait"`. White space between two encoded words goes (RFC 2047
    §6.2), and their octets are joined before decoding, so a character that was cut in two survives.
    """
    value = unfold(raw)
    if b"=?" not in value:
        return decode_guess(value)
    return "".join([decode_charset(octets, charset) for octets, charset in _runs(value)])


def decode_ordered(raw: bytes) -> tuple[str, bool]:
    """What a field's value is sorted by: its text, and True; or, where that is in an unknown charset or not valid in
    its own, its octets without encoding, each as a character, and False (RFC 5255 §4.6)."""
    value = unfold(raw)
    if b"=?" not in value:
        return decode_guess(value), True
    runs = _runs(value)
    try:
        return "".join([decode_valid(octets, charset) for octets, charset in runs]), True
    except ValueError:
        return b"".join([octets for octets, _ in runs]).decode("latin-1"), False


def decode_searched_header(raw: bytes) -> str:
    """What is searched in a field's value, or in a whole header block, as in `charset.decode_searched`."""
    text, is_text = decode_ordered(raw)
    return text if is_text else with_octets(decode_header(raw), text.encode("latin-1"))


def _runs(value: bytes) -> list[tuple[bytes, bytes]]:
    """The octets of an unfolded value, and the charset that encoded words name for them, in lower case; b"" for what
    stands between these."""
    runs: list[tuple[bytes, bytes]] = []
    run: list[bytes] = []  # octets of adjacent encoded words in one charset
    charset = b""
    position = 0
    for match in _ENCODED_WORD.finditer(value):
        named, encoding, text = match.groups()
        named = named.lower()
        between = value[position : match.start()]
        is_adjacent = bool(run) and not between.strip(b" \t\r\n")
        if run and not (is_adjacent and named == charset):
            runs.append((b"".join(run), charset))
            run = []
        if between and not is_adjacent:
            runs.append((between, b""))
        charset = named
        position = match.end()
        run.append(decode_base64(text) if encoding in b"bB" else a2b_qp(text, header=True))
    if run:
        runs.append((b"".join(run), charset))
    if position < len(value):
        runs.append((value[position:], b""))
    return runs
