"""What a peer said, in a line of the log: it cannot be taken for other fields of the line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

WORD = re.compile(r"""[^\s="'<>\\]*""")
"""A name of a user, say."""
ADDRESS = re.compile(r"""[^\s",<>\\]*""")
"""In angle brackets: those of lists have a "=" that is theirs."""
COMMAND = re.compile(r"""(?:[^="\\]|(?<=[A-Z])=)*""")
"""In angle brackets. Parameters are there, like SIZE=100; names of our fields are in lower case."""

MOST_ADDRESSES = 20
"""In one line."""


@dataclass(slots=True)
class Said:
    """In text as it is, if it looks as usual and can be printed; else in quotes, where no "=", "<", ">" or "," stands
    as such: of `x client=192.0.2.1` comes `"x client\\x3d192.0.2.1"`. In JSON it is the text itself."""

    text: str
    usual: re.Pattern[str] = WORD

    def __str__(self) -> str:
        text = self.text
        if self.usual.fullmatch(text) and text.isprintable():
            return text
        return '"' + "".join(map(_escape, text)) + '"'


@dataclass(slots=True)
class SaidAddresses:
    """Of one message: MOST_ADDRESSES of them, then how many more there are: `<a@example.org>,<b@example.org>,+12`;
    "-" for none. In JSON without the brackets."""

    texts: Sequence[str]

    def __str__(self) -> str:
        return self._joined([f"<{Said(text, ADDRESS)}>" for text in self.texts[:MOST_ADDRESSES]])

    @property
    def text(self) -> str:
        return self._joined(list(self.texts[:MOST_ADDRESSES]))

    def _joined(self, shown: list[str]) -> str:
        if len(self.texts) > MOST_ADDRESSES:
            shown.append(f"+{len(self.texts) - MOST_ADDRESSES}")
        return ",".join(shown) or "-"


def _escape(character: str) -> str:
    if character in "=<>,":  # what our own fields, brackets and lists are made of
        return f"\\x{ord(character):02x}"
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
