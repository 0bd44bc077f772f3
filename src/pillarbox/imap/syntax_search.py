"""SEARCH, SORT and THREAD (RFC 3501 §6.4.4, RFC 5256). A new search key is one more row in `_KEYS`.

Texts are decoded here, from the charset that the command names, so that the rest of the server sees `str` only.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pillarbox.core.errors import Refused, RemoteError
from pillarbox.imap.grammar import ATOM_CLASS, Cursor, shorten_word
from pillarbox.imap.seqset import SeqSet
from pillarbox.imap.syntax_return import Return, parse_return

MAX_DEPTH = 50
"""Our limit for nested parentheses, NOT and OR."""
MAX_KEYS = 5000
"""Our limit for the keys of one search, with its filters and each word of its fuzzy texts: some 10 ms."""

SORT_KEYS = frozenset(
    (
        *(b"ARRIVAL", b"CC", b"DATE", b"FROM", b"SIZE", b"SUBJECT", b"TO"),
        *(b"DISPLAYFROM", b"DISPLAYTO"),  # RFC 5957 §4
        b"RELEVANCY",  # RFC 6203 §6
    )
)
THREAD_ALGORITHMS = frozenset((b"ORDEREDSUBJECT", b"REFERENCES"))

# RFC 3501 §6.4.4: US-ASCII MUST be supported. By IANA name; the value is Python's codec.
CHARSETS: dict[str, str] = {
    "US-ASCII": "ascii",
    "UTF-8": "utf-8",
    **{f"ISO-8859-{part}": f"iso8859-{part}" for part in (*range(1, 12), *range(13, 17))},
    **{f"WINDOWS-{page}": f"cp{page}" for page in range(1250, 1259)},
    "KOI8-R": "koi8-r",
    "KOI8-U": "koi8-u",
    "BIG5": "big5",
    "GB2312": "gb2312",
    "GBK": "gbk",
    "GB18030": "gb18030",
    "EUC-JP": "euc-jp",
    "ISO-2022-JP": "iso2022-jp",
    "SHIFT_JIS": "shift-jis",
    "EUC-KR": "euc-kr",
}


_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}")
"""RFC 8474 §7."""
_FILTER = re.compile(rb"(?:(?!/)[%b])+" % ATOM_CLASS)
_ENTRY = re.compile(rb"/flags/\\?[%b]+" % ATOM_CLASS, re.IGNORECASE)


@dataclass(slots=True)
class Key:
    """One condition, under its RFC name. A set of message numbers is called "SEQUENCE".

    `argument`: None for keys without one; text for BCC, BODY, CC, FROM, SUBJECT, TEXT, TO, KEYWORD, UNKEYWORD; (field
    name, text) for HEADER; days since 1970-01-01 for the six of dates; octets for LARGER, SMALLER; the set for UID,
    SEQUENCE; a mod-sequence for MODSEQ; seconds for OLDER, YOUNGER; an object id, as text, for EMAILID, THREADID.
    `folded` is the text in the form in which it is compared, once that is made.
    """

    name: str
    argument: "str | int | tuple[str, str] | SeqSet | None" = None
    folded: str | None = field(default=None, compare=False)


@dataclass(slots=True)
class Not:
    key: "Program"


@dataclass(slots=True)
class Or:
    left: "Program"
    right: "Program"


@dataclass(slots=True)
class And:
    """Two keys or more."""

    keys: "list[Program]"


@dataclass(slots=True)
class Fuzzy:
    """What matches about the same (RFC 6203 §3). `loose` is what is looked for in its place, once that is made."""

    key: "Program"
    loose: "Program | None" = field(default=None, compare=False)


@dataclass(slots=True)
class Filter:
    """What a filter with this name stands for (RFC 5466 §3.1)."""

    name: str


Program = Key | Not | Or | And | Fuzzy | Filter


@dataclass(slots=True)
class Search:
    """`returns` is None without RETURN. `refusal`: the charset is not known, and only that the result is not saved is
    left to do (RFC 5182 §2.1). `codec` is that of the charset, in which the texts came."""

    program: Program
    uid: bool = False
    returns: Return | None = None
    refusal: Refused | None = None
    codec: str = "utf-8"


@dataclass(slots=True)
class SortKey:
    name: str
    reverse: bool = False


@dataclass(slots=True)
class Sort:
    criteria: tuple[SortKey, ...]
    program: Program
    uid: bool = False
    returns: Return | None = None
    refusal: Refused | None = None
    codec: str = "utf-8"


@dataclass(slots=True)
class Thread:
    algorithm: str
    program: Program
    uid: bool = False
    codec: str = "utf-8"


@dataclass(slots=True)
class CancelUpdate:
    """Tags of searches that were to be followed (RFC 5267 §4.3.5)."""

    tags: tuple[bytes, ...]


Argument = Callable[[Cursor, str], "str | int | tuple[str, str] | SeqSet"]


def _text(cursor: Cursor, codec: str) -> str:
    octets = cursor.astring("a text")
    try:
        return octets.decode(codec)
    except UnicodeDecodeError:
        raise RemoteError("A text is not in the charset of this command") from None


def _header(cursor: Cursor, codec: str) -> tuple[str, str]:
    name = cursor.astring("a field name").decode("ascii", "replace")
    cursor.space()
    return name, _text(cursor, codec)


def _keyword(cursor: Cursor, codec: str) -> str:
    return cursor.atom("a keyword").decode("ascii")


def _date(cursor: Cursor, codec: str) -> int:
    return cursor.date()


def _number(cursor: Cursor, codec: str) -> int:
    return cursor.number()


def _uids(cursor: Cursor, codec: str) -> SeqSet:
    return cursor.sequence_set()


def _modseq(cursor: Cursor, codec: str) -> int:
    """An entry may be named before it; all have one mod-sequence (RFC 7162 §3.1.5)."""
    if cursor.text.startswith(b'"', cursor.position):
        if _ENTRY.fullmatch(cursor.string("an entry name")) is None:
            raise RemoteError('Expected an entry name like "/flags/\\\\Seen"')
        cursor.space()
        if cursor.word("priv, shared or all") not in (b"PRIV", b"SHARED", b"ALL"):
            raise RemoteError("Expected priv, shared or all")
        cursor.space()
    return cursor.modseq(lowest=0)


def _interval(cursor: Cursor, codec: str) -> int:
    seconds = cursor.number("an interval in seconds")
    if not seconds:  # RFC 5032 §3
        raise RemoteError("Expected an interval above 0")
    return seconds


def _object_id(cursor: Cursor, codec: str) -> str:
    return cursor.take(_OBJECT_ID, "an object id")[0].decode("ascii")


_FLAG_KEYS = (b"ANSWERED", b"DELETED", b"DRAFT", b"FLAGGED", b"SEEN")
_KEYS: dict[bytes, Argument | None] = {
    **dict.fromkeys((b"ALL", b"NEW", b"OLD", b"RECENT", *_FLAG_KEYS)),
    **dict.fromkeys(b"UN" + name for name in _FLAG_KEYS),
    **dict.fromkeys((b"BCC", b"BODY", b"CC", b"FROM", b"SUBJECT", b"TEXT", b"TO"), _text),
    **dict.fromkeys((b"KEYWORD", b"UNKEYWORD"), _keyword),
    **dict.fromkeys((b"BEFORE", b"ON", b"SINCE"), _date),
    **dict.fromkeys((b"SENTBEFORE", b"SENTON", b"SENTSINCE"), _date),
    **dict.fromkeys((b"LARGER", b"SMALLER"), _number),
    **dict.fromkeys((b"OLDER", b"YOUNGER"), _interval),
    **dict.fromkeys((b"SAVEDBEFORE", b"SAVEDON", b"SAVEDSINCE"), _date),
    b"SAVEDATESUPPORTED": None,
    **dict.fromkeys((b"EMAILID", b"THREADID"), _object_id),
    b"HEADER": _header,
    b"MODSEQ": _modseq,
    b"UID": _uids,
}


def parse_search(cursor: Cursor, uid: bool = False) -> Search:
    returns = parse_return(cursor)
    # DEVIATES: RFC 3501 §6.4.4 because without CHARSET clients send UTF-8, of which US-ASCII is a part
    codec, refusal = "utf-8", None
    if cursor.text[cursor.position : cursor.position + 9].upper() == b" CHARSET ":
        cursor.position += 9
        if not cursor.takes_charset:  # RFC 6855 §3
            raise RemoteError("No charset may be given: everything is UTF-8")
        codec, refusal = _codec_or_refusal(cursor, returns)
    program = _parse_program(cursor, codec)
    _check_relevancy(returns, (), program)
    return Search(program, uid, returns, refusal, codec)


def parse_sort(cursor: Cursor, uid: bool = False) -> Sort:
    returns = parse_return(cursor)
    cursor.space()
    criteria = cursor.parenthesised(lambda: _sort_key(cursor), "a list of sort keys")
    cursor.space()
    codec, refusal = _codec_or_refusal(cursor, returns)
    program = _parse_program(cursor, codec)
    _check_relevancy(returns, criteria, program)
    return Sort(tuple(criteria), program, uid, returns, refusal, codec)


def _check_relevancy(returns: Return | None, criteria: Sequence[SortKey], program: Program) -> None:
    """RFC 6203 §4, §6: only where something is fuzzy."""
    wanted = returns is not None and "RELEVANCY" in returns
    if (wanted or any(key.name == "RELEVANCY" for key in criteria)) and not is_fuzzy(program):
        raise RemoteError("RELEVANCY needs FUZZY")


def is_fuzzy(program: Program) -> bool:
    """Whether FUZZY stands anywhere in it."""
    match program:
        case Fuzzy():
            return True
        case And():
            return any(map(is_fuzzy, program.keys))
        case Or():
            return is_fuzzy(program.left) or is_fuzzy(program.right)
        case Not():
            return is_fuzzy(program.key)
        case Key() | Filter():
            return False


def parse_thread(cursor: Cursor, uid: bool = False) -> Thread:
    cursor.space()
    algorithm = cursor.word("a threading algorithm")
    if algorithm not in THREAD_ALGORITHMS:
        raise RemoteError("Unknown threading algorithm")
    cursor.space()
    codec = _codec(cursor)
    return Thread(algorithm.decode("ascii"), _parse_program(cursor, codec), uid, codec)


def parse_cancel_update(cursor: Cursor) -> CancelUpdate:
    cursor.space()
    return CancelUpdate(tuple(cursor.spaced(lambda: cursor.string("a tag in quotes"))))


def _sort_key(cursor: Cursor) -> SortKey:
    name = cursor.word("a sort key")
    reverse = name == b"REVERSE"
    if reverse:
        cursor.space()
        name = cursor.word("a sort key")
    if name not in SORT_KEYS:
        raise RemoteError("Unknown sort key")
    return SortKey(name.decode("ascii"), reverse)


def _codec(cursor: Cursor) -> str:
    charset = cursor.astring("a charset").decode("ascii", "replace").upper()
    codec = CHARSETS.get(charset)
    if codec is None:  # RFC 3501 §6.4.4: MUST be a NO, SHOULD list the charsets that are known
        known = " ".join(CHARSETS)
        raise Refused("This charset is not supported", f"BADCHARSET ({known})")
    return codec


def _codec_or_refusal(cursor: Cursor, returns: Return | None) -> tuple[str, Refused | None]:
    """RFC 5182 §2.1: a NO to SAVE empties `$`, which is not ours to do."""
    try:
        return _codec(cursor), None
    except Refused as refusal:
        if returns is None or "SAVE" not in returns:
            raise
        return "latin-1", refusal


def parse_criteria(text: bytes) -> Program:
    """A whole search that stands alone, in UTF-8 (RFC 5466 §3.2). Raises RemoteError or Refused."""
    cursor = Cursor(text)
    program = _parse_keys(cursor, "utf-8")
    cursor.end()
    return program


def _parse_program(cursor: Cursor, codec: str) -> Program:
    cursor.space()
    return _parse_keys(cursor, codec)


def _parse_keys(cursor: Cursor, codec: str) -> Program:
    scope = _Scope(codec)
    return _all_of(cursor.spaced(lambda: _parse_key(cursor, scope, 0)))


@dataclass(slots=True)
class _Scope:
    """Of one search: the charset of its texts, and how many keys may still come."""

    codec: str
    keys_left: int = MAX_KEYS


def too_many_keys() -> RemoteError:
    return RemoteError(f"A search has at most {MAX_KEYS} keys")


def _all_of(keys: list[Program]) -> Program:
    return keys[0] if len(keys) == 1 else And(keys)


def _parse_key(cursor: Cursor, scope: _Scope, depth: int) -> Program:
    scope.keys_left -= 1
    if scope.keys_left < 0:
        raise too_many_keys()
    if depth > MAX_DEPTH:
        raise RemoteError("The search is nested too deeply")
    first = cursor.text[cursor.position : cursor.position + 1]
    if first == b"(":
        keys = cursor.parenthesised(lambda: _parse_key(cursor, scope, depth + 1), "search keys")
        return _all_of(keys)
    if first.isdigit() or first in (b"*", b"$"):
        return Key("SEQUENCE", cursor.sequence_set())
    name = cursor.word("a search key")
    if name == b"NOT":
        cursor.space()
        return Not(_parse_key(cursor, scope, depth + 1))
    if name == b"FILTER":
        cursor.space()
        return Filter(cursor.take(_FILTER, "a filter's name")[0].decode("ascii"))
    if name == b"FUZZY":
        cursor.space()
        return Fuzzy(_parse_key(cursor, scope, depth + 1))
    if name == b"OR":
        cursor.space()
        left = _parse_key(cursor, scope, depth + 1)
        cursor.space()
        return Or(left, _parse_key(cursor, scope, depth + 1))
    if name not in _KEYS:
        raise RemoteError(f"Unknown search key {shorten_word(name)}")
    take_argument = _KEYS[name]
    if take_argument is None:
        return Key(name.decode("ascii"))
    cursor.space()
    return Key(name.decode("ascii"), take_argument(cursor, scope.codec))
