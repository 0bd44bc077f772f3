"""What SEARCH looks at in a message, folded (RFC 3501 §6.4.4 BODY, HEADER, TEXT). Pure.

`header_texts`, and `search_text` and `part_headers_text` of `mime.decode` are what a search compares with; `index_text`
has every piece of them that is at least three characters long, and of the values of single fields, so that an index of
it misses nothing.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from pillarbox.mime.decode import part_headers_text, search_text
from pillarbox.mime.fold import fold, has_folded
from pillarbox.mime.header import (
    MAX_VALUE,
    decode_searched_header,
    header_end,
    header_values,
    split_header,
)
from pillarbox.mime.structure import MIME_FIELDS, Part, parse_structure

HEADER_PIECE = 128 * 1024
"""Octets of a header block that are decoded in one go."""

_FIELD_END = re.compile(rb"\n(?![ \t])")

_MOST_JOINED = 1 << 20
"""Octets that are compared in one call, but for those of many short fields."""

_FOLDED_ONCE = 64 * 1024
"""Characters of a text that is folded as a whole, which may make it 18 times as long."""

_LINE_ENDS = b"\r\n"
_UPPER = bytes(range(256)).upper()

_ASCII_CHARSET = re.compile(
    rb'CHARSET=("?)(?:US-ASCII|UTF-8|ISO-8859-\d+|WINDOWS-125\d)\1(?=[;\s]|\Z)'
)
"""In upper case, of what is no other text in any of these, if it is ASCII."""

_CONTENT = b"\nCONTENT-"
"""Where the fields begin that say what a text is, how it is encoded and what it is called (RFC 2045 §3, RFC 2183), in
upper case."""

_OF_CONTAINERS = (b"MULTIPART", b"RFC822", b"GLOBAL")
"""One of these is in the header of each message that has others in it, of which some text is in more than its body."""

Pairs = Sequence[tuple[int, bytes]]
"""Raw fields or header blocks under the numbers of their messages."""


def header_texts(block: bytes) -> Iterator[str]:
    """The text of a header block, for TEXT, in pieces that are searched one by one."""
    return (fold(decode_searched_header(piece)) for piece in _pieces(block))


def _structure(octets: bytes) -> Part:
    size = header_end(octets)
    block = octets[:size]
    return parse_structure(octets, size, header_values(block, split_header(block), MIME_FIELDS))


def field_text(raw: bytes) -> str:
    """The text of a raw field's value, for HEADER."""
    return fold(decode_searched_header(raw[:MAX_VALUE].partition(b":")[2]))


def fields_named(block: bytes, name: bytes) -> Iterator[bytes]:
    """The raw fields with a name (lower case)."""
    return (block[start:end] for field, start, end in split_header(block) if field == name)


def any_contains(fields: Iterable[bytes], wanted: str) -> bool:
    """Whether one of some raw fields has the text."""
    return any(wanted in field_text(raw) for raw in fields)


def fields_with(fields: Pairs, wanted: str) -> set[int]:
    """The numbers of the raw fields that have the folded text."""
    return {number for number, raw in _likely(fields, wanted) if wanted in field_text(raw)}


def blocks_with(blocks: Pairs, name: bytes, wanted: str) -> set[int]:
    """The numbers of the header blocks in which a field with the name (lower case) has the folded text."""
    return {
        number
        for number, block in _likely(blocks, wanted)
        if name in block.lower() and any_contains(fields_named(block, name), wanted)
    }


def _likely(texts: Pairs, wanted: str) -> Pairs:
    """Those in which the folded text may be. Plain ones are compared all in one, their line ends left out: between two
    of these a field's text is as it stands, in upper case."""
    if not wanted or "\r" in wanted or "\n" in wanted:
        return texts
    plain: Pairs = texts
    others: list[tuple[int, bytes]] = []
    joined = b"\0".join([text for _, text in texts])
    if len(joined) > _MOST_JOINED or not _is_plain(joined):
        plain, others = [], []
        for pair in texts:
            is_short = len(pair[1]) <= HEADER_PIECE
            (plain if is_short and _is_plain(pair[1]) else others).append(pair)
        joined = b"\0".join([text for _, text in plain])
    if not wanted.isascii():
        return others
    needle = wanted.encode("ascii")
    upper = _upper(joined, [needle])
    if needle not in upper:
        return others
    pieces = upper.split(b"\0")
    if len(pieces) != len(plain):  # some have NUL in them
        return texts
    return others + [pair for pair, piece in zip(plain, pieces, strict=True) if needle in piece]


def _upper(octets: bytes, wanted: Iterable[bytes]) -> bytes:
    """Plain ones folded; without their line ends, where something wanted has what may stand behind one in a field."""
    if any(b" " in each or b"\t" in each for each in wanted):
        return octets.translate(_UPPER, _LINE_ENDS)
    return octets.upper()


def _is_plain(octets: bytes) -> bool:
    """Whether they mean what they are: nothing is encoded (RFC 2047), and ASCII folds to ASCII."""
    return octets.isascii() and b"=?" not in octets


Wanted = Sequence[tuple[str, bool]]
"""Folded texts, all of which a message shall have: each anywhere in it (True: TEXT), or behind its header (BODY)."""


def messages_with(messages: Pairs, wanted: Wanted) -> set[int]:
    """The numbers of the whole messages that have the texts; each message is taken apart once at most."""
    return {number for number, octets in messages if _has_all(octets, wanted)}


def possible(messages: Pairs, wanted: Wanted) -> Pairs:
    """Those that a look at their octets does not dismiss: most that an index takes for possible are plain and have not
    the texts, and to take a message apart costs fifty times as much as to look at it, all of them in one."""
    needles = [
        text.encode("ascii")
        for text, _ in wanted
        if text.isascii() and "\r" not in text and "\n" not in text
    ]
    if not needles:
        return messages
    octets_of = [octets for _, octets in messages]
    joined = b"\0".join(octets_of)
    if len(joined) > HEADER_PIECE or not _reads_as_it_stands(octets_of, joined):
        return [pair for pair in messages if not _is_surely_without(pair[1], needles)]
    upper = _upper(joined, needles)
    ends = _places_of_nul(upper, len(messages))
    if len(ends) >= len(messages):  # some have NUL in them
        return messages
    having = set.intersection(*[set(_numbers_with(needle, upper, ends)) for needle in needles])
    return [messages[number] for number in sorted(having)]


def _numbers_with(needle: bytes, joined: bytes, ends: list[int]) -> Iterator[int]:
    """Which of some texts that end at `ends`, but for the last one, have a needle. To split them costs as much as to
    look into them."""
    place = joined.find(needle)
    while place >= 0:
        number = bisect_left(ends, place)
        yield number
        if number == len(ends):
            return
        place = joined.find(needle, ends[number] + 1)


def _places_of_nul(octets: bytes, most: int) -> list[int]:
    """The first ones. Faster than `count`, which looks at each octet, where there are few."""
    places: list[int] = []
    place = octets.find(b"\0")
    while place >= 0 and len(places) < most:
        places.append(place)
        place = octets.find(b"\0", place + 1)
    return places


def _is_surely_without(octets: bytes, needles: list[bytes]) -> bool:
    """The same of one message."""
    if len(octets) > HEADER_PIECE or b"\0" in octets:
        return False
    upper = _upper(octets, needles)
    return any(needle not in upper for needle in needles) and _reads_as_it_stands([octets], octets)


def _reads_as_it_stands(messages: Sequence[bytes], joined: bytes) -> bool:
    """Whether messages, here also all in one, are of ASCII and have nothing encoded in them, so that their text is in
    their octets."""
    if not joined.isascii():
        return False
    headers = b"\0\n".join([octets[: header_end(octets)] for octets in messages])
    if b"=?" in headers:
        return False
    # Whatever follows such a name, to the end of its header.
    _, *fields = (b"\n" + headers.upper()).split(_CONTENT)
    types = b"\n".join([field.partition(b"\0")[0] for field in fields])
    if _has_odd_parameters(types):
        return False
    if any(word in types for word in _OF_CONTAINERS):
        types = joined.upper()
        _, *fields = (b"\n" + types).split(_CONTENT)
        if b"=?" in types or any(_has_odd_parameters(each[: header_end(each)]) for each in fields):
            return False
    return (
        b"BASE64" not in types
        and b"QUOTED-PRINTABLE" not in types
        and types.count(b"CHARSET") == len(_ASCII_CHARSET.findall(types))
    )


def _has_odd_parameters(fields: bytes) -> bool:
    """Whether values may be other than they stand there: encoded or in pieces, with comments or quoted characters."""
    return b"*" in fields or b"(" in fields or b"\\" in fields


def _has_all(octets: bytes, wanted: Wanted) -> bool:
    root: Part | None = None
    part_headers: str | None = None
    body, is_folded = "", False
    block = octets[: header_end(octets)]
    for text, with_header in wanted:
        if with_header and any(text in piece for piece in header_texts(block)):
            continue
        if root is None:
            root = _structure(octets)
            body = search_text(octets, root)
            is_folded = len(body) <= _FOLDED_ONCE
            body = fold(body) if is_folded else body
        if text in body if is_folded else has_folded(body, text):
            continue
        if not with_header:
            return False
        if part_headers is None:
            part_headers = part_headers_text(octets, root)
        if not has_folded(part_headers, text):
            return False
    return True


def index_text(octets: bytes) -> str:
    """All that any of these searches could find in a whole message."""
    block = octets[: header_end(octets)]
    texts = list(header_texts(block))
    if not block.isascii() or b"=?" in block or len(texts) > 1:
        # Encoded words and 8-bit octets read otherwise in a field alone than in the block.
        texts += [field_text(block[start:end]) for _, start, end in split_header(block)]
    root = _structure(octets)
    texts += [fold(search_text(octets, root)), fold(part_headers_text(octets, root))]
    return "\n".join(texts)


def _pieces(block: bytes) -> Iterator[bytes]:
    """A header block in pieces of about HEADER_PIECE, each of whole fields where these are not too long: what is done
    with one lets no other thread run."""
    start = 0
    while len(block) - start > HEADER_PIECE:
        end = _FIELD_END.search(block, start + HEADER_PIECE, start + 2 * HEADER_PIECE)
        cut = end.end() if end is not None else start + 2 * HEADER_PIECE
        yield block[start:cut]
        start = cut
    yield block[start:]
