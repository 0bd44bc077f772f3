"""Text in the form in which strings are searched: without case, accents composed. Pure."""

import unicodedata

FOLDED_PIECE = 1024
"""Characters that are folded in one call: the time for accents heaped on accents grows with their square."""


def fold(text: str) -> str:
    """`"CAFE\\u0301"` -> `"caf\\u00e9"`."""
    if text.isascii():
        return text.lower()
    pieces: list[str] = []
    start = 0
    while start < len(text):
        end = start + FOLDED_PIECE
        most = min(end + FOLDED_PIECE // 8, len(text))
        while end < most and not text[end].isascii():  # an accent stays with its letter
            end += 1
        pieces.append(unicodedata.normalize("NFC", text[start:end].casefold()))
        start = end
    return "".join(pieces)
