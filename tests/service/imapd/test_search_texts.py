"""Texts that are looked for: folded once a command, and once for a search that is followed; long ones in a thread."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from imap_harness import SIMPLE, Imap, serving

from pillarbox.imap.syntax_search import MAX_KEYS
from pillarbox.imapd import program
from pillarbox.imapd.prepared import MAX_TEXT
from pillarbox.mime.fold import fold

Test = Callable[[Imap], Awaitable[None]]

WORD = b"caf\xc3\xa9"


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Each text that was, and in which thread."""
    found: list[tuple[str, str]] = []

    def note(text: str) -> str:
        found.append((text, threading.current_thread().name))
        return fold(text)

    monkeypatch.setattr(program, "fold", note)
    return found


def in_service(tmp_path: Path, test: Test) -> None:
    async def run() -> None:
        async with serving(tmp_path) as imap:
            await test(imap)

    asyncio.run(run())


def of_text(before: bytes, text: bytes, after: bytes = b"") -> bytes:
    return b"%b {%d+}\r\n%b%b" % (before, len(text), text, after)


def test_a_text_is_folded_once_for_all_mailboxes(
    tmp_path: Path, folded: list[tuple[str, str]]
) -> None:
    async def test(imap: Imap) -> None:
        await imap.put(SIMPLE)
        client = await imap.login(b"INBOX")
        for name in (b"a", b"b", b"c"):
            await client.ok(b"CREATE " + name)
            await client.append(name, SIMPLE)
        found = await client.ok(of_text(b"ESEARCH IN (personal) RETURN (COUNT) NOT BODY", WORD))
        assert len(found) == 4
        assert [text for text, _ in folded] == ["caf\u00e9"]

    in_service(tmp_path, test)


@pytest.mark.parametrize(("fuzzy", "times"), [(b"", 1), (b" FUZZY", 3)])
def test_a_text_that_is_followed_is_not_folded_again(
    tmp_path: Path, folded: list[tuple[str, str]], fuzzy: bytes, times: int
) -> None:
    """A fuzzy one is folded as a whole, and each of its words."""

    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        text = of_text(b"SEARCH RETURN (UPDATE COUNT)%b SUBJECT" % fuzzy, b"lunch " + WORD)
        await client.ok(text)
        for number in range(1, 4):
            await imap.put(b"Subject: %b lunch\r\n\r\n" % WORD)
            lines = await client.ok(b"NOOP")
            assert any(b"ADDTO (0 %d)" % number in line for line in lines) == bool(fuzzy)
        assert len(folded) == times

    in_service(tmp_path, test)


def test_long_texts_are_folded_in_a_thread(tmp_path: Path, folded: list[tuple[str, str]]) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        for length, thread in ((100, "MainThread"), (MAX_TEXT, "compute_0")):
            for before in (
                b"SEARCH BODY",
                b"SORT (DATE) UTF-8 TEXT",
                b"THREAD REFERENCES UTF-8 BCC",
            ):
                folded.clear()
                await client.ok(of_text(before, b"\xc3\xa9" * length))
                assert [each for _, each in folded] == [thread]

    in_service(tmp_path, test)


def test_the_texts_of_a_search_have_a_limit_together(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        await imap.put(SIMPLE)
        client = await imap.login(b"INBOX")
        await client.ok(b"SEARCH RETURN (SAVE) ALL")
        half = b"x" * (MAX_TEXT // 2)
        two = of_text(of_text(b"SEARCH RETURN (SAVE) OR HEADER a", half, b" BODY"), half)
        await client.ok(two)
        await client.ok(b"SEARCH RETURN (SAVE) ALL")
        for search in (
            two + b" SUBJECT y",
            of_text(b"ESEARCH IN (personal) FUZZY NOT TEXT", half + half + b"x"),
            of_text(b"SORT (DATE) UTF-8 TEXT", half + half + b"x"),
        ):
            *_, answer = await client.command(search)
            assert answer.startswith(b"NO [LIMIT] ")
        assert await client.ok(b"UID SEARCH $") == [b"* SEARCH"]  # RFC 5182 §2.1

    in_service(tmp_path, test)


def test_each_word_of_a_fuzzy_text_is_a_key(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        words = b" ".join([b"%d" % number for number in range(MAX_KEYS)])
        await client.ok(of_text(b"SEARCH FUZZY BODY", words))
        await client.ok(of_text(b"SEARCH BODY", words + b" one more"))
        quoted = b'"one more"'
        for search in (
            of_text(b"SEARCH FUZZY BODY", words, b" SEEN"),
            of_text(b"SEARCH FUZZY (NOT (OR SEEN HEADER x", words, b"))"),
            of_text(b"SEARCH FUZZY TEXT %b FUZZY SUBJECT" % quoted, words),
            of_text(b"THREAD REFERENCES UTF-8 FUZZY FUZZY BODY", words + b" more"),
        ):
            *_, answer = await client.command(search)
            assert answer.startswith(b"BAD A search has at most 5000 keys")
        value = b" ".join([b"a"] * 400)
        await client.ok(b'SETMETADATA "" (/private/filters/values/f "SUBJECT \\"%b\\"")' % value)
        await client.ok(b"SEARCH FUZZY (%b)" % b" ".join([b"FILTER f"] * 12))
        *_, answer = await client.command(b"SEARCH FUZZY (%b)" % b" ".join([b"FILTER f"] * 13))
        assert answer.startswith(b"BAD A search has at most 5000 keys")

    in_service(tmp_path, test)
