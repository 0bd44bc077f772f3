"""i;unicode-casemap (RFC 5051 §2) as it is written there, one code point after the other, without thought of speed."""

import unicodedata


def casemap(text: str) -> str:
    """`"\u01c4"` -> `"Dz\u030c"`, the RFC's example. Marks are put in the order of NFKD, as §4 no. 2 allows."""
    prepared: list[str] = []
    for character in text:
        prepared += decomposed(titlecase(character))
    return "".join(ordered(prepared))


def titlecase(character: str) -> str:
    """The titlecase property in UnicodeData.txt: one code point, or none. What Python gives in several is from
    SpecialCasing.txt."""
    found = character.title()
    return found if len(found) == 1 else character


def decomposed(character: str) -> list[str]:
    """Recursively, by a decomposition property of any type; of Hangul, whose properties are computed."""
    syllable = ord(character) - 0xAC00
    if 0 <= syllable < 11172:
        lead, rest = divmod(syllable, 588)
        vowel, trail = divmod(rest, 28)
        return [chr(0x1100 + lead), chr(0x1161 + vowel)] + [chr(0x11A7 + trail)] * (trail > 0)
    fields = unicodedata.decomposition(character).split()
    codes = fields[1:] if fields and fields[0].startswith("<") else fields
    if not codes:
        return [character]
    return [piece for code in codes for piece in decomposed(chr(int(code, 16)))]


def ordered(characters: list[str]) -> list[str]:
    """Runs of marks by their combining classes."""
    result: list[str] = []
    run: list[str] = []
    for character in characters:
        if unicodedata.combining(character):
            run.append(character)
            continue
        result += [*sorted(run, key=unicodedata.combining), character]
        run = []
    return result + sorted(run, key=unicodedata.combining)
