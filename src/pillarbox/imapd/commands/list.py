"""LIST and LSUB (RFC 3501 §6.3.8, §6.3.9), with RFC 3348 and RFC 6154 attributes."""

from collections.abc import Iterable

from pillarbox.imap import responses
from pillarbox.imap.syntax_mailbox import List
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.names import to_wire
from pillarbox.imapd.pattern import Pattern
from pillarbox.store import mailboxes
from pillarbox.store.mailboxes import INBOX_NAME, Name

NAMES_A_SLICE = 1000
"""That are looked at or told in one go: a few milliseconds."""
_CHARACTERS_A_TURN = 10_000
"""Of names that were matched until others have their turn."""


class _Matcher:
    """Which names a LIST or LSUB asks for: reference and pattern are simply joined."""

    def __init__(self, client: Client, args: List) -> None:
        separator = client.context.separator
        text = args.reference + args.pattern
        self._client = client
        self._separator = separator
        self._characters = 0
        # RFC 3501 §5.1: INBOX is the same in any case, also at the head of a longer name
        if text[:5].upper() == "INBOX" and text[5:6] in ("", "*", "%", separator):
            text = "INBOX" + text[5:]
        self._pattern = Pattern(text, separator)
        self._inbox = Pattern(text.upper(), separator)

    async def matches(self, name: Name) -> bool:
        text = to_wire(name, self._separator)
        self._characters += len(text)
        if self._characters > _CHARACTERS_A_TURN:
            self._characters = 0
            await self._client.pause()
        return (self._inbox if name == INBOX_NAME else self._pattern).matches(text)


async def list_mailboxes(client: Client, args: List) -> Answer:
    separator = client.context.separator
    if not args.pattern:  # RFC 3501 §6.3.8: asks for the separator
        client.engine.send(responses.listing((b"\\Noselect",), separator, ""))
        return Answer("List completed.")
    attributes = dict(await client.read(mailboxes.special_uses))
    parents = await _parents(client, attributes)
    matcher = _Matcher(client, args)
    for number, name in enumerate(_in_order([*attributes, *parents.difference(attributes)]), 1):
        if await matcher.matches(name):
            words = [b"\\HasChildren" if name in parents else b"\\HasNoChildren"]
            if name not in attributes:
                words.insert(0, b"\\Noselect")
            elif attributes[name]:
                words.append(attributes[name].encode())
            client.engine.send(responses.listing(words, separator, to_wire(name, separator)))
        if number % NAMES_A_SLICE == 0:
            await client.pause()
    return Answer("List completed.")


async def list_subscribed(client: Client, args: List) -> Answer:
    """A name that has been subscribed to is listed whether or not there is such a mailbox (RFC 3501 §6.3.9)."""
    separator = client.context.separator
    subscribed = await client.read(mailboxes.subscriptions)
    matcher = _Matcher(client, args)
    found: dict[Name, tuple[bytes, ...]] = {}
    for number, name in enumerate(subscribed, 1):
        if await matcher.matches(name):
            found[name] = ()
        else:
            # RFC 3501 §6.3.9: "foo/bar" under the pattern "%" shows as "foo", which cannot be selected
            for depth in range(1, len(name)):
                if await matcher.matches(name[:depth]):
                    found.setdefault(name[:depth], (b"\\Noselect",))
        if number % NAMES_A_SLICE == 0:
            await client.pause()
    for number, name in enumerate(_in_order(list(found)), 1):
        text = to_wire(name, separator)
        client.engine.send(responses.listing(found[name], separator, text, b"LSUB"))
        if number % NAMES_A_SLICE == 0:
            await client.pause()
    return Answer("Lsub completed.")


async def _parents(client: Client, names: Iterable[Name]) -> set[Name]:
    """Every name that has others below it."""
    found: set[Name] = set()
    for number, name in enumerate(names, 1):
        found.update([name[:depth] for depth in range(1, len(name))])
        if number % NAMES_A_SLICE == 0:
            await client.pause()
    return found


def _in_order(names: list[Name]) -> list[Name]:
    """By name, with INBOX first. Fast for names that are mostly in order."""
    names.sort()
    if INBOX_NAME in names:
        names.remove(INBOX_NAME)
        names.insert(0, INBOX_NAME)
    return names
