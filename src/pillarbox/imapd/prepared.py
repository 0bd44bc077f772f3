"""Programs of SEARCH before they are run: filters are looked up, and texts folded, once for all mailboxes and for as
long as a search is followed."""

from pillarbox.core.errors import Refused
from pillarbox.imap.syntax_search import Program, is_fuzzy
from pillarbox.imapd.client import Client
from pillarbox.imapd.filters import resolved
from pillarbox.imapd.program import folded, texts

MAX_TEXT = 65_536
"""Our limit for the characters that one search looks for, all texts together."""
WORK_OF_A_CHARACTER = 16
"""To fold it, where it is not ASCII, or to make keys of words takes as long as to look at so many octets."""


async def prepared(client: Client, program: Program, codec: str) -> Program:
    """The program ready to be run. Raises what `resolved` and `folded` do, and Refused LIMIT."""
    program = await resolved(client, program, codec)
    is_slow = is_fuzzy(program)
    length = work = 0
    for text in texts(program):
        length += len(text)
        work += len(text) * (WORK_OF_A_CHARACTER if is_slow or not text.isascii() else 1)
    if length > MAX_TEXT:
        raise Refused(f"the texts of a search have at most {MAX_TEXT} characters", "LIMIT")
    return await client.context.store.compute_sized(work, lambda: folded(program))
