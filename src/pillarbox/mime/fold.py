"""Strings in the form in which they are compared: i;unicode-casemap (RFC 5051). Pure.

Two strings are equal, one is in the other, or one comes before the other as their forms are and do, character by
character: the order of code points is that of their octets in UTF-8 (§2, i;octet).
"""

import re
import unicodedata
from collections.abc import Iterator

FOLDED_PIECE = 1024
"""Characters that are folded in one call: the time for accents heaped on accents grows with their square."""
SEARCHED_AT_ONCE = 1 << 17
"""Folded characters that are looked through in one call, which lets no other thread run, and more for long texts."""

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
        return unicodedata.normalize("NFKD", _titlecased(text))
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
        most = min(end + FOLDED_PIECE // 8, len(text))
        while end < most and not text[end].isascii():  # an accent stays with its letter
            end += 1
        yield unicodedata.normalize("NFKD", _titlecased(text[start:end]))
        start = end


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
