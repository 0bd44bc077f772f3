"""Programs of SEARCH as values: what they need, and others made of them. Pure."""

from collections.abc import Iterator, Sequence

from pillarbox.imap.syntax_search import (
    MAX_KEYS,
    And,
    Filter,
    Fuzzy,
    Key,
    Not,
    Or,
    Program,
    too_many_keys,
)
from pillarbox.mime.fold import fold

_TEXT_KEYS = frozenset(("BCC", "BODY", "CC", "FROM", "SUBJECT", "TEXT", "TO"))


def loosened(program: Program) -> Program:
    """What is looked for in place of a fuzzy key: the words of each text, in any order and place (RFC 6203 §3); all
    other keys as they are (§5)."""
    match program:
        case And():
            return And([loosened(key) for key in program.keys])
        case Or():
            return Or(loosened(program.left), loosened(program.right))
        case Not():
            return Not(loosened(program.key))
        case Fuzzy():
            return loosened(program.key) if program.loose is None else program.loose
        case Key(name="HEADER", argument=(field, text)):
            return _all_words("HEADER", [(field, word) for word in text.split()]) or program
        case Key(argument=str() as text) if program.name in _TEXT_KEYS:
            return _all_words(program.name, text.split()) or program
    return program


def _all_words(name: str, arguments: Sequence[str | tuple[str, str]]) -> Program | None:
    """None: there are no two of them."""
    keys: list[Program] = [Key(name, argument) for argument in dict.fromkeys(arguments)]
    return And(keys) if len(keys) > 1 else None


def sharpened(program: Program) -> Program:
    """The same program with nothing fuzzy in it."""
    match program:
        case And():
            return And([sharpened(key) for key in program.keys])
        case Or():
            return Or(sharpened(program.left), sharpened(program.right))
        case Not():
            return Not(sharpened(program.key))
        case Fuzzy():
            return sharpened(program.key)
    return program


def needed_texts(program: Program) -> list[str]:
    """Texts, folded, that every message has that matches."""
    match program:
        case And():
            return [text for key in program.keys for text in needed_texts(key)]
        case Fuzzy():
            return needed_texts(loosened(program))
        case Key() if text_of(program) is not None:
            return [folded_text(program)]
    return []


def text_of(key: Key) -> str | None:
    """What it looks for in texts."""
    match key:
        case Key(name="HEADER", argument=(_, text)):
            return text
        case Key(argument=str() as text) if key.name in _TEXT_KEYS:
            return text
    return None


def folded_text(key: Key) -> str:
    """The text of a key that has one, in the form in which it is compared."""
    return fold(text_of(key) or "") if key.folded is None else key.folded


def folded(program: Program) -> Program:
    """The same program with each text folded, and what is looked for in place of fuzzy keys, once and for all.

    Raises RemoteError where it has more than MAX_KEYS keys, each word of a fuzzy one counted.
    """
    if count_keys(program) > MAX_KEYS:
        raise too_many_keys()
    return _folded(program)


def _folded(program: Program) -> Program:
    match program:
        case And():
            return And([_folded(key) for key in program.keys])
        case Or():
            return Or(_folded(program.left), _folded(program.right))
        case Not():
            return Not(_folded(program.key))
        case Fuzzy():
            sharp = sharpened(program)  # fuzzy keys in fuzzy ones are no fuzzier
            return Fuzzy(_folded(sharp), _folded(loosened(sharp)))
        case Key() if text_of(program) is not None:
            return Key(program.name, program.argument, folded_text(program))
    return program


def texts(program: Program) -> Iterator[str]:
    """All that its keys look for."""
    match program:
        case And():
            for key in program.keys:
                yield from texts(key)
        case Or():
            yield from texts(program.left)
            yield from texts(program.right)
        case Not() | Fuzzy():
            yield from texts(program.key)
        case Key():
            text = text_of(program)
            if text is not None:
                yield text


def asks_modseq(program: Program) -> bool:
    """Whether MODSEQ stands anywhere in it."""
    match program:
        case And():
            return any(map(asks_modseq, program.keys))
        case Or():
            return asks_modseq(program.left) or asks_modseq(program.right)
        case Not() | Fuzzy():
            return asks_modseq(program.key)
        case Key():
            return program.name == "MODSEQ"
        case Filter():
            return False


def count_keys(program: Program, *, is_fuzzy: bool = False) -> int:
    """How many conditions stand in it: of fuzzy texts, each word is one."""
    match program:
        case And():
            return sum([count_keys(key, is_fuzzy=is_fuzzy) for key in program.keys])
        case Or():
            return sum(
                [count_keys(key, is_fuzzy=is_fuzzy) for key in (program.left, program.right)]
            )
        case Not():
            return count_keys(program.key, is_fuzzy=is_fuzzy)
        case Fuzzy():
            return count_keys(program.key, is_fuzzy=True)
        case Key() if is_fuzzy:
            return max(1, len((text_of(program) or "").split()))
    return 1


def has_filter(program: Program) -> bool:
    """Whether FILTER stands anywhere in it."""
    match program:
        case And():
            return any(map(has_filter, program.keys))
        case Or():
            return has_filter(program.left) or has_filter(program.right)
        case Not() | Fuzzy():
            return has_filter(program.key)
    return isinstance(program, Filter)


def has_numbers(program: Program) -> bool:
    """Whether message numbers stand anywhere in it."""
    match program:
        case And():
            return any(map(has_numbers, program.keys))
        case Or():
            return has_numbers(program.left) or has_numbers(program.right)
        case Not() | Fuzzy():
            return has_numbers(program.key)
        case Filter():  # which may have some
            return True
        case Key():
            return program.name == "SEQUENCE"
