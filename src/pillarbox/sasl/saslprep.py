"""SASLprep: how user names and passwords are prepared before they are compared or hashed (RFC 4013)."""

import stringprep
import unicodedata

_PROHIBITED = (
    # RFC 4013 §2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, stored: bool) -> str:
    """Prepare `text`. `stored` strings (set as a password) may not hold code points that Unicode 3.2 does
    not assign; queries (a login) may (RFC 3454 §7). The result may be empty.

    Raises ValueError if a character is prohibited or directions mix. Example: `"I\\xadX"` -> `"IX"`.
    """
    if text.isascii() and text.isprintable():
        return text
    # RFC 4013 §2.1: non-ASCII spaces become SPACE, what is commonly mapped to nothing goes
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in text
        if not stringprep.in_table_b1(char)
    )
    # RFC 4013 §2.2: NFKC of Unicode 3.2, on which stringprep stands
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for char in prepared:
        if any(prohibits(char) for prohibits in _PROHIBITED):
            raise ValueError(f"character U+{ord(char):04X} is not allowed")
        if stored and stringprep.in_table_a1(char):  # RFC 4013 §2.5
            raise ValueError(f"character U+{ord(char):04X} is not assigned in Unicode 3.2")
    _ensure_one_direction(prepared)
    return prepared


def _ensure_one_direction(text: str) -> None:
    """RFC 3454 §6: right-to-left text has no left-to-right characters, and begins and ends right-to-left."""
    if not any(map(stringprep.in_table_d1, text)):
        return
    if any(map(stringprep.in_table_d2, text)):
        raise ValueError("left-to-right and right-to-left characters mix")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ValueError("right-to-left text must begin and end with a right-to-left character")
