"""Strings in the form in which they are compared: i;unicode-casemap (RFC 5051). Pure.

Two strings are equal, one is in the other, or one comes before the other as their forms are and do, character by
character: the order of code points is that of their octets in UTF-8 (§2, i;octet). All takes linear time.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from io import StringIO
from unicodedata import combining, normalize

FOLDED_PIECE = 1024
"""Characters that are folded in one call, which lets no other thread run."""
SEARCHED_AT_ONCE = 1 << 17
"""Folded characters that are looked through in one call, which lets no other thread run, and more for long texts."""

LONGEST_ORDERED = 500
"""Characters of an address or a name that are sorted by. Those that differ behind it are as if they were equal, so in
the order of the mailbox (RFC 5256 §3); only hostile mail has such names, and it costs others time to read."""

# `normalize` puts accents heaped on accents in order by insertion: its time grows with the square of their number. So
# runs of them that may be long are found, by looking at a few characters, and put in order here.
_SHORTEST_HEAP = 128
_FAR = 64
"""One character of so many is looked at; if one of those is a mark, one of so many:"""
_NEAR = 16
_LONG_RUN = re.compile(rb"[^\0]{8}")
"""So many marks among those, one behind the other: there may be 128 in the text."""
_PUT_IN_ORDER = 16
"""Characters that are left to `normalize` in a text with a long run."""
_HIDDEN_MARKS = frozenset("\u0f73\u0f75\u0f81\uff9e\uff9f")
"""Not marks by their combining class, but decomposed they are. A test looks at each code point."""

# Ranges with all characters but the sharp s whose upper case, by all that Unicode says, is not their simple titlecase:
# digraphs, what has no capital of its own, Georgian. A test looks at each code point.
_RANGES = "\u0149\u01c4-\u01cc\u01f0-\u01f3\u0390\u03b0\u0587\u10d0-\u10ff\u1e96-\u1e9a\u1f50-\u1ffc\ufb00-\ufb17"
_SPECIAL = re.compile(f"[{_RANGES}]")
_LAST = "\U0010ffff"


def fold(text: str) -> str:
    """`"caf\\u00e9"` -> `"CAFE\\u0301"`: each character in titlecase, then decomposed (RFC 5051 §2 no. 2)."""
    if text.isascii():
        return text.upper()
    if len(text) <= FOLDED_PIECE:
        return _folded(text)
    return "".join(_folded_pieces(text))


def has_folded(text: str, wanted: str) -> bool:
    """Whether the folded text `wanted` is in `fold(text)`. That may be 18 times as long as the text, and is never there
    as a whole."""
    if text.isascii():
        return wanted in text.upper()
    kept = ""
    waiting: list[str] = []
    length, most = 0, max(SEARCHED_AT_ONCE, len(wanted))
    for piece in _folded_pieces(text):
        waiting.append(piece)
        length += len(piece)
        if length >= most:
            joined = "".join((kept, *waiting))
            if wanted in joined:
                return True
            kept = joined[len(joined) - len(wanted) + 1 :] if wanted else ""
            waiting, length = [], 0
    return wanted in "".join((kept, *waiting))


def _folded_pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + FOLDED_PIECE
        while end < len(text) and _is_mark(text[end]):  # a mark stays with its letter
            end += 1
        yield _folded(text[start:end])
        start = end


def _folded(text: str) -> str:
    if len(text) >= _SHORTEST_HEAP and _may_be_heaped(text):
        return _in_order(text)
    return normalize("NFKD", _titlecased(text))


def _is_mark(character: str) -> bool:
    """Whether its decomposition begins with a mark."""
    return combining(character) > 0 or character in _HIDDEN_MARKS


def _may_be_heaped(text: str) -> bool:
    """Whether there may be a long run of marks in it; there is none otherwise."""
    few = text[::_FAR]
    if not any(map(combining, few)) and _HIDDEN_MARKS.isdisjoint(few):  # nearly always
        return False
    return _LONG_RUN.search(bytes(map(_is_mark, text[::_NEAR]))) is not None


def _in_order(text: str) -> str:
    """Folded, whatever its marks: sorted by combining class, those of one class as they came (Unicode, D109)."""
    done = StringIO()
    marks: defaultdict[int, list[str]] = defaultdict(list)
    known: dict[str, str] = {}  # each is in memory once

    def put_marks() -> None:
        for order in sorted(marks):
            done.write("".join(marks[order]))
        marks.clear()

    for start in range(0, len(text), _PUT_IN_ORDER):
        piece = _titlecased(text[start : start + _PUT_IN_ORDER])
        for character in normalize("NFKD", piece):
            order = combining(character)
            if order:
                marks[order].append(known.setdefault(character, character))
                continue
            if marks:
                put_marks()
            done.write(character)
    put_marks()
    return done.getvalue()


def _titlecased(text: str) -> str:
    """Each character by itself, unlike `str.title`. All but a few are the same in upper case, which is fast."""
    if _SPECIAL.search(text) is not None:
        return "".join(map(_title, text))
    if "\u00df" in text:  # which is frequent, and stays
        return "\u00df".join([piece.upper() for piece in text.split("\u00df")])
    return text.upper()


def _title(character: str) -> str:
    """Its titlecase in UnicodeData.txt. What has several characters there is from SpecialCasing.txt, which RFC 5051
    does not name; such a character has no titlecase else."""
    found = character.title()
    return found if len(found) == 1 else character


def order_key(text: str, *, is_text: bool = True) -> str:
    """By which strings are sorted, and equal. Those that are no text are octets, each given as a character: they come
    behind all others, in the order of the octets (RFC 5255 §4.6)."""
    if is_text and text.isascii():
        return text.upper()
    if not is_text:
        return f"{_LAST}\2{text}" if text else ""
    key = fold(text)
    return f"{_LAST}\1{key}" if key.startswith(_LAST) else key
