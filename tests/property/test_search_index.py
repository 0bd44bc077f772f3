"""SEARCH with an index finds what reading all messages finds (RFC 3501 §6.4.4, RFC 5051): many charsets and scripts."""

import asyncio
import tempfile
from array import array
from base64 import b64encode
from pathlib import Path
from quopri import encodestring

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.budget import tries
from tests.casemap import casemap

from pillarbox.imap.syntax_search import And, Fuzzy, Key, Not, Or
from pillarbox.imapd import search as search_module
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.program import loosened
from pillarbox.imapd.search import search
from pillarbox.imapd.selected import EMPTY
from pillarbox.mime import searched
from pillarbox.mime.decode import part_headers_text, search_text
from pillarbox.mime.fold import fold
from pillarbox.mime.header import decode_searched_header, header_end
from pillarbox.mime.message import parse_message
from pillarbox.store import search_index
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store

_WORDS = (
    "lunch LUNCH Lunchtime über ÜBER u\u0308ber straße STRASSE ﬁnal final İstanbul istanbul i\u0307s"
    " ΣΊΣΥΦΟΣ σίσυφος привет ПРИВЕТ שלום مرحبا مَرْحَبًا 日本語 日本 こんにちは 한국어 한\u1112\u1161 ไทย हिन्दी"
    " 👍🏽 👨‍👩‍👧 e\u0301\u0323 \u0301x a\"b a''b (c) ab abc abcabc -- .. *x* \u00a0\u00a0 Ǆ ǅ ǆ dž DŽ ŉ"
    " café CAFÉ cafe\u0301 ẞ ß ſ K ﬀ eﬄe ΐ ᾳ ᾼ ΑΙ ა Ა ｆｕｌｌ ① a\u0301\u0323 a\u0323\u0301 Å"
)
WORDS = tuple(_WORDS.split(" "))
CHARSETS = (
    "utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "koi8-r", "windows-1251", "windows-1256", "iso-8859-8",
    "shift_jis", "iso-2022-jp", "euc-kr", "gb18030", "big5", "utf-16", "x-unknown",
)  # fmt: skip

texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
charsets = st.sampled_from(CHARSETS)


def encoded(text: str, charset: str) -> bytes:
    try:
        return text.encode(charset, "replace")
    except LookupError:
        return text.encode()


@st.composite
def header_values(draw) -> bytes:
    text, charset = draw(texts), draw(charsets)
    match draw(st.sampled_from(["raw", "latin", "b", "q"])):
        case "raw":
            return text.encode()
        case "latin":
            return text.encode("latin-1", "replace")
        case "b":
            return b"=?%b?B?%b?= %b" % (
                charset.encode(), b64encode(encoded(text, charset)), draw(texts).encode(),
            )  # fmt: skip
    quoted = "".join(f"={octet:02X}" for octet in encoded(text, charset))
    words = quoted[:6].encode(), quoted[6:].encode()
    return b"\r\n ".join(b"=?%b?q?%b?=" % (charset.encode(), word) for word in words)


@st.composite
def parts(draw) -> bytes:
    charset = draw(charsets)
    body = encoded(draw(texts) + "\r\n" + draw(texts), charset)
    encoding = draw(st.sampled_from((b"8bit", b"base64", b"quoted-printable")))
    if encoding == b"base64":
        body = b64encode(body)
    elif encoding == b"quoted-printable":
        body = encodestring(body)
    kind = draw(st.sampled_from((b"text/plain", b"text/html", b"application/x")))
    head = b"Content-Type: %b; charset=%b\r\nContent-Transfer-Encoding: %b\r\n"
    return head % (kind, charset.encode(), encoding) + b"\r\n" + body + b"\r\n"


@st.composite
def mail(draw) -> bytes:
    head = b"Subject: %b\r\nFrom: %b <a@example.com>\r\nX-Odd: %b\r\n" % (
        draw(header_values()), draw(header_values()), draw(header_values()),
    )  # fmt: skip
    inside = draw(st.lists(parts(), min_size=1, max_size=3))
    if len(inside) == 1:
        return head + inside[0]
    contained = b"Content-Type: message/rfc822\r\n\r\nSubject: %b\r\n" % draw(header_values())
    inside[-1] = contained + inside[-1]
    joined = b"".join(b"--b\r\n" + part for part in inside)
    return head + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + joined + b"--b--\r\n"


@st.composite
def queries(draw) -> str:
    text = draw(texts)
    start = draw(st.integers(0, max(0, len(text) - 1)))
    text = text[start : start + draw(st.integers(1, 12))]
    return draw(st.sampled_from((text, text.upper(), text.lower(), text.swapcase())))


keys = st.one_of(
    st.builds(Key, st.sampled_from(("TEXT", "BODY", "SUBJECT", "FROM")), queries()),
    st.builds(Key, st.just("HEADER"), st.tuples(st.sampled_from(("X-Odd", "X-None")), queries())),
)
programs = st.recursive(
    keys,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Or, inner, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3)),
        st.builds(Fuzzy, inner),
    ),
    max_leaves=4,
)


def naive(octets: bytes, program) -> bool:
    match program:
        case Not():
            return not naive(octets, program.key)
        case Or():
            return naive(octets, program.left) or naive(octets, program.right)
        case And():
            return all(naive(octets, key) for key in program.keys)
        case Fuzzy():
            return naive(octets, loosened(program.key))
    name, argument = program.name, program.argument
    block = octets[: header_end(octets)]
    if name in ("TEXT", "BODY"):
        root = parse_message(octets).root
        texts = [search_text(octets, root)]
        if name == "TEXT":
            texts += [decode_searched_header(block), part_headers_text(octets, root)]
        return any(casemap(argument) in casemap(text) for text in texts)
    field, wanted = argument if name == "HEADER" else (name, argument)
    fields = searched.fields_named(block, field.lower().encode())
    values = [decode_searched_header(raw.partition(b":")[2]) for raw in fields]
    return any(casemap(wanted) in casemap(value) for value in values)


@given(
    st.lists(mail(), min_size=1, max_size=8), st.lists(programs, min_size=1, max_size=12), st.data()
)
@settings(max_examples=tries(20, 400), deadline=None, suppress_health_check=list(HealthCheck))
def test_the_index_changes_nothing_but_the_time(messages, wanted, data) -> None:
    indexed = data.draw(st.integers(0, len(messages)))

    async def run(folder: Path) -> None:
        store = Store(folder)
        try:
            for number, octets in enumerate(messages):
                if number == indexed:
                    store.index.catch_up(1)
                    await store.index.finished()
                await store.append(1, Append(1, make_content(octets), 0))
            uids = array("I", range(1, len(messages) + 1))

            async def pause() -> None:
                await asyncio.sleep(0)

            for program in wanted:
                context = SearchContext(store, 1, 1, uids, lambda uid: False, EMPTY, pause)
                found = list(await search(context, program))
                assert found == [
                    uid for uid, octets in enumerate(messages, 1) if naive(octets, program)
                ], program
        finally:
            await store.close()

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(search_index, "BATCH_MESSAGES", 2)
        patch.setattr(search_index, "PROBED_ROWS", data.draw(st.sampled_from((1, 2, 16))))
        patch.setattr(search_index, "AS_RARE", data.draw(st.sampled_from((1, 64))))
        patch.setattr(search_module, "MOST_NARROWING", data.draw(st.sampled_from((0, 2, 5000))))
        patch.setattr(search_module, "NARROWING_SLICE", data.draw(st.sampled_from((1, 1000))))
        patch.setattr(search_module, "FEW_FIELDS", data.draw(st.sampled_from((0, 200))))
        patch.setattr(search_index, "LARGEST_INDEXED", data.draw(st.sampled_from((300, 1 << 20))))
        asyncio.run(run(Path(folder)))


@given(mail(), st.data())
@settings(max_examples=200, deadline=None)
def test_the_indexed_text_has_all_that_is_searched(octets: bytes, data) -> None:
    block = octets[: header_end(octets)]
    root = parse_message(octets).root
    every = [fold(search_text(octets, root)), fold(part_headers_text(octets, root))]
    every += searched.header_texts(block)
    every += [
        searched.field_text(block[start:end]) for _, start, end in searched.split_header(block)
    ]
    text = searched.index_text(octets)
    for one in every:
        start = data.draw(st.integers(0, len(one)))
        assert one[start : start + 20] in text


_ODD = (
    b"\r\n ", b"\n\t", b"\r\n", b"\r", b"\n", b" ", b"\0", b":", b"a", b"A", b"ss", b"x-odd", b"X-Odd: ",
    b"\r\nX-Odd :", b"=?utf-8?q?a=C3=9F?=", b"=?", "é".encode(), "ß".encode(), b"\xff", "ﬁ".encode(), b"fi",
)  # fmt: skip
octets = st.lists(st.sampled_from(_ODD), max_size=12).map(b"".join)
wishes = st.one_of(
    st.lists(st.sampled_from(("a", "s", "i", "x-odd", " ", "é", "\r", "\n", "\0", "=?")), max_size=4).map("".join),
    octets.map(lambda raw: fold(raw.decode("latin-1"))[:3]),
)  # fmt: skip


@given(st.lists(octets, max_size=6), wishes, st.sampled_from((4, 1 << 17)))
@settings(max_examples=tries(500, 20_000), deadline=None)
def test_many_texts_compared_at_once_are_found_as_each_alone(raws, wanted, most) -> None:
    """Of fields and of header blocks, whatever is in them (RFC 3501 §6.4.4 HEADER)."""
    wanted = fold(wanted)
    fields, blocks = list(enumerate(b"X-Odd: " + raw for raw in raws)), list(enumerate(raws))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searched, "HEADER_PIECE", most)
        patch.setattr(searched, "_MOST_JOINED", most)
        with_it = searched.fields_with(fields, wanted)
        found = searched.blocks_with(blocks, b"x-odd", wanted)
    assert with_it == {number for number, raw in fields if searched.any_contains([raw], wanted)}
    assert found == {
        number
        for number, block in blocks
        if searched.any_contains(searched.fields_named(block, b"x-odd"), wanted)
    }
