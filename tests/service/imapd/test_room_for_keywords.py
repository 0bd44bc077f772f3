"""New keywords: PERMANENTFLAGS offers them while there is room, and no guest takes up an owner's."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from imap_harness import OTHERS, SIMPLE, Imap, serving

from pillarbox.store.keywords import MOST_KEYWORDS, MOST_KEYWORDS_OF_GUESTS

ANN, BOB = OTHERS
SHARED = b'"Other Users.user@example^2Ecom.INBOX"'


def run(folder: Path, work: Callable[[Imap], Awaitable[None]]) -> None:
    async def serve() -> None:
        async with serving(folder) as imap:
            await imap.put(SIMPLE)
            await work(imap)

    asyncio.run(serve())


def words(start: int, end: int, prefix: bytes = b"k") -> bytes:
    return b" ".join(b"%b%d" % (prefix, number) for number in range(start, end))


def offers(lines: list[bytes]) -> list[bool]:
    """Whether new keywords may be made, as PERMANENTFLAGS says it, each time that it is said."""
    found = [re.search(rb"\[PERMANENTFLAGS \((.*?)\)\]", line) for line in lines]
    return [b"\\*" in match[1].split() for match in found if match is not None]


def test_at_the_limit_new_keywords_are_not_offered(tmp_path: Path) -> None:
    """RFC 3501 §7.1."""

    async def work(imap: Imap) -> None:
        line = await imap.login()
        (before,) = offers(await line.ok(b"SELECT INBOX"))
        assert before
        (less,) = offers(await line.ok(b"STORE 1 FLAGS (%b)" % words(0, MOST_KEYWORDS - 1)))
        assert less
        (full,) = offers(await line.ok(b"STORE 1 +FLAGS (last)"))
        assert not full
        assert (await line.command(b"STORE 1 +FLAGS (more)"))[-1].startswith(b"NO [LIMIT]")
        assert offers(await line.ok(b"SELECT INBOX")) == [False]
        await line.ok(b"STORE 1 -FLAGS (%b)" % words(0, 5))
        await line.ok(b"STORE 1 +FLAGS (more)")
        assert offers(await line.ok(b"SELECT INBOX")) == [True]

    run(tmp_path, work)


def test_one_keyword_at_a_time_never_comes_to_the_limit(tmp_path: Path) -> None:
    async def work(imap: Imap) -> None:
        line = await imap.login(b"INBOX")
        for number in range(MOST_KEYWORDS + 50):
            await line.ok(b"STORE 1 FLAGS.SILENT (t%d)" % number)
        await line.ok(b"STORE 1 FLAGS ($Junk)")

    run(tmp_path, work)


def test_a_guest_takes_up_half_of_the_room_at_most(tmp_path: Path) -> None:
    async def work(imap: Imap) -> None:
        owner, guest = await imap.login(), await imap.login(user=ANN)
        await owner.ok(b"SETACL INBOX ann lrswi")
        assert offers(await guest.ok(b"SELECT " + SHARED)) == [True]
        for start in (0, 60):
            await guest.append(SHARED, SIMPLE, b"(%b)" % words(start, start + 60))
        (offer,) = offers(await guest.ok(b"STORE 1 +FLAGS (%b)" % words(120, 128)))
        assert not offer
        assert (await guest.command(b"STORE 1 +FLAGS (more)"))[-1].startswith(b"NO [LIMIT]")
        append = b"APPEND %b (more) {3+}\r\na:b" % SHARED
        assert (await guest.command(append))[-1].startswith(b"NO [LIMIT]")
        assert offers(await guest.ok(b"SELECT " + SHARED)) == [False]
        # From a mailbox of their own, too.
        await guest.append(b"INBOX", SIMPLE, b"(more)")
        await guest.ok(b"SELECT INBOX")
        assert (await guest.command(b"COPY 1 " + SHARED))[-1].startswith(b"NO [LIMIT]")
        await owner.ok(b"CREATE mine")
        await owner.append(b"mine", SIMPLE, b"($Forwarded)")
        half = MOST_KEYWORDS - MOST_KEYWORDS_OF_GUESTS
        await owner.append(b"mine", SIMPLE, b"(%b)" % words(0, half - 1, b"own"))
        assert (await owner.command(b"APPEND mine (more) {3+}\r\na:b"))[-1].startswith(
            b"NO [LIMIT]"
        )
        # Who may not use it any more holds nothing.
        await owner.ok(b"SELECT INBOX")
        await owner.ok(b"STORE 1:* FLAGS.SILENT (\\Deleted)")
        await owner.ok(b"EXPUNGE")
        await owner.append(b"mine", SIMPLE, b"(more)")
        assert offers(await owner.ok(b"SELECT mine")) == [True]

    run(tmp_path, work)
