"""Commands about the session: LOGIN, AUTHENTICATE, ID, ENABLE (RFC 3501 §6.2, 4959, 2971, 5161)."""

import re
from dataclasses import dataclass, field

from pillarbox.core.errors import RemoteError
from pillarbox.core.secret import Secret
from pillarbox.imap.grammar import Cursor

_UNQUOTED = re.compile(rb'(?!["{])[^ \n]*["%*(){\\\x80-\xff]')
"""A word with an octet that is neither of an atom nor of `resp-specials` (RFC 3501 §9, astring)."""

MAX_ID_PAIRS = 30
"""RFC 2971 §3.3 limit."""


@dataclass(slots=True)
class Login:
    userid: str
    password: Secret


@dataclass(slots=True)
class Authenticate:
    """`mechanism` is upper case. `initial_response` is decoded; None: the client waits for a challenge."""

    mechanism: str
    initial_response: bytes | None = field(default=None, repr=False)


@dataclass(slots=True)
class Id:
    """What the client says of itself, names in lower case; None for NIL."""

    parameters: dict[str, str | None] | None


@dataclass(slots=True)
class Enable:
    """Upper case, in the order given."""

    capabilities: tuple[str, ...]


def parse_nothing(cursor: Cursor) -> None:
    """For commands without arguments."""


def parse_login(cursor: Cursor) -> Login:
    userid = _credential(cursor, "a user name")
    return Login(userid, Secret(_credential(cursor, "a password")))


def _credential(cursor: Cursor, what: str) -> str:
    """Programs that quote nothing fail with some names and passwords only (alice*helper), so they are told why."""
    cursor.space()
    if _UNQUOTED.match(cursor.text, cursor.position):
        raise RemoteError(
            f"Expected {what} in double quotes, for it has characters that no atom may have"
        )
    return cursor.utf8_astring(what)


def parse_authenticate(cursor: Cursor) -> Authenticate:
    cursor.space()
    mechanism = cursor.word("a SASL mechanism").decode("ascii")
    # RFC 4959 §3: an initial response may follow
    return Authenticate(mechanism, cursor.initial_response() if cursor.skip(b" ") else None)


def parse_id(cursor: Cursor) -> Id:
    cursor.space()
    if cursor.nil():
        return Id(None)
    if cursor.skip(b"()"):
        return Id({})
    pairs = cursor.parenthesised(lambda: _id_pair(cursor), "a list of strings or NIL")
    if len(pairs) > MAX_ID_PAIRS:
        raise RemoteError(f"ID takes at most {MAX_ID_PAIRS} pairs")
    return Id(dict(pairs))


def _id_pair(cursor: Cursor) -> tuple[str, str | None]:
    name = cursor.string().decode("utf-8", "replace").lower()
    cursor.space()
    value = cursor.nstring()
    return name, None if value is None else value.decode("utf-8", "replace")


def parse_compress(cursor: Cursor) -> None:
    """RFC 4978 §5: there is one algorithm."""
    cursor.space()
    if cursor.word("a compression algorithm") != b"DEFLATE":
        raise RemoteError("The only compression algorithm is DEFLATE")


def parse_enable(cursor: Cursor) -> Enable:
    cursor.space()
    names = cursor.spaced(lambda: cursor.word("a capability").decode("ascii"))
    return Enable(tuple(names))
