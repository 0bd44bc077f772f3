"""FILTER, a search that is stored under a name as an annotation of the account (RFC 5466)."""

from pillarbox.core.errors import Refused, RemoteError
from pillarbox.imap.syntax_search import (
    MAX_KEYS,
    And,
    Filter,
    Fuzzy,
    Not,
    Or,
    Program,
    parse_criteria,
)
from pillarbox.imapd.client import Client
from pillarbox.imapd.program import count_keys, has_filter
from pillarbox.store import metadata

PRIVATE, SHARED = "/private/filters/values/", "/shared/filters/values/"

MOST_PASSES = 8
"""Filters within filters; RFC 5466 §3.1 asks for three."""
MOST_FILTERS = 100
"""In one search, those within others counted each time."""


async def resolved(client: Client, program: Program, codec: str) -> Program:
    """The program with what its filters stand for. Raises Refused UNDEFINED-FILTER, and RemoteError where its charset
    is not that of filters (RFC 5466 §3.1)."""
    if not has_filter(program):
        return program
    if codec not in ("utf-8", "ascii"):
        raise RemoteError("filters are in UTF-8", "BADCHARSET (UTF-8 US-ASCII)")
    return await _Resolver(client).resolve(program, MOST_PASSES)


class _Resolver:
    """Of one search: `_left` filters may still be looked up, and have `_keys_left` keys together."""

    __slots__ = ("_client", "_keys_left", "_left")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._left = MOST_FILTERS
        self._keys_left = MAX_KEYS

    async def resolve(self, program: Program, passes: int) -> Program:
        match program:
            case And():
                return And([await self.resolve(key, passes) for key in program.keys])
            case Or():
                left = await self.resolve(program.left, passes)
                return Or(left, await self.resolve(program.right, passes))
            case Not():
                return Not(await self.resolve(program.key, passes))
            case Fuzzy():
                return Fuzzy(await self.resolve(program.key, passes))
            case Filter():
                return await self.resolve(await self._find(program.name, passes), passes - 1)
        return program

    async def _find(self, name: str, passes: int) -> Program:
        """RFC 5466 §3.1: a private one goes before; one that leads back to itself is as if it were not there."""
        self._left -= 1
        await self._client.pause()
        lower = name.lower()

        found = await self._client.read(
            lambda tx: [
                octets
                for entry in (PRIVATE + lower, SHARED + lower)
                for _, octets in metadata.get(tx, metadata.ACCOUNT, entry)
            ]
        )
        if not (found and passes and self._left >= 0):
            raise _undefined(name)
        try:
            program = parse_criteria(found[0])
        except (RemoteError, Refused) as error:
            raise _undefined(name) from error
        self._keys_left -= count_keys(program)
        if self._keys_left < 0:
            raise Refused(f"the filters of a search have at most {MAX_KEYS} keys", "LIMIT")
        return program


def _undefined(name: str) -> Refused:
    return Refused("there is no such filter, or it is no search", f"UNDEFINED-FILTER {name}")


def ensure_search(entry: str, value: bytes | None) -> None:
    """Raises Refused if an annotation is the value of a filter, and not a full and correct search (RFC 5466 §3.2)."""
    if value is None or not entry.startswith((PRIVATE, SHARED)):
        return
    try:
        parse_criteria(value)
    except (RemoteError, Refused) as error:
        raise Refused(f"this is not a search: {error.text}", "CANNOT") from error
