"""SEARCH and SORT over a store (RFC 3501 §6.4.4, RFC 5256 §3)."""

import asyncio
from array import array
from datetime import date
from pathlib import Path

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import RemoteError
from pillarbox.imap.seqset import parse_seqset
from pillarbox.imap.syntax_search import And, Key, Not, Or, Program, SortKey
from pillarbox.imapd import search as search_module
from pillarbox.imapd import search_slice
from pillarbox.imapd import sort as sort_module
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.search import search
from pillarbox.imapd.selected import EMPTY
from pillarbox.imapd.sort import sort
from pillarbox.imapd.thread import thread
from pillarbox.mime import searched
from pillarbox.store import messages
from pillarbox.store import store as store_module
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store

NOON = 1_700_049_600  # 2023-11-15 12:00 UTC
ATTACHMENT = b"""From: carol@example.org
Subject: =?utf-8?Q?Caf=C3=A9_=C3=9Cbersicht?=
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

na=EFve soft=
 break
--b
Content-Type: message/rfc822

Subject: inner

deep text
--b
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

aGlkZGVuIHRleHQ=
--b--
""".replace(b"\n", b"\r\n")

MAIL = [
    # octets, days after the 15th, zone in minutes, system flags, keywords
    (
        b"From: Alice <alice@example.org>\r\nTo: bob@example.org\r\nSubject: Re: tea\r\n"
        b"Date: Mon, 13 Nov 2023 23:30:00 -0500\r\nX-Odd: Value one\r\nX-Empty:\r\n\r\nGreen TEA\r\n",
        0, 0, 8, (b"$Forwarded",),
    ),
    (
        b"From: bob@example.org\r\nTo: Alice <alice@example.org>\r\nCc: dora@example.org\r\n"
        b"Subject: milk\r\nDate: Wed, 15 Nov 2023 01:00:00 +0900\r\n\r\n" + b"x" * 2000 + b"\r\n",
        1, -13 * 60, 3, (),
    ),
    (ATTACHMENT, 2, 0, 0, (b"$Forwarded", b"Work")),
    (b"Bcc: eve@example.org\r\nSubject:  folded\r\n\tsubject\r\n\r\n", 3, 0, 20, ()),
    (b"X-Odd: two\r\nX-Odd: =?utf-8?B?ZHJlaQ==?=\r\n\r\nanother one\r\n", 4, 0, 0, ()),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose account 1 has MAIL in its INBOX, the third message at UID 4."""

    async def fill(store: Store) -> None:
        for number, (octets, days, zone, flags, words) in enumerate(MAIL):
            received = pack_date(NOON + days * 86400, zone)
            item = Append(1, make_content(octets), received, flags, words)
            await store.append(1, item)
            if number == 1:
                given = await store.append(1, item)
                assert given.uid == 3
                await store.write(
                    1, lambda tx: messages.expunge(tx, 1, [(3, 3)], only_deleted=False)
                )

    folder = tmp_path_factory.mktemp("store")
    run_in(folder, fill)
    return folder


def run_in(folder: Path, work):
    async def main():
        store = Store(folder)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


UIDS = array("I", [1, 2, 4, 5, 6])


async def pause() -> None:
    await asyncio.sleep(0)


def context_of(store: Store, uids: "array[int]" = UIDS) -> SearchContext:
    return SearchContext(store, 1, 1, uids, lambda uid: uid >= 5, EMPTY, pause)


def found(folder: Path, program: Program) -> list[int]:
    return list(run_in(folder, lambda store: search(context_of(store), program)))


def days(year: int, month: int, day: int) -> int:
    return date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()


def numbers(text: bytes):
    return parse_seqset(text)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (Key("ALL"), [1, 2, 4, 5, 6]),
        (Key("SEEN"), [1]),
        (Key("UNSEEN"), [2, 4, 5, 6]),
        (Key("ANSWERED"), [2]),
        (Key("FLAGGED"), [2]),
        (Key("DELETED"), [5]),
        (Key("DRAFT"), [5]),
        (Key("UNDELETED"), [1, 2, 4, 6]),
        (And([Key("UNSEEN"), Key("UNDELETED")]), [2, 4, 6]),
        (And([Key("DRAFT"), And([Key("DELETED"), Key("UNANSWERED")])]), [5]),
        (And([Key("SEEN"), Key("UNSEEN")]), []),
        (And([Key("ANSWERED"), Key("ANSWERED")]), [2]),
        (And([Key("UNSEEN"), Key("OLD")]), [2, 4]),
        (Not(Key("UNSEEN")), [1]),
        (Or(Key("SEEN"), Key("FLAGGED")), [1, 2]),
        (Key("KEYWORD", "$forwarded"), [1, 4]),
        (Key("KEYWORD", "WORK"), [4]),
        (Key("UNKEYWORD", "work"), [1, 2, 5, 6]),
        (Key("RECENT"), [5, 6]),
        (Key("OLD"), [1, 2, 4]),
        (Key("NEW"), [5, 6]),
        (Key("SEQUENCE", numbers(b"2:3")), [2, 4]),
        (Key("SEQUENCE", numbers(b"*,1")), [1, 6]),
        (Key("UID", numbers(b"2:4,9")), [2, 4]),
        (Key("UID", numbers(b"7:*")), [6]),
        (Key("LARGER", 2000), [2]),
        (Key("SMALLER", len(MAIL[3][0])), []),
        (Key("SMALLER", len(MAIL[3][0]) + 1), [5]),
        # 2023-11-16 12:00 UTC is still the 15th, 23:00, in the zone of the second message
        (Key("ON", days(2023, 11, 15)), [1, 2]),
        (Key("SINCE", days(2023, 11, 16)), [4, 5, 6]),
        (Key("BEFORE", days(2023, 11, 15)), []),
        (Key("BEFORE", days(2023, 11, 16)), [1, 2]),
        (Key("SENTON", days(2023, 11, 13)), [1]),
        (Key("SENTSINCE", days(2023, 11, 14)), [2]),
        (Key("SENTBEFORE", days(2023, 11, 15)), [1]),
        (Not(Key("SENTBEFORE", days(2024, 1, 1))), [4, 5, 6]),
        (Key("FROM", "ALICE"), [1]),
        (Key("FROM", "example.org"), [1, 2, 4]),
        (Key("TO", "alice@"), [2]),
        (Key("CC", "dora"), [2]),
        (Key("BCC", "eve"), [5]),
        (Key("SUBJECT", "tea"), [1]),
        (Key("SUBJECT", "CAFÉ über"), [4]),
        (Key("SUBJECT", "cafe\u0301"), [4]),
        (Key("SUBJECT", "folded\tsubject"), [5]),
        (Key("HEADER", ("x-odd", "")), [1, 6]),
        (Key("HEADER", ("X-Empty", "")), [1]),
        (Key("HEADER", ("X-Empty", "x")), []),
        (Key("HEADER", ("X-ODD", "drei")), [6]),
        (Key("HEADER", ("Subject", "MILK")), [2]),
        (Key("HEADER", ("Odd", "")), []),
        (Key("BODY", "green tea"), [1]),
        (Key("BODY", "NAÏVE SOFT BREAK"), [4]),
        (Key("BODY", "Subject: inner"), [4]),
        (Key("BODY", "deep"), [4]),
        (Key("BODY", "hidden"), []),
        (Key("BODY", "milk"), []),
        (Key("TEXT", "milk"), [2]),
        (Key("TEXT", "tea"), [1]),
        (Key("TEXT", "café"), [4]),
        (Key("TEXT", ""), [1, 2, 4, 5, 6]),
        (Not(Key("TEXT", "e")), []),
        (And([Key("BODY", "a"), Key("UNSEEN"), Key("SUBJECT", "")]), [4]),
        (Or(Key("BODY", "another"), Key("SEEN")), [1, 6]),
        (Not(Or(Key("SEEN"), And([Key("DRAFT"), Key("DELETED")]))), [2, 4, 6]),
    ],
)  # fmt: skip
def test_search_finds_exactly(folder: Path, program: Program, expected: list[int]) -> None:
    assert found(folder, program) == expected


def test_slices_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "NARROW_SLICE", 2)
    monkeypatch.setattr(search_module, "WIDE_SLICE", 2)
    monkeypatch.setattr(search_module, "FIELDS_SLICE", 2)
    monkeypatch.setattr(search_module, "FLAGS_SLICE", 2)
    monkeypatch.setattr(search_slice, "MOST_OCTETS", 100)
    by_name = in_order(folder, SortKey("DISPLAYFROM"))
    monkeypatch.setattr(store_module, "LARGEST_INLINE", 0)
    monkeypatch.setattr(sort_module, "SLICE", 2)
    monkeypatch.setattr(sort_module, "ENVELOPES_A_SLICE", 2)
    monkeypatch.setattr(sort_module, "RUN", 2)
    assert found(folder, Key("TEXT", "e")) == [1, 2, 4, 5, 6]
    assert found(folder, Key("HEADER", ("X-Odd", "e"))) == [1, 6]
    assert found(folder, Key("UNSEEN")) == [2, 4, 5, 6]
    assert in_order(folder, SortKey("ARRIVAL", reverse=True)) == [6, 5, 4, 2, 1]
    assert in_order(folder, SortKey("CC", reverse=True)) == [2, 1, 4, 5, 6]
    assert in_order(folder, SortKey("DISPLAYFROM")) == by_name


@pytest.mark.parametrize("text", [b"6", b"2:9"])
def test_message_numbers_that_do_not_exist_are_an_error(folder: Path, text: bytes) -> None:
    with pytest.raises(RemoteError):
        found(folder, Key("SEQUENCE", numbers(text)))


def test_an_empty_mailbox_has_no_matches(folder: Path) -> None:
    for program in (Key("ALL"), Key("UID", numbers(b"1:*")), Not(Key("TEXT", "x"))):
        empty = run_in(
            folder, lambda store, program=program: search(context_of(store, array("I")), program)
        )
        assert list(empty) == []


def test_only_what_is_asked_about_is_found(folder: Path) -> None:
    """A search that is followed is done again for what changed, not for what lies between (RFC 5267 §4.3)."""
    some = array("I", [1, 2, 6])
    for program, expected in (
        (Key("UNSEEN"), [2, 6]),
        (Key("SMALLER", 1 << 20), [1, 2, 6]),
        (Key("HEADER", ("X-Odd", "")), [1, 6]),
    ):
        matched = run_in(
            folder, lambda store, program=program: search(context_of(store, some), program)
        )
        assert list(matched) == expected


def test_a_message_that_is_gone_matches_no_key_that_looks_at_it(folder: Path) -> None:
    view = array("I", [1, 3])  # 3 was expunged
    for program, expected in (
        (Key("ALL"), [1, 3]),
        (Key("LARGER", 0), [1]),
        (Key("UNDRAFT"), [1]),
        (Key("TEXT", ""), [1]),
        (Key("SUBJECT", ""), [1]),
    ):
        matched = run_in(
            folder, lambda store, program=program: search(context_of(store, view), program)
        )
        assert list(matched) == expected


def test_text_beyond_the_first_piece_of_a_large_body_is_found(tmp_path: Path) -> None:
    async def work(store: Store) -> list[int]:
        filler = b"0123456789abcdef" * 4 + b"\r\n"
        for end in (b"needle\r\n", b"haystack\r\n"):
            octets = b"Subject: x\r\n\r\n" + filler * 25_000 + end
            await store.append(1, Append(1, make_content(octets), pack_date(NOON)))
        return list(await search(context_of(store, array("I", [1, 2])), Key("BODY", "Needle")))

    assert run_in(tmp_path, work) == [1]


def test_more_common_fields_than_the_store_keeps_apart_are_found(tmp_path: Path) -> None:
    async def work(store: Store) -> list[int]:
        octets = b"Subject: " + b"x " * 10_000 + b"needle\r\n\r\n"
        await store.append(1, Append(1, make_content(octets), pack_date(NOON)))
        return list(await search(context_of(store, array("I", [1])), Key("SUBJECT", "needle")))

    assert run_in(tmp_path, work) == [1]


def in_order(folder: Path, *criteria: SortKey) -> list[int]:
    return run_in(folder, lambda store: sort(context_of(store), criteria, Key("ALL")))


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ("ARRIVAL", [1, 2, 4, 5, 6]),
        ("REVERSE ARRIVAL", [6, 5, 4, 2, 1]),
        ("CC", [1, 4, 5, 6, 2]),
        ("DATE", [1, 2, 4, 5, 6]),
        ("FROM", [5, 6, 1, 2, 4]),
        ("REVERSE FROM", [4, 2, 1, 5, 6]),
        ("SIZE", [5, 6, 1, 4, 2]),
        ("SUBJECT", [6, 4, 5, 2, 1]),
        ("TO", [4, 5, 6, 2, 1]),
        ("TO REVERSE SIZE", [4, 6, 5, 2, 1]),
        ("CC REVERSE DATE", [6, 5, 4, 1, 2]),
    ],
)
def test_sort_is_stable_and_reverses_single_keys(
    folder: Path, criteria: str, expected: list[int]
) -> None:
    words = criteria.split()
    keys = [
        SortKey(word, reverse=place > 0 and words[place - 1] == "REVERSE")
        for place, word in enumerate(words)
        if word != "REVERSE"
    ]
    assert in_order(folder, *keys) == expected


def test_sort_leaves_out_what_was_not_found(folder: Path) -> None:
    async def work(store: Store) -> list[int]:
        return await sort(context_of(store), [SortKey("SIZE", reverse=True)], Key("UNSEEN"))

    assert run_in(folder, work) == [2, 4, 6, 5]


def test_threads_of_stored_messages(tmp_path: Path) -> None:
    async def work(store: Store) -> list[bytes]:
        for head in (
            b'Message-ID: <"a"@x>\r\nSubject: tea',
            b"Message-ID: <b@x>\r\nIn-Reply-To: <a@x>\r\nSubject: Re: tea",
            b"Message-ID: <c@x>\r\nReferences: <a@x>\r\n <b@x>\r\nSubject: milk",
            b"Subject: other",
        ):
            await store.append(1, Append(1, make_content(head + b"\r\n\r\n"), pack_date(NOON)))
        context = context_of(store, array("I", [1, 2, 3, 4]))
        return [
            b"".join(await thread(context, algorithm, Key("ALL"), lambda uid: uid * 10))
            for algorithm in ("REFERENCES", "ORDEREDSUBJECT")
        ]

    assert run_in(tmp_path, work) == [b" (10 20 30)(40)", b" (10 20)(30)(40)"]


@pytest.mark.parametrize("size", [1, 5, 9, 30])
def test_a_header_is_cut_between_fields_where_they_are_short(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(searched, "HEADER_PIECE", size)
    block = b"A: b\r\n c\r\nD: e\r\n" * 5 + b"X" * 100 + b"\r\n\r\n"
    pieces = list(searched._pieces(block))
    assert b"".join(pieces) == block
    assert all(len(piece) <= 2 * size for piece in pieces)
    if size >= 9:
        assert not any(piece.startswith(b" ") for piece in pieces)
