"""Programs of SEARCH as values: what they need, and others made of them. Pure."""

from collections.abc import Sequence

from pillarbox.imap.syntax_search import And, Filter, Fuzzy, Key, Not, Or, Program
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
            return loosened(program.key)
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
            return needed_texts(loosened(program.key))
        case Key(name="HEADER", argument=(_, text)):
            return [fold(text)]
        case Key(argument=str() as text) if program.name in _TEXT_KEYS:
            return [fold(text)]
    return []


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


def count_keys(program: Program) -> int:
    """How many conditions stand in it."""
    match program:
        case And():
            return sum(map(count_keys, program.keys))
        case Or():
            return count_keys(program.left) + count_keys(program.right)
        case Not() | Fuzzy():
            return count_keys(program.key)
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
