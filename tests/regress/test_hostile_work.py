"""What a peer can make us do takes little time at a piece, whatever it sends: others have their turn."""

import asyncio
import threading
import time
import tracemalloc
from array import array
from pathlib import Path

import pytest

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.syntax_acl import parse_identifier
from pillarbox.imap.syntax_list import List
from pillarbox.imap.syntax_search import MAX_KEYS, And, Key, Not, SortKey, parse_criteria
from pillarbox.imapd import search as search_module
from pillarbox.imapd import sort as sort_module
from pillarbox.imapd.commands import list as list_module
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.display import display_key
from pillarbox.imapd.search import search
from pillarbox.imapd.selected import EMPTY
from pillarbox.mime.convert import fold_long_lines
from pillarbox.mime.fold import LONGEST_ORDERED, fold, has_folded
from pillarbox.mime.message import parse_message
from pillarbox.smtp.reply import SENDER_NOT_YOURS
from pillarbox.smtpd.message import HEADER_TOO_LARGE, LARGEST_HEADER, Additions, prepare
from pillarbox.store import mailboxes
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store

ADDITIONS = Additions(b"Mon, 1 Jan 2024 00:00:00 +0000", b"<a@example.org>")


def test_accents_heaped_on_accents_fold_in_linear_time() -> None:
    heap = "\u0301" * 50_000 + "\u0327" * 50_000
    begin = time.thread_time()
    fold(heap)  # in one piece it takes some 10 s, and holds up every thread
    assert time.thread_time() - begin < 1


# A mark of each of some combining classes, in falling order: what canonical ordering has most to do with.
FALLING = (
    "\u035d\u035c\u0315\u0301\u0323\u1dfa\u0f74\u0f72\u0eb8\u0e48\u0e38\u0670\u0652\u0651\u0650"
    "\u05c2\u05bb\u05b8\u05b4\u05b0\u094d\u3099\u093c\u0334"
)


@pytest.mark.parametrize("shortest", [16, 127, 128, 1152, 60_000])
def test_falling_marks_fold_in_linear_time(shortest: int) -> None:
    """Each mark goes before all that came: 5.5 us a character in pieces of 1024, and the interpreter's lock is held."""
    run = "".join(mark * (shortest // len(FALLING) + 1) for mark in FALLING)[:shortest]
    text = ("a" + run) * (60_000 // shortest)
    begin = time.thread_time()
    fold(text)
    assert time.thread_time() - begin < 0.15


def test_an_address_of_many_marks_takes_little_time() -> None:
    """Of 60 KB the key that SORT compares took 260 ms on the event loop."""
    name = "".join(mark * 1200 for mark in FALLING).encode()
    fields = [b"%b: %b@example.org\r\n" % (field, name) for field in (b"From", b"To", b"Cc")]
    begin = time.thread_time()
    message = parse_message(b"".join(fields) + b"Subject: " + name[:8000] + b"\r\n\r\ntext\r\n")
    assert time.thread_time() - begin < 0.05
    assert len(message.keys.from_key) == LONGEST_ORDERED


@pytest.mark.parametrize("length", range(1018, 1032))
def test_folding_in_pieces_keeps_accents_with_their_letters(length: int) -> None:
    word = "cafe\u0301\u0323 "
    text = "x" * (length % 7) + word * (length * 3 // len(word))
    assert fold(text) == text.upper().replace("\u0301\u0323", "\u0323\u0301")


def test_a_character_that_stands_for_many_does_not_fill_the_memory() -> None:
    """U+FDFA is 18 characters once it is decomposed (RFC 5051 §2)."""
    text = "\ufdfa" * 1_000_000
    tracemalloc.start()
    assert not has_folded(text, "LUNCH")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 << 20
    assert has_folded(text + "lunch", "LUNCH")


def test_an_identifier_of_many_marks_is_refused_at_once() -> None:
    """SASLprep of 64 KB of them took 4 s on the event loop, of 1 MB it would take a quarter of an hour."""
    text = "".join(mark * 300 for mark in FALLING).encode()
    begin = time.thread_time()
    with pytest.raises(RemoteError):
        parse_identifier(Cursor(b" INBOX {%d}\n" % len(text), [b"a" + text]))
    assert time.thread_time() - begin < 0.05


class Pauses:
    """Counts the turns that others had."""

    def __init__(self) -> None:
        self.count = 0

    async def pause(self) -> None:
        self.count += 1


def test_names_to_sort_by_are_taken_from_long_envelopes_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice of them took 2 s on the event loop."""
    threads: set[str] = set()

    def note(envelope: bytes, key: str) -> str:
        threads.add(threading.current_thread().name)
        return display_key(envelope, key)

    monkeypatch.setattr(sort_module, "display_key", note)
    addresses = b", ".join([b"a@example.org"] * 4000)
    text = b"From: %b\r\nSender: %b\r\nTo: b@example.org\r\n\r\n" % (addresses, addresses)

    async def scenario() -> None:
        store = Store(tmp_path)
        for _ in range(3):
            await store.append(1, Append(1, make_content(text), 0))
        pauses = Pauses()
        uids = array("I", (1, 2, 3))
        context = SearchContext(store, 1, 1, uids, lambda uid: False, EMPTY, pauses.pause)
        found = await sort_module.in_sorted_order(context, (SortKey("DISPLAYTO"),), uids)
        assert found == [1, 2, 3]
        await store.close()

    asyncio.run(scenario())
    assert threads == {"compute_0"}


def test_a_search_has_so_many_keys_and_no_more() -> None:
    """Of a whole line of numbers the parser alone took 100 ms."""
    assert parse_criteria(b" ".join([b"1"] * MAX_KEYS))
    for text in (b"1 " * MAX_KEYS + b"1", b"NOT (1 2) " * (MAX_KEYS // 4) + b"ALL"):
        with pytest.raises(RemoteError):
            parse_criteria(text)


def test_a_search_of_many_keys_gives_others_their_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(tmp_path)
        pauses = Pauses()
        uids = array("I", range(1, search_module.NARROW_SLICE + 1))
        context = SearchContext(store, 1, 1, uids, lambda uid: False, EMPTY, pauses.pause)
        keys = 2000
        await search(context, And([Not(Not(Key("ALL")))] * keys))
        assert pauses.count > 50
        await store.close()

    asyncio.run(scenario())


def test_long_names_under_a_long_pattern_give_others_their_turn() -> None:
    class Context:
        separator = "/"

    class Client(Pauses):
        context = Context()

    client = Client()

    async def scenario() -> None:
        matcher = list_module._Matcher(client, List("", ("*a" * 3000 + "b",)))
        for _ in range(100):
            assert not await matcher.matches(("a" * 990,))

    asyncio.run(scenario())
    assert client.count >= 9


def test_subscriptions_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "MOST_SUBSCRIPTIONS", 8)

    async def scenario() -> None:
        store = Store(tmp_path)
        for number in range(2):
            await store.write(1, lambda tx, n=number: mailboxes.subscribe(tx, (f"a{n}",)))
        with pytest.raises(mailboxes.Refused) as caught:
            await store.write(1, lambda tx: mailboxes.subscribe(tx, ("one more",)))
        assert caught.value.code == "LIMIT"
        await store.close()

    asyncio.run(scenario())


def test_a_header_without_end_is_refused() -> None:
    field = b"Return-Path: <x@example.org>\r\n"
    message = field * (LARGEST_HEADER // len(field) + 1) + b"\r\ntext\r\n"
    assert prepare(memoryview(message), ["a@example.org"], None) is HEADER_TOO_LARGE
    body = b"Subject: x\r\n\r\n" + b"text\r\n" * LARGEST_HEADER
    assert prepare(memoryview(body), ["a@example.org"], None) is not HEADER_TOO_LARGE


def test_one_author_in_too_many_fields_is_refused() -> None:
    message = b"From: a@example.org\r\n" * 20_000 + b"\r\ntext\r\n"
    begin = time.thread_time()
    refused = prepare(message, ["a@example.org"], ADDITIONS, checks_authors=True)
    assert refused is SENDER_NOT_YOURS
    assert time.thread_time() - begin < 0.5


def test_a_folded_first_line_does_not_become_part_of_our_received_field() -> None:
    message = b" forged\r\nSubject: x\r\n\r\ntext\r\n"
    prepared = prepare(message, ["a@example.org"], None)
    assert bytes(prepared.content.octets) == b"\r\n" + message


def test_a_header_line_of_white_space_is_folded_in_linear_time() -> None:
    """Before, the search for places to fold was quadratic: 20 KB took seconds (found by `make fuzz`)."""
    for line in (b"X:" + b" \t" * 500_000, b"X:" + b" \x0b" * 200_000):
        begin = time.thread_time()
        fold_long_lines(line + b"\r\n\r\n")
        assert time.thread_time() - begin < 2
